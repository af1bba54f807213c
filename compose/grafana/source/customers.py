"""Customers: those near a limit or over one, those with most use and refusals, and what happened to one of them."""

from compose.grafana.source.board import Row, address, board, instances, organizations
from compose.grafana.source.panels import ORANGE, RED, Note, bars, listing, number, stack, trend
from compose.grafana.source.panels import column as col
from compose.grafana.source.queries import Sql, promql

ONE = address("customers", "var-organization=${__data.fields.id}")
NAMES = {"organization": col(url=ONE, width=240)}
REFUSED = {"refusals": col("short", width=110), "latest": col("dateTimeAsIso", width=190)}

NEAR = Row(
    "Near a limit",
    [
        number(
            "Organizations past 80, 90 and 100 % of a quota",
            Note(
                "Organizations that came to these shares of a daily or monthly quota in the time range.",
                "At 100 % every request of a customer is refused with 429. Call them, or raise the quota, before they "
                "call.",
                "quotas-near-end",
            ),
            Sql("thresholds"),
            unit="none",
            width=8,
        ).height(8),
        trend(
            "Quotas used",
            Note(
                "The share of a quota that an organization has used, live. Organizations have series of their own "
                "where EXTAUTHZ_TENANT_METRICS is a number; the table below has all of them.",
                "A line that will cross 100 % before the day or month ends: call the customer now.",
                "customer-near-quota",
            ),
            promql(
                "topk(10, max by (organization, quota) (extauthz_tenant_quota_used_ratio{@organization})"
                " * on (organization) group_left (name)"
                " max by (organization, name) (extauthz_tenant_info{@organization}))",
                "{{name}} {{quota}}",
            ),
            unit="percentunit",
            steps={0.9: ORANGE, 1: RED},
            width=8,
        ),
        trend(
            "Thresholds passed",
            Note(
                "Organizations that came to 80, 90 and 100 % of a quota, over five minutes.",
                "Many at once: a plan's quota is too small, or a client repeats its requests.",
                "quotas-near-end",
            ),
            promql(
                "sum by (quota, threshold) (increase(extauthz_quota_thresholds_total{@instance}[5m]))",
                "{{quota}} {{threshold}} %",
            ),
            unit="short",
            width=8,
        ),
        listing(
            "Half of a quota and more",
            Note(
                "Organizations by the share of a quota that they have used in the day or month of their calendar. "
                "Written down every ten seconds.",
                "Over 90 %: raise the quota (`extauthz orgs update`), or tell the customer when it resets.",
                "customer-near-quota",
            ),
            Sql("near_a_quota"),
            columns=NAMES
            | {"share": col("percentunit", steps={0.8: ORANGE, 1: RED}), "used": col("short"), "limit": col("short")},
            hidden=["id"],
        ),
    ],
)

TOP = Row(
    "Most",
    [
        listing(
            "By use",
            Note(
                "The organizations with most use on the days of the time range, and what of it was refused.",
                "Much over rate and little allowed: the customer's plan does not fit its traffic.",
            ),
            Sql("top_by_use"),
            columns=NAMES,
            hidden=["id"],
            width=12,
        ),
        listing(
            "By refusals",
            Note(
                "The organizations with most refusals in the time range, by decision and reason.",
                "Open the organization to see routes, keys and request ids; `extauthz rejections ORG` prints the same.",
            ),
            Sql("top_by_refusals"),
            columns=NAMES | REFUSED,
            hidden=["id"],
            width=12,
        ),
        listing(
            "Refused without an organization",
            Note(
                "Refusals of requests that no key identifies, by group of client addresses.",
                "One address with many `invalid_credentials`: a client with a wrong key, or one that guesses. "
                "Block it in the proxy.",
            ),
            Sql("unknown_callers"),
            columns=REFUSED,
            width=12,
        ),
        stack(
            "Refused if shadow limits were in force",
            Note(
                "Requests that were allowed although limits in shadow would have refused them.",
                "Still near zero after a week: the limits can be enforced (`extauthz orgs update --limits enforce`).",
            ),
            promql(
                "sum by (decision) (rate(extauthz_shadow_decisions_total{@instance}[@])) > 0",
                "{{decision}}",
            ),
            unit="reqps",
        ),
    ],
)

ONE_ORGANIZATION = Row(
    "Chosen organizations: ${organization:text}",
    [
        bars(
            "Refusals",
            Note(
                "Refusals in spans of five minutes, by decision.",
                "A step up that begins at once: the customer has deployed something. See which route and key below.",
            ),
            Sql("refusals_over_time", series=True),
            unit="short",
            width=8,
        ).interval("5m"),
        bars(
            "Requests by day",
            Note(
                "Allowed requests, and those over a rate or quota, by the days of the organization's calendar.",
                "Choose a range of weeks to see growth; `extauthz usage ORG --by day` prints the same.",
            ),
            Sql("usage_by_day", series=True),
            unit="short",
            width=8,
        ).interval("1d"),
        stack(
            "Decisions now",
            Note(
                "Checks by decision, live, of organizations that have series of their own (EXTAUTHZ_TENANT_METRICS).",
                "Refusals that go on: see the table of refusals for the cause.",
            ),
            promql(
                "sum by (decision) (rate(extauthz_tenant_decisions_total{@organization}[@])) > 0",
                "{{decision}}",
            ),
            unit="reqps",
            width=8,
        ),
        listing(
            "Why",
            Note(
                "Each kind of refusal in spans of five minutes, with its last request.",
                "`reason` says more where there is more (`revoked`, `expired`). Look for the request id in the proxy's "
                "log; `extauthz explain METHOD URL --key-id ID` goes through the steps.",
            ),
            Sql("refusals"),
            columns={
                "since": col("dateTimeAsIso", width=190),
                "organization": col(width=160),
                "refusals": col("short", width=90),
            },
        ),
        listing(
            "Keys",
            Note(
                "The keys of the organizations, whether each works, and its use on the days of the time range.",
                "A key that ends soon: rotate it (`extauthz keys rotate ID --grace 1h`) with its owner.",
                "keys-expiring",
            ),
            Sql("keys_of_organization"),
            columns={"ends": col("dateTimeAsIso", width=190), "last used": col("dateTimeFromNow", width=150)},
        ),
    ],
)

DASHBOARD = board(
    "customers",
    "Customers",
    "Organizations near a limit and over one, and why one was refused.",
    variables=[instances(), organizations()],
    rows=[NEAR, TOP, ONE_ORGANIZATION],
)
