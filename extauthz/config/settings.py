"""Every setting: its name, type, default and meaning. `docs/reference/settings.md` lists the same."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import ConfigDict, Field, InstanceOf, PlainValidator, SecretBytes, SecretStr, ValidationInfo
from pydantic import field_validator as check

from extauthz.config import urls, values
from extauthz.config.fields import Boolean, setting
from extauthz.config.otel import OtelSettings
from extauthz.config.values import DecisionShare, Listen, NamedSecret
from extauthz.core.routes import RouteTable

Environment = Literal["live", "test"]
LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]
NginxQuestion = Literal["uri", "url"]
Leasing = Literal["off", "auto"]
OnRedisDown = Literal["open", "closed"]

DatabaseUrl = Annotated[SecretStr, PlainValidator(urls.database_url)]
Endpoint = Annotated[Listen | None, PlainValidator(values.listen)]
Milliseconds = Annotated[int, PlainValidator(values.whole(1, 10_000))]


def _serves(info: ValidationInfo) -> bool:
    """Whether the settings are for `serve`: what only it needs stops no other command."""
    return info.context is None or bool(info.context["serves"])


class Settings(OtelSettings):
    """All that can be set, checked. Frozen; no repr and no dump holds a secret.

    A secret that was not needed and not given is empty. Durations without a unit in their name are seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: DatabaseUrl = setting("DATABASE_URL", SecretStr(""), "PostgreSQL", secret=True)
    notify_database_url: DatabaseUrl = Field(
        default_factory=lambda fields: fields.get("database_url", SecretStr("")),
        alias="EXTAUTHZ_NOTIFY_DATABASE_URL",
        description="direct connection for LISTEN, where the other goes through a transaction pooler",
        exclude=True,
    )

    redis_url: Annotated[SecretStr, PlainValidator(urls.redis_url)] = setting(
        "REDIS_URL", SecretStr(""), "one Redis server", secret=True
    )
    rate_limit_on_redis_down: Annotated[OnRedisDown, PlainValidator(values.one_of(*get_args(OnRedisDown)))] = setting(
        "RATE_LIMIT_ON_REDIS_DOWN", "open", "without Redis: `open` allows, `closed` answers 503"
    )
    rate_limit_leases: Annotated[Leasing, PlainValidator(values.one_of(*get_args(Leasing)))] = setting(
        "RATE_LIMIT_LEASES", "off", "`auto`: tokens are taken ahead in batches and served in process; never too many"
    )
    rate_limit_headers: Annotated[frozenset[str], PlainValidator(values.header_families)] = setting(
        "RATE_LIMIT_HEADERS", "ietf,x", "rate-limit headers for clients"
    )

    api_key_cache_ttl: Annotated[int, PlainValidator(values.whole(1, 3600))] = setting(
        "API_KEY_CACHE_TTL", "120", "seconds that a key's record is kept, counted from its read of PostgreSQL"
    )
    api_key_cache_enabled: Boolean = setting("API_KEY_CACHE_ENABLED", "true", "keep records of keys at all")
    api_key_stale_if_error: Annotated[int, PlainValidator(values.whole(0, 86_400))] = setting(
        "API_KEY_STALE_IF_ERROR", "600", "seconds that a known key is still served while PostgreSQL is away"
    )
    tenant_quota_cache_ttl: Annotated[int, PlainValidator(values.whole(1, 600))] = setting(
        "TENANT_QUOTA_CACHE_TTL", "30", "seconds that an organization's limits are kept"
    )

    key_pepper: Annotated[tuple[NamedSecret, ...], PlainValidator(values.peppers)] = setting(
        "EXTAUTHZ_KEY_PEPPER", (), "peppers of API keys; the first signs, all verify", secret=True
    )
    key_prefix: Annotated[str, PlainValidator(values.matching(r"[a-z0-9]{1,16}", "must be 1 to 16 of a-z 0-9"))] = (
        setting("EXTAUTHZ_KEY_PREFIX", "xa", "what keys begin with")
    )
    key_env: Annotated[Environment, PlainValidator(values.one_of(*get_args(Environment)))] = setting(
        "EXTAUTHZ_KEY_ENV", "live", "the environment whose keys are accepted"
    )
    admin_token: Annotated[tuple[NamedSecret, ...], PlainValidator(values.admin_tokens)] = setting(
        "EXTAUTHZ_ADMIN_TOKEN", (), "bearer tokens of the private REST API", secret=True
    )
    strip_credential: Boolean = setting("EXTAUTHZ_STRIP_CREDENTIAL", "true", "keep the credential from the upstream")
    charge_once: Boolean = setting("EXTAUTHZ_CHARGE_ONCE", "false", "charge a proxy's request id once")
    rejections_kept_days: Annotated[int, PlainValidator(values.whole(0, 3650))] = setting(
        "EXTAUTHZ_REJECTIONS_KEPT_DAYS", "30", "days for which refusals can be asked for; 0: they are not kept"
    )
    tenant_metrics: Annotated[int | None, PlainValidator(values.whole_or_off(1, 1000))] = setting(
        "EXTAUTHZ_TENANT_METRICS", "off", "organizations that have metrics of their own; the rest is `other`"
    )
    webhook_url: Annotated[SecretStr, PlainValidator(urls.web_url("https://host/path or http://…"))] = setting(
        "EXTAUTHZ_WEBHOOK_URL", SecretStr(""), "where passed thresholds of quotas are told; unset: nowhere", secret=True
    )
    webhook_secret: Annotated[SecretBytes, PlainValidator(values.secret)] = setting(
        "EXTAUTHZ_WEBHOOK_SECRET", SecretBytes(b""), "signs what is sent there; set with it, or not at all", secret=True
    )

    deadline_ms: Milliseconds = setting("EXTAUTHZ_DEADLINE_MS", "150", "milliseconds that a check may take")
    redis_timeout_ms: Milliseconds = setting("EXTAUTHZ_REDIS_TIMEOUT_MS", "25", "milliseconds of it for Redis")
    database_timeout_ms: Milliseconds = setting(
        "EXTAUTHZ_DATABASE_TIMEOUT_MS", "100", "milliseconds of it for PostgreSQL"
    )
    workers: Annotated[int, PlainValidator(values.whole(1, 256))] = setting("EXTAUTHZ_WORKERS", "1", "processes")
    drain_seconds: Annotated[int, PlainValidator(values.whole(0, 3600))] = setting(
        "EXTAUTHZ_DRAIN_SECONDS", "10", "seconds after SIGTERM in which answers still come"
    )
    commit: Annotated[
        str, PlainValidator(values.matching(r"[A-Za-z0-9._-]{1,64}", "must be 1 to 64 of A-Z a-z 0-9 . _ -"))
    ] = setting("EXTAUTHZ_COMMIT", "", "the commit that this was built from, for the metric extauthz_build_info")
    fast_path: Boolean = setting("EXTAUTHZ_FAST_PATH", "true", "answer plain requests by the fast path")

    envoy_listen: Endpoint = setting("EXTAUTHZ_ENVOY_LISTEN", "127.0.0.1:9001", "for Envoy's ext_authz over HTTP")
    envoy_path_prefix: Annotated[str, PlainValidator(values.path_prefix)] = setting(
        "EXTAUTHZ_ENVOY_PATH_PREFIX", "", "what Envoy puts before the path"
    )
    nginx_listen: Endpoint = setting("EXTAUTHZ_NGINX_LISTEN", "127.0.0.1:9002", "for nginx's auth_request")
    nginx_question: Annotated[NginxQuestion, PlainValidator(values.one_of(*get_args(NginxQuestion)))] = setting(
        "EXTAUTHZ_NGINX_QUESTION", "uri", "the header that carries nginx's question: X-Original-URI or X-Original-URL"
    )
    forward_listen: Endpoint = setting("EXTAUTHZ_FORWARD_LISTEN", "127.0.0.1:9003", "for forward auth")
    usage_listen: Endpoint = setting("EXTAUTHZ_USAGE_LISTEN", "127.0.0.1:9004", "for callers' own usage")
    admin_listen: Endpoint = setting("EXTAUTHZ_ADMIN_LISTEN", "127.0.0.1:9000", "health, metrics, private REST API")

    socket_mode: Annotated[
        str, PlainValidator(values.matching(r"0?[0-7]{3}", "must be an octal mode, such as 0660"))
    ] = setting("EXTAUTHZ_SOCKET_MODE", "", "mode of the Unix sockets that are listened on; unset: by the umask")
    socket_group: Annotated[
        str, PlainValidator(values.matching(r"[A-Za-z0-9_.-]{1,64}", "must be the name or number of a group"))
    ] = setting("EXTAUTHZ_SOCKET_GROUP", "", "group of the Unix sockets that are listened on; unset: the process's own")

    decision_log: Annotated[DecisionShare | None, PlainValidator(values.decision_log)] = setting(
        "EXTAUTHZ_DECISION_LOG", "off", "which decisions are logged: `off`, `denials`, `all`, or a share such as `0.01`"
    )
    decision_log_to: Annotated[str, PlainValidator(values.decision_log_target)] = setting(
        "EXTAUTHZ_DECISION_LOG_TO", "stdout", "where to: `stdout`, the path of a file, or `otlp`"
    )
    log_format: Annotated[LogFormat, PlainValidator(values.one_of(*get_args(LogFormat)))] = setting(
        "EXTAUTHZ_LOG_FORMAT", "json", "`json`, or `console` for readable lines"
    )
    log_level: Annotated[LogLevel, PlainValidator(values.one_of(*get_args(LogLevel)))] = setting(
        "EXTAUTHZ_LOG_LEVEL", "info", "the least level that is written"
    )

    routes: InstanceOf[RouteTable]
    lookup_sql: str = ""  # [keys] lookup_sql: finds a key in tables of one's own; empty: keys are in ours
    notes: tuple[str, ...] = ()  # lines about settings that have no effect yet
    sources: Mapping[str, str] = Field(default_factory=dict, repr=False)  # name -> where it was read
    # By name, as they were written: what a supervisor hands to its workers.
    texts: Mapping[str, str] = Field(default_factory=dict, repr=False, exclude=True)

    @check("*")
    @classmethod
    def _alone(cls, mine: Any, info: ValidationInfo) -> Any:
        if isinstance(mine, Listen) and _serves(info):
            for field, other in info.data.items():
                if isinstance(other, Listen) and mine.overlaps(other):
                    raise ValueError(f"must not be the address of {cls.model_fields[field].alias}")
        return mine

    @check("redis_timeout_ms", "database_timeout_ms")
    @classmethod
    def _within_deadline(cls, mine: int, info: ValidationInfo) -> int:
        deadline = info.data.get("deadline_ms", mine)
        if mine > deadline and _serves(info):
            raise ValueError(f"must be at most EXTAUTHZ_DEADLINE_MS, {deadline}")
        return mine

    def log_form(self, *, terminal: bool) -> str:
        """The form of the log: what is set, else `console` on a terminal."""
        return "console" if terminal and "EXTAUTHZ_LOG_FORMAT" not in self.sources else self.log_format

    def effective(self) -> list[tuple[str, str, str]]:
        """Every setting as (name, value with secrets masked, source): `default`, `environment` or `file`.

        Of a statement, its first line.
        """
        rows = [
            (field.alias, show(getattr(self, name)), self.sources.get(field.alias, "default"))
            for name, field in sorted(type(self).model_fields.items(), key=lambda item: item[0].startswith("otel_"))
            if field.alias
        ]
        first_line = self.lookup_sql.strip().partition("\n")[0].rstrip()
        return [*rows, ("[keys] lookup_sql", show(first_line), "file" if self.lookup_sql else "default")]


def parser(key: str) -> Callable[[str], object]:
    """What makes the value of the setting `key` of a text; it raises ValueError that says what is right."""
    rules = Settings.model_fields[key].metadata
    return next(cast("Callable[[str], object]", rule.func) for rule in rules if isinstance(rule, PlainValidator))


def show(value: object) -> str:
    """A value of a setting as a person writes it, secrets masked; `-` where there is none."""
    match value:
        case None:
            return "off"
        case SecretStr():
            return urls.masked(value.get_secret_value()) or "-"
        case SecretBytes():
            return "***" if value else "-"
        case bool():
            return str(value).lower()
        case frozenset():
            return ",".join(sorted(value)) or "off"
        case tuple():
            return ",".join(map(repr, value)) or "-"
        case _:
            return str(value) or "-"
