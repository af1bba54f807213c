"""Stores: PostgreSQL and Redis as extauthz sees them, and what becomes of usage while one is away."""

from compose.grafana.source.board import Row, board, instances
from compose.grafana.source.panels import GREEN, ORANGE, RED, Note, bars, number, stack, states, trend
from compose.grafana.source.queries import promql
from compose.grafana.source.usage import USAGE

AWAY = Row(
    "Availability",
    [
        states(
            "Stores",
            Note(
                "Whether each instance reaches each store.",
                "One instance alone: its network. All of them: the store. Limits are not charged without Redis, and "
                "only cached keys work without PostgreSQL.",
                "store-away",
            ),
            promql("max by (store, instance) (extauthz_degraded{@instance})", "{{store}} from {{instance}}"),
            names={"0": ("reached", GREEN), "1": ("away", RED)},
            width=8,
        ),
        states(
            "Circuit breakers",
            Note(
                "An open breaker answers at once instead of waiting for a store that was late, and lets a probe "
                "through.",
                "Opens and closes again and again: the store is slow rather than away. See the errors below.",
                "store-errors",
            ),
            promql("max by (store, instance) (extauthz_circuit_breaker_open{@instance})", "{{store}} of {{instance}}"),
            names={"0": ("closed", GREEN), "1": ("open", RED)},
            width=8,
        ),
        bars(
            "Time without a store",
            Note(
                "Seconds in each span in which an instance was without a store, of all instances together.",
                "Returns at the same hour: a backup, a failover or a batch job. Compare with the store's own log.",
                "degraded",
            ),
            promql("sum by (store) (increase(extauthz_degraded_seconds_total{@instance}[@]))", "{{store}}"),
            unit="s",
            width=8,
        ),
        number(
            "Redis went away",
            Note(
                "How often Redis changed from up to down in the time range.",
                "The bands above say when, and from where.",
                "store-away",
            ),
            promql("sum(increase(redis_down_events_total{@instance}[$__range]))"),
            unit="short",
        ),
        number(
            "Messages of changes",
            Note(
                "Instances to which PostgreSQL's messages of changes do not come. A revocation then takes up to 5 "
                "seconds.",
                "EXTAUTHZ_NOTIFY_DATABASE_URL must lead to PostgreSQL itself, not through a transaction pooler.",
                "change-feed-down",
            ),
            promql("sum(extauthz_change_feed_down{@instance})"),
            unit="none",
            steps={1: RED},
        ),
        number(
            "Epoch of Redis",
            Note(
                "Instances to which Redis does not tell the epoch of its memory, so that an older copy is not noticed.",
                "Give the user of extauthz in Redis the right `+info`.",
                "epoch-unknown",
            ),
            promql("sum(extauthz_epoch_unknown{@instance})"),
            unit="none",
            steps={1: ORANGE},
        ),
        trend(
            "Clocks",
            Note(
                "How far a store's clock is ahead of the worker's.",
                "More than two seconds: one of the machines does not keep time. Days and keys end by these clocks.",
                "clock-skew",
            ),
            promql(
                "max by (store) (abs(extauthz_store_clock_skew_seconds{@instance}))",
                "{{store}}",
            ),
            unit="s",
            steps={2: RED},
            width=6,
        ).height(4),
        number(
            "Certificates end in",
            Note(
                "The time that is left of the certificate of a store that is reached by TLS.",
                "Renew it while there are two weeks left, and let the server read it.",
                "certificate-expiring",
            ),
            promql("min by (store) (extauthz_store_certificate_expiry_seconds{@instance}) - time()", "{{store}}"),
            unit="s",
            width=6,
        ),
    ],
)

CALLS = Row(
    "Calls",
    [
        trend(
            "Operations",
            Note(
                "Calls to each store in a second. Many checks share one call.",
                "PostgreSQL grows and traffic does not: keys are not cached. See Keys and caches.",
            ),
            promql("sum by (store) (rate(extauthz_store_operations_total{@instance}[@]))", "{{store}}"),
            unit="ops",
            width=8,
        ),
        trend(
            "Errors",
            Note(
                "Calls that failed, by store and reason.",
                "`timeout`: slow; `connection`: away; `busy`: a full queue; `memory`, `readonly`: the store "
                "refuses writes; `corrupt`: see the log.",
                "store-errors",
            ),
            promql(
                "sum by (store, reason) (rate(extauthz_store_errors_total{@instance}[@])) > 0", "{{store}} {{reason}}"
            ),
            unit="ops",
            width=8,
        ),
        trend(
            "Checks in a call to Redis",
            Note(
                "How many checks one call to Redis charges: the mean, and p99.",
                "Grows with traffic, which is its purpose. Grows alone: Redis is slow.",
            ),
            promql(
                "sum(rate(extauthz_limit_batch_size_sum{@instance}[@]))"
                " / sum(rate(extauthz_limit_batch_size_count{@instance}[@]))",
                "mean",
            ),
            promql(
                "histogram_quantile(0.99, sum by (le) (rate(extauthz_limit_batch_size_bucket{@instance}[@])))", "p99"
            ),
            unit="short",
            width=8,
        ),
        stack(
            "Connections to PostgreSQL",
            Note(
                "Connections of all pools, idle and busy.",
                "All busy for long: queries are slow, or too many keys are not cached.",
                "pool-exhausted",
            ),
            promql("sum by (state) (extauthz_pool_connections{@instance})", "{{state}}"),
            unit="short",
            width=8,
        ),
        trend(
            "Waiting for a connection",
            Note(
                "Look-ups that wait for a free connection to PostgreSQL, by instance.",
                "Not zero for minutes: find the slow query in PostgreSQL (pg_stat_activity).",
                "pool-exhausted",
            ),
            promql("max by (instance) (extauthz_pool_waiting{@instance})", "{{instance}}"),
            unit="short",
            width=8,
        ),
        trend(
            "Changes arrive after",
            Note(
                "From a change's commit in PostgreSQL to its arrival here: p50 and p99. A revocation is in force then.",
                "p99 above a second: PostgreSQL or the network is slow, or an instance has too little processor time.",
                "revocation-lag",
            ),
            promql(
                "histogram_quantile(0.5, sum by (le) (rate(extauthz_revocation_lag_seconds_bucket{@instance}[@])))",
                "p50",
            ),
            promql(
                "histogram_quantile(0.99, sum by (le) (rate(extauthz_revocation_lag_seconds_bucket{@instance}[@])))",
                "p99",
            ),
            unit="s",
            steps={1: RED},
            width=8,
        ),
    ],
)

DASHBOARD = board(
    "stores",
    "Stores",
    "PostgreSQL and Redis as extauthz sees them: availability, calls, pools, and what waits to be written.",
    variables=[instances()],
    rows=[AWAY, CALLS, USAGE],
)
