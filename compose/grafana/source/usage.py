"""The row of the stores for what is written behind the checks: usage, refusals, events, the audit log."""

from compose.grafana.source.board import Row
from compose.grafana.source.panels import ORANGE, RED, Note, number, trend
from compose.grafana.source.queries import promql

USAGE = Row(
    "Usage and refusals",
    [
        trend(
            "Usage written down ago",
            Note(
                "Since when what was charged is in Redis alone. It is written every 10 seconds.",
                "Above two minutes: PostgreSQL does not take it. It is lost if Redis loses its memory before that.",
                "usage-flush-lag",
            ),
            promql("max by (instance) (extauthz_usage_flush_lag_seconds{@instance})", "{{instance}}"),
            unit="s",
            steps={120: RED},
            width=8,
        ),
        trend(
            "Time to write usage down",
            Note(
                "One flush of usage to PostgreSQL: p50 and p99.",
                "Grows towards the 10 seconds between two: PostgreSQL is slow, see its locks and its disk.",
                "usage-flush-lag",
            ),
            promql(
                "histogram_quantile(0.5, sum by (le) (rate(extauthz_usage_save_seconds_bucket{@instance}[5m])))", "p50"
            ),
            promql(
                "histogram_quantile(0.99, sum by (le) (rate(extauthz_usage_save_seconds_bucket{@instance}[5m])))", "p99"
            ),
            unit="s",
            width=8,
        ),
        trend(
            "Refusals kept and lost",
            Note(
                "Rows of refusals written to PostgreSQL, and refusals that there was no room for.",
                "Lost ones are missing from `extauthz rejections`: PostgreSQL was away for too long.",
                "rejections-lost",
            ),
            promql("sum(rate(extauthz_rejections_written_total{@instance}[@]))", "written"),
            promql("sum(rate(extauthz_rejections_lost_total{@instance}[@]))", "lost"),
            unit="ops",
            width=8,
        ),
        number(
            "Usage refused",
            Note(
                "Instances whose usage a store refuses to take, so that it waits.",
                "The log says what the store answered; most often a role lost a right.",
                "usage-flush-lag",
            ),
            promql("sum(extauthz_usage_unsaved{@instance})"),
            unit="none",
            steps={1: RED},
            width=8,
        ),
        number(
            "Events for the webhook",
            Note(
                "Events of quotas that the webhook has not taken yet.",
                "Not zero for half an hour: its receiver is away, slow, or refuses the signature.",
                "webhook-backlog",
            ),
            promql("max(extauthz_webhook_backlog{@instance})"),
            unit="short",
            steps={1: ORANGE},
            width=8,
        ),
        number(
            "Changes in the audit log",
            Note(
                "Rows of the audit log: each change of a plan, an organization or a key.",
                "`extauthz audit` lists changes.",
            ),
            promql("max(extauthz_audit_rows_total{@instance})"),
            unit="short",
            width=8,
        ),
    ],
)
