"""Overview: is it well, and if not, where to look."""

from compose.grafana.source.board import Row, address, board, dialects, instances
from compose.grafana.source.latency import BUDGET, LATENCY, quantile
from compose.grafana.source.panels import ORANGE, RED, Note, listing, number, stack, trend
from compose.grafana.source.panels import column as col
from compose.grafana.source.queries import promql, rows

NOW = Row(
    "Now",
    [
        number(
            "Checks",
            Note("Answered checks in a second.", "A fall to zero: look at the proxies, and at Instances here."),
            promql("sum(rate(extauthz_decisions_total{@checks}[@]))"),
            unit="reqps",
        ),
        number(
            "Refused",
            Note(
                "The share of checks that were not allowed, for whatever reason.",
                "A jump is one client, a change of routes, or an attack: see Refusals by decision, then Customers.",
                links=[("Customers", address("customers"))],
            ),
            promql(
                'sum(rate(extauthz_decisions_total{@checks, decision!="allow"}[@]))'
                " / sum(rate(extauthz_decisions_total{@checks}[@]))"
            ),
            unit="percentunit",
        ),
        number(
            "Unavailable (503)",
            Note(
                "The share of checks that got 503, because PostgreSQL or Redis did not answer. These spend the error "
                "budget; refusals of clients do not.",
                "Open Stores: one of them is away or slow.",
                "availability-burn-fast",
                links=[("Stores", address("stores"))],
            ),
            promql(
                "sum(rate(extauthz_decisions_total{@checks, @unavailable}[@]))"
                " / sum(rate(extauthz_decisions_total{@checks}[@]))"
            ),
            unit="percentunit",
            steps={0.001: ORANGE, 0.01: RED},
        ),
        number(
            "Latency p99",
            Note(
                "99 of 100 checks are decided faster than this. A proxy waits 200 ms.",
                "Above 100 ms: see which stage takes the time below, and whether workers have processor time left.",
                "latency-burn-fast",
                links=[("Workers", address("workers"))],
            ),
            promql(quantile(0.99)),
            unit="s",
            steps={0.1: ORANGE, 0.2: RED},
        ),
        number(
            "Stores away",
            Note(
                "Stores that an instance cannot reach at this moment.",
                "Open Stores. Without Redis limits are not charged, without PostgreSQL only cached keys work.",
                "store-away",
                links=[("Stores", address("stores"))],
            ),
            promql("sum(max by (store) (extauthz_degraded{@instance}))"),
            unit="none",
            steps={1: RED},
        ),
        number(
            "Instances",
            Note(
                "Instances that answer Prometheus.",
                "Fewer than you run: start the missing one, its log says why it ended.",
                "down",
                links=[("Workers", address("workers"))],
            ),
            promql('sum(up{job=~".*extauthz.*", @instance})'),
            unit="none",
        ),
        listing(
            "Alerts",
            Note(
                "Alerts that fire, and those that will unless their cause ends.",
                "Start with what pages. Each alert has a page under Runbooks that says what to do.",
            ),
            rows('sort_desc(ALERTS{alertname=~"Extauthz.*"})'),
            columns={"alertname": col(width=280), "alertstate": col(width=100), "severity": col(width=100)},
            hidden=["Time", "__name__", "Value", "job"],
        ).height(6),
    ],
)

TRAFFIC = Row(
    "Traffic",
    [
        stack(
            "Checks by decision",
            Note(
                "Every answered check, by what was decided.",
                "A colour that grows tells what changed; the panel beside it shows the refusals alone.",
            ),
            promql("sum by (decision) (rate(extauthz_decisions_total{@checks}[@])) > 0", "{{decision}}"),
            unit="reqps",
        ),
        trend(
            "Refusals by decision",
            Note(
                "Checks that were not allowed, by decision. 401: no, malformed or invalid credentials; 403: "
                "permission, route, suspension; 429: a rate or a quota; 503: a store.",
                "`bad_proxy_request`: a proxy is configured wrongly. `route_not_allowed` after a deployment: a "
                "route is missing. `invalid_credentials`: a key ended, or keys are guessed. Customers says whose "
                "requests they are.",
                "proxy-misconfigured",
                links=[("Customers", address("customers"))],
            ),
            promql(
                'sum by (decision) (rate(extauthz_decisions_total{@checks, decision!="allow"}[@])) > 0',
                "{{decision}}",
            ),
            unit="reqps",
        ),
        stack(
            "Checks by dialect",
            Note(
                "Every answered check, by the listener that it came to.",
                "A dialect that falls to zero has lost its proxy: look at the proxy's log and at the network.",
            ),
            promql("sum by (dialect) (rate(extauthz_decisions_total{@checks}[@]))", "{{dialect}}"),
            unit="reqps",
            width=8,
        ),
        trend(
            "Over a limit",
            Note(
                "Answers with 429, those of them by the daily quota, and tokens taken from buckets.",
                "If 429s grow and tokens do not, one customer is over its rate: find it in Customers.",
                links=[("Customers", address("customers"))],
            ),
            promql("sum(rate(rate_limiter_rejections_total{@instance}[@]))", "429"),
            promql("sum(rate(daily_quota_hits_total{@instance}[@]))", "429 by the daily quota"),
            promql("sum(rate(token_bucket_consumed_total{@instance}[@]))", "tokens taken"),
            unit="ops",
            width=8,
        ),
        trend(
            "Allowed without a charge",
            Note(
                "Checks that passed although their limits could not be charged, because Redis was away.",
                "More than a moment of it: the API is unprotected and these requests are not billed. Bring Redis back; "
                "RATE_LIMIT_ON_REDIS_DOWN=closed would refuse them.",
                "limits-uncharged",
            ),
            promql("sum by (instance) (rate(extauthz_limits_uncharged_total{@instance}[@]))", "{{instance}}"),
            unit="reqps",
            width=8,
        ),
    ],
)

DASHBOARD = board(
    "overview",
    "Overview",
    "Traffic, refusals, latency and error budget of all instances.",
    variables=[instances(), dialects()],
    rows=[NOW, TRAFFIC, LATENCY, BUDGET],
)
