"""The rows of the overview for latency and the error budget."""

from compose.grafana.source.board import Row, address, traces
from compose.grafana.source.panels import ORANGE, RED, Note, Panel, number, spread, trend
from compose.grafana.source.queries import buckets, promql

WINDOWS = ("5m", "1h", "6h", "3d")
# Burn rates at which alerts.yml pages: a budget of 30 days is spent in five days, and in two.
PAGES = {6: ORANGE, 14.4: RED}


def quantile(share: float) -> str:
    """The latency that a share of all checks does not exceed."""
    return f"histogram_quantile({share}, sum by (le) (rate(extauthz_decision_duration_seconds_bucket{{@checks}}[@])))"


def _burn(title: str, share: str, objective: str) -> Panel:
    return trend(
        title,
        Note(
            "How fast the budget of 30 days is spent, over windows of several lengths: at 1 it lasts exactly 30 days.",
            "A short window above a line that the long ones follow: it is going on now. Alerts page where two windows "
            "are above 14.4 or 6.",
            f"{objective}-burn-fast",
        ),
        *(
            promql(
                f"max(job:extauthz_checks_{share}:ratio_rate{window}) / (1 - scalar(extauthz:{objective}:objective))",
                window,
            )
            for window in WINDOWS
        ),
        unit="none",
        steps=PAGES,
    )


LATENCY = Row(
    "Latency",
    [
        trend(
            "Latency by quantile",
            Note(
                "From a check's arrival to its decision, and the 200 ms that the shipped proxies wait. With tracing "
                "on, the dots are traces.",
                "Open the trace of a slow check. All quantiles rise: processor time. Only the highest: a store.",
                "latency-burn-fast",
                links=[("Traces", traces())],
            ),
            promql(quantile(0.5), "p50").exemplar(True),
            promql(quantile(0.9), "p90").exemplar(True),
            promql(quantile(0.99), "p99").exemplar(True),
            unit="s",
            steps={0.2: RED},
        ),
        spread(
            "Latency distribution",
            Note(
                "Checks by the time to their decision: the darker, the more.",
                "A second band far above the first is a store's timeout (25 ms Redis, 100 ms PostgreSQL): see Stores.",
                links=[("Stores", address("stores"))],
            ),
            buckets("sum by (le) (rate(extauthz_decision_duration_seconds_bucket{@checks}[@]))"),
            unit="s",
        ),
        trend(
            "Later than 100 ms",
            Note(
                "The share of checks that took longer than the objective, by dialect.",
                "Compare with the proxy's own log: what it gave up after 200 ms it refused by itself.",
                "latency-burn-slow",
                links=[("Traces", traces())],
            ),
            promql(
                '1 - sum by (dialect) (rate(extauthz_decision_duration_seconds_bucket{@checks, le="0.1"}[@]))'
                " / sum by (dialect) (rate(extauthz_decision_duration_seconds_count{@checks}[@]))",
                "{{dialect}}",
            ),
            unit="percentunit",
            width=8,
        ),
        trend(
            "Stages, p99",
            Note(
                "99 of 100 checks take less than this for finding the key (`identify`) and for the limits (`limits`).",
                "`identify` is high: keys are not cached, or PostgreSQL is slow. `limits` is high: Redis is slow.",
                links=[("Stores", address("stores")), ("Keys and caches", address("keys"))],
            ),
            promql(
                "histogram_quantile(0.99, sum by (stage, le)"
                " (rate(extauthz_stage_duration_seconds_bucket{@instance}[@])))",
                "{{stage}}",
            ),
            unit="s",
            width=8,
        ),
        trend(
            "Instances, p99",
            Note(
                "99 of 100 checks are decided faster than this, by instance.",
                "One line far above the others: that machine is short of processor time, or far from a store.",
                links=[("Workers", address("workers"))],
            ),
            promql(
                "histogram_quantile(0.99, sum by (instance, le)"
                " (rate(extauthz_decision_duration_seconds_bucket{@checks}[@])))",
                "{{instance}}",
            ),
            unit="s",
            width=8,
        ),
    ],
)

FAILED = "sum(increase(extauthz_decisions_total{@checks, @unavailable}[30d]))"
FAST = 'sum(increase(extauthz_decision_duration_seconds_bucket{@checks, le="0.1"}[30d]))'
BUDGET = Row(
    "Error budget",
    [
        number(
            "Budget left: answers",
            Note(
                "What is left of the errors (503) that 30 days may have by the objective in rules.yml. Below zero the "
                "objective is missed.",
                "Near zero: put off risky changes, and look for what spent it in the burn rates.",
                "availability-burn-slow",
            ),
            promql(
                f"1 - ({FAILED} / sum(increase(extauthz_decisions_total{{@checks}}[30d])))"
                " / (1 - scalar(extauthz:availability:objective))"
            ),
            unit="percentunit",
            width=6,
        ),
        number(
            "Budget left: latency",
            Note(
                "What is left of the checks later than 100 ms that 30 days may have by the objective in rules.yml.",
                "Near zero: find the stage that takes the time before the next growth of traffic.",
                "latency-burn-slow",
            ),
            promql(
                f"1 - (1 - {FAST} / sum(increase(extauthz_decision_duration_seconds_count{{@checks}}[30d])))"
                " / (1 - scalar(extauthz:latency:objective))"
            ),
            unit="percentunit",
            width=6,
        ),
        number(
            "Objective: answers",
            Note(
                "The share of checks that are to be answered from knowledge, as rules.yml has it.",
                "Change it there, once; alerts and dashboards follow.",
            ),
            promql("scalar(extauthz:availability:objective)"),
            unit="percentunit",
            width=6,
        ),
        number(
            "Objective: latency",
            Note(
                "The share of checks that are to be decided within 100 ms, as rules.yml has it.",
                "Change it there, once; alerts and dashboards follow.",
            ),
            promql("scalar(extauthz:latency:objective)"),
            unit="percentunit",
            width=6,
        ),
        _burn("Burn rate: answers", "unavailable", "availability"),
        _burn("Burn rate: latency", "slow", "latency"),
    ],
)
