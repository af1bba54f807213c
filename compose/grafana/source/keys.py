"""Keys and caches: where records are found and how old they are, which keys end, and which pepper they depend on."""

from compose.grafana.source.board import Row, address, board, instances
from compose.grafana.source.panels import ORANGE, Note, listing, number, stack, trend
from compose.grafana.source.panels import column as col
from compose.grafana.source.queries import Sql, promql

ONE = address("customers", "var-organization=${__data.fields.id}")
KEYS = {
    "organization": col(url=ONE, width=200),
    "ends": col("dateTimeAsIso", width=190),
    "created": col("dateTimeAsIso", width=190),
    "last used": col("dateTimeFromNow", width=150),
}
FOUND = "sum(rate(extauthz_api_key_cache_hits_total{@instance}[@]))"
MISSED = "sum(rate(extauthz_api_key_cache_misses_total{@instance}[@]))"

CACHES = Row(
    "Caches",
    [
        stack(
            "Where keys are found",
            Note(
                "Look-ups of keys: found in the process, in Redis, or asked of PostgreSQL.",
                "PostgreSQL grows: caches are cold after a start, or unknown keys come. See Refusals in Overview.",
                links=[("Overview", address("overview"))],
            ),
            promql("sum by (layer) (rate(extauthz_api_key_cache_hits_total{@instance}[@]))", "{{layer}}"),
            promql(MISSED, "postgresql"),
            unit="ops",
        ),
        trend(
            "Share found in a cache",
            Note(
                "Of keys, and of the limits of organizations.",
                "Below 90 % with steady traffic: API_KEY_CACHE_TTL or TENANT_QUOTA_CACHE_TTL is short, Redis "
                "evicts, or the cache is off.",
            ),
            promql(f"{FOUND} / ({FOUND} + {MISSED})", "keys"),
            promql(
                "sum(rate(tenant_quota_cache_hits_total{@instance}[@]))"
                " / (sum(rate(tenant_quota_cache_hits_total{@instance}[@]))"
                " + sum(rate(tenant_quota_cache_misses_total{@instance}[@])))",
                "limits",
            ),
            unit="percentunit",
        ),
        trend(
            "Age of records that are served",
            Note(
                "How long ago a record that answered a check was read from PostgreSQL: p50 and p99.",
                "Above the cache's TTL: PostgreSQL is away and API_KEY_STALE_IF_ERROR carries you.",
                "store-away",
            ),
            promql(
                "histogram_quantile(0.5, sum by (cache, le) (rate(extauthz_record_age_seconds_bucket{@instance}[@])))",
                "{{cache}} p50",
            ),
            promql(
                "histogram_quantile(0.99, sum by (cache, le) (rate(extauthz_record_age_seconds_bucket{@instance}[@])))",
                "{{cache}} p99",
            ),
            unit="s",
        ),
        trend(
            "Unknown, ended and malformed keys",
            Note(
                "Checks whose credential was refused.",
                "A step up: a key ended or was revoked while in use, or keys are guessed. See Customers.",
                links=[("Customers", address("customers"))],
            ),
            promql(
                'sum by (decision) (rate(extauthz_decisions_total{@instance, decision=~".*_credentials"}[@]))',
                "{{decision}}",
            ),
            unit="reqps",
        ),
    ],
)

ENDS = Row(
    "Ends",
    [
        number(
            "Keys that end within 7 days",
            Note(
                "Keys that work now and will answer 401 within 7 days.",
                "Tell their owners, rotate the keys, or give them a later end (`extauthz keys update`).",
                "keys-expiring",
            ),
            promql('max(extauthz_keys_expiring{@instance, within="7d"})'),
            unit="short",
            steps={1: ORANGE},
            width=8,
        ),
        number(
            "Keys that end within 30 days",
            Note(
                "Keys that work now and will answer 401 within 30 days.",
                "Plan their rotation with their owners; the table below names them.",
                "keys-expiring",
            ),
            promql('max(extauthz_keys_expiring{@instance, within="30d"})'),
            unit="short",
            width=8,
        ),
        number(
            "Keys by pepper",
            Note(
                "Keys that depend on each pepper.",
                "Two peppers: a rotation is under way. Keep the old one in EXTAUTHZ_KEY_PEPPER until it says 0.",
                "pepper-retiring",
            ),
            promql("max by (pepper) (extauthz_pepper_keys{@instance})", "{{pepper}}"),
            unit="short",
            width=8,
        ),
        listing(
            "Keys that end next",
            Note(
                "Keys that work and end within 30 days.",
                "`extauthz keys rotate ID --grace 1h` makes a successor; the old one works for the grace.",
                "keys-expiring",
            ),
            Sql("keys_ending"),
            columns=KEYS,
            hidden=["id"],
            width=12,
        ),
        listing(
            "Keys without use",
            Note(
                "Keys that work and were not used for 30 days, or never.",
                "Ask the owner, then `extauthz keys disable ID`: an unused key is only a risk. It can be enabled "
                "again.",
            ),
            Sql("keys_unused"),
            columns=KEYS,
            hidden=["id"],
            width=12,
        ),
    ],
)

DASHBOARD = board(
    "keys",
    "Keys and caches",
    "Where records are found, how old they are, which keys end, and the pepper that they depend on.",
    variables=[instances()],
    rows=[CACHES, ENDS],
)
