"""The values that each setting accepts and rejects; no secret is ever shown."""

import base64
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from extauthz.config import Listen, NamedSecret, Settings, load
from extauthz.core.errors import ConfigError

PEPPER = "2026:pepper of these tests: 5b1c9e7f2a"
SECRET = "s3cret-of-these-tests-0f9c81d57ab2"
GIVEN = {
    "DATABASE_URL": "postgresql://app:s3cret@db/app",
    "REDIS_URL": "redis://:s3cret@redis:6379/0",
    "EXTAUTHZ_KEY_PEPPER": PEPPER,
}
WEBHOOK = {"EXTAUTHZ_WEBHOOK_URL": "https://h/", "EXTAUTHZ_WEBHOOK_SECRET": "webhook of these tests: 91d0c3f8"}
IN_BASE64 = base64.b64encode(bytes(range(255, 223, -1))).decode()  # with `/` and `=`
SECRETS = [*GIVEN, *WEBHOOK, "EXTAUTHZ_NOTIFY_DATABASE_URL", "EXTAUTHZ_ADMIN_TOKEN"]
SECRETS += [f"OTEL_EXPORTER_OTLP_{name}" for name in ("ENDPOINT", "TRACES_ENDPOINT", "METRICS_ENDPOINT", "HEADERS")]


def settings(**environ: str) -> Settings:
    webhook = WEBHOOK if WEBHOOK.keys() & environ else {}
    return load({**GIVEN, **webhook, **environ}, None)


def mistake(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(**environ)
    (line,) = caught.value.mistakes
    return line


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("EXTAUTHZ_ENVOY_LISTEN", "0.0.0.0:1", "envoy_listen", Listen("0.0.0.0", 1)),
        ("EXTAUTHZ_ENVOY_LISTEN", "[::1]:9001", "envoy_listen", Listen("[::1]", 9001)),
        ("EXTAUTHZ_ENVOY_LISTEN", "localhost:0", "envoy_listen", Listen("localhost", 0)),
        ("EXTAUTHZ_ENVOY_LISTEN", "unix:/run/a b", "envoy_listen", Listen(path="/run/a b")),
        ("EXTAUTHZ_ENVOY_LISTEN", "off", "envoy_listen", None),
        ("EXTAUTHZ_ENVOY_PATH_PREFIX", "/check/v1", "envoy_path_prefix", "/check/v1"),
        ("EXTAUTHZ_NGINX_QUESTION", "url", "nginx_question", "url"),
        ("RATE_LIMIT_HEADERS", "x", "rate_limit_headers", frozenset({"x"})),
        ("RATE_LIMIT_HEADERS", "x, ietf", "rate_limit_headers", frozenset({"x", "ietf"})),
        ("RATE_LIMIT_HEADERS", "off", "rate_limit_headers", frozenset()),
        ("RATE_LIMIT_ON_REDIS_DOWN", "closed", "rate_limit_on_redis_down", "closed"),
        ("RATE_LIMIT_LEASES", "auto", "rate_limit_leases", "auto"),
        ("API_KEY_CACHE_ENABLED", "False", "api_key_cache_enabled", False),
        ("EXTAUTHZ_STRIP_CREDENTIAL", "0", "strip_credential", False),
        ("EXTAUTHZ_CHARGE_ONCE", "true", "charge_once", True),
        ("EXTAUTHZ_USAGE_LISTEN", "127.0.0.1:9104", "usage_listen", Listen("127.0.0.1", 9104)),
        ("EXTAUTHZ_WEBHOOK_URL", "http://u:p@[::1]:80/a?b=c", "webhook_url", SecretStr("http://u:p@[::1]:80/a?b=c")),
        ("EXTAUTHZ_WEBHOOK_SECRET", SECRET, "webhook_secret", SecretBytes(SECRET.encode())),
        (
            "EXTAUTHZ_WEBHOOK_SECRET",
            f"whsec_{IN_BASE64}",
            "webhook_secret",
            SecretBytes(f"whsec_{IN_BASE64}".encode()),
        ),
        ("API_KEY_CACHE_TTL", "3600", "api_key_cache_ttl", 3600),
        ("API_KEY_STALE_IF_ERROR", "0", "api_key_stale_if_error", 0),
        ("EXTAUTHZ_KEY_ENV", "test", "key_env", "test"),
        ("EXTAUTHZ_LOG_FORMAT", "console", "log_format", "console"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "Authorization=Basic%20Zm9vOg==, api-key=a%2Cb",
            "otel_exporter_otlp_headers",
            (NamedSecret("authorization", b"Basic Zm9vOg=="), NamedSecret("api-key", b"a,b")),
        ),
        ("OTEL_SERVICE_NAME", "gate de l'été", "otel_service_name", "gate de l'été"),
        ("OTEL_SDK_DISABLED", "true", "otel_sdk_disabled", True),
        ("OTEL_TRACES_SAMPLER", "traceidratio", "otel_traces_sampler", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25", "otel_traces_sampler_arg", 0.25),
        ("OTEL_TRACES_SAMPLER_ARG", "1e-05", "otel_traces_sampler_arg", 0.00001),
        ("EXTAUTHZ_ADMIN_TOKEN", SECRET, "admin_token", (NamedSecret("admin", SECRET.encode()),)),
        (
            "EXTAUTHZ_KEY_PEPPER",
            f"b:äöüßéè{SECRET[:20]},a:::{SECRET}",
            "key_pepper",
            (NamedSecret("b", f"äöüßéè{SECRET[:20]}".encode()), NamedSecret("a", f"::{SECRET}".encode())),
        ),
    ],
)
def test_values(name: str, text: str, key: str, value: object) -> None:
    """Each form of the documentation becomes its typed value; lists keep their order."""
    assert getattr(settings(**{name: text}), key) == value


@pytest.mark.parametrize(
    ("name", "texts", "right"),
    [
        (
            "EXTAUTHZ_ENVOY_LISTEN",
            ["9001", ":9001", "h:65536", "h:", "::1:80", "unix:x", "Off"],
            "must be host:port, [",
        ),
        ("EXTAUTHZ_ENVOY_PATH_PREFIX", ["check", "/", "/a/", "/a//b", "/a?b", "/%61"], "must be a plain path"),
        (
            "API_KEY_CACHE_TTL",
            ["0", "3601", "1.5", "-1", "+1", "1_0", "٣", " 1"],
            "must be a whole number from 1 to 3600",
        ),
        ("API_KEY_STALE_IF_ERROR", ["86401", "10m"], "must be a whole number from 0 to 86400"),
        ("TENANT_QUOTA_CACHE_TTL", ["0", "601"], "must be a whole number from 1 to 600"),
        ("EXTAUTHZ_DEADLINE_MS", ["0", "10001"], "must be a whole number from 1 to 10000"),
        ("EXTAUTHZ_WORKERS", ["0", "257", "auto"], "must be a whole number from 1 to 256"),
        ("EXTAUTHZ_TENANT_METRICS", ["0", "1001", "on", "OFF", "-1"], "must be a whole number from 1 to 1000, or off"),
        ("EXTAUTHZ_COMMIT", ["a b", "<commit>"], "must be 1 to 64 of A-Z a-z 0-9 . _ -"),
        ("API_KEY_CACHE_ENABLED", ["maybe", "2"], "must be true or false"),
        ("RATE_LIMIT_ON_REDIS_DOWN", ["allow"], "must be open or closed"),
        ("RATE_LIMIT_HEADERS", ["y", "x,off", ","], "must be ietf,x or one of them, or off"),
        ("EXTAUTHZ_KEY_PREFIX", ["XA", "a_b", "a" * 17], "must be 1 to 16 of a-z 0-9"),
        ("EXTAUTHZ_KEY_ENV", ["prod"], "must be live or test"),
        ("EXTAUTHZ_NGINX_QUESTION", ["URL", "both", "X-Original-URL"], "must be uri or url"),
        ("EXTAUTHZ_LOG_FORMAT", ["text"], "must be json or console"),
        ("EXTAUTHZ_LOG_LEVEL", ["INFO", "trace"], "must be debug, info, warning or error"),
        ("OTEL_TRACES_SAMPLER", ["sometimes"], "must be always_on, always_off, traceidratio"),
        ("OTEL_TRACES_EXPORTER", ["console", "zipkin"], "must be otlp or none"),
        ("OTEL_METRICS_EXPORTER", ["prometheus"], "must be otlp or none"),
        ("OTEL_METRIC_EXPORT_INTERVAL", ["0", "99", "1m"], "must be a whole number from 100 to 3600000"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", ["grpc", "http/json"], "must be http/protobuf"),
        ("OTEL_SERVICE_NAME", ["a\tb"], "must be 1 to 255 visible characters"),
        ("OTEL_RESOURCE_ATTRIBUTES", ["team", "a=b,", "a=b,c", "=b", "a b=c"], "must be name=value[,name=value]"),
        ("OTEL_TRACES_SAMPLER_ARG", ["1.01", "-0.1", "nan", "half"], "must be a number from 0 to 1"),
    ],
)
def test_wrong_values(name: str, texts: list[str], right: str) -> None:
    """A wrong value is shown, in ASCII, beside a right one."""
    for text in texts:
        assert mistake(**{name: text}).startswith(f"{name}: {text!a} {right}")


def test_long_values_are_shortened() -> None:
    """A wrong value does not fill the terminal."""
    assert mistake(EXTAUTHZ_KEY_ENV="x" * 5000) == f"EXTAUTHZ_KEY_ENV: '{'x' * 40}...' must be live or test"


@pytest.mark.parametrize(
    ("name", "texts", "right"),
    [
        ("EXTAUTHZ_KEY_PEPPER", ["x" * 40, ":" + "x" * 40, "a b:" + "x" * 40, "a:" + "x" * 31], "must be id:value"),
        ("EXTAUTHZ_KEY_PEPPER", [f"{PEPPER},", f"{PEPPER},b:short"], "entry 2 must be id:value"),
        ("EXTAUTHZ_KEY_PEPPER", [f"{PEPPER},{PEPPER}"], "entry 2 has the same name as an earlier one"),
        ("EXTAUTHZ_ADMIN_TOKEN", ["t" * 31], "must have at least 32 bytes"),
        ("EXTAUTHZ_ADMIN_TOKEN", ["t" * 32 + " ", "é" * 32], "must be visible ASCII"),
        ("EXTAUTHZ_ADMIN_TOKEN", [f"a:{SECRET},{'u' * 32}"], "entry 2 must be name:value"),
        ("EXTAUTHZ_ADMIN_TOKEN", [f"a:{SECRET},a:{'u' * 32}"], "entry 2 has the same name"),
        (
            "EXTAUTHZ_ADMIN_TOKEN",
            [f"ann:{SECRET},ops:{SECRET}2,bob:{SECRET}"],
            "gives ann and bob the same value",
        ),
        (
            "DATABASE_URL",
            ["mysql://db/x", "db", "postgresql://u:p@ss@db/x", "postgresql://u:p/x@db"],
            "must be postgresql",
        ),
        (
            "DATABASE_URL",
            ["postgresql://u:1#s3cret@db", "postgres:/db", "host=db password=a b", "czNjcmV0czNjcmV0="],
            "must be postgresql",
        ),
        ("DATABASE_URL", ["postgresql://u:50%@db/x", "postgresql://u:a b@db/x", "postgresql://u:\udcff@db"], "holds a"),
        (
            "REDIS_URL",
            ["http://r:6379", "redis://", "redis://:6379", "redis://a,b", "redis://r/db", "redis://r:65536", "rediss"],
            "must be redis",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            ["s3cret", "a=s3cret,", "=s3cret", "a b=s3cret", "a=s3cret%0a", "a=s3cr\u00e9t", "a=b,s3cret"],
            "must be name=value[,name=value]",
        ),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ["otel:4317", "ftp://x", "http://", "http://a,b"], "must be http://host:4318"),
        (
            "EXTAUTHZ_WEBHOOK_URL",
            ["h/s3cret", "ftp://h", "https://", "https:///s3cret", "https://:1", "https://h:65536", "https://a,b"],
            "must be https://host/path or http://",
        ),
        ("EXTAUTHZ_WEBHOOK_URL", ["https://h/s3cret x", "https://h/%zz"], "holds a blank"),
        ("EXTAUTHZ_WEBHOOK_SECRET", ["s3cret", "s" * 31, "é" * 15], "must have at least 32 bytes"),
        (
            "EXTAUTHZ_WEBHOOK_SECRET",
            [
                "whsec_s3cret",
                f"whsec_{IN_BASE64.rstrip('=')}",
                f"whsec_{IN_BASE64} ",
                f"whsec_{IN_BASE64.replace('/', '_')}",
                f"whsec_{base64.b64encode(b'k' * 31).decode()}",
                f"whsec_ is no base64, but long: {SECRET}",
                "whsec_" + "é" * 40,
            ],
            "begins with whsec_; then base64 of at least 32 bytes must follow",
        ),
    ],
)
def test_wrong_secrets(name: str, texts: list[str], right: str) -> None:
    """The error of a wrong secret shows a right form, never the secret."""
    for text in texts:
        assert mistake(**{name: text}).startswith(f"{name}: {right}")


@pytest.mark.parametrize(
    "url",
    [
        "postgres://db/x",
        "postgresql:///x",
        "postgresql://u@h1:1,h2:2/x?target_session_attrs=read-write",
        "postgresql://[::1]/x",
        "postgresql://u:p%40ss@%2Frun%2Fpg/x",
        "host=db dbname=x password='it\\'s s3cret'",
        "host = db",
    ],
)
def test_database_urls(url: str) -> None:
    """URLs and keyword lists of libpq are taken unchanged."""
    assert settings(DATABASE_URL=url).database_url.get_secret_value() == url


def test_timeouts_within_the_deadline() -> None:
    """No store may take longer than the whole check, also when one of them is a default."""
    assert mistake(EXTAUTHZ_REDIS_TIMEOUT_MS="151").endswith("'151' must be at most EXTAUTHZ_DEADLINE_MS, 150")
    assert mistake(EXTAUTHZ_DEADLINE_MS="50").startswith(
        "EXTAUTHZ_DATABASE_TIMEOUT_MS (default): '100' must be at most"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:9001", "localhost:9001", "0.0.0.0:9001", "[::]:9001"])
def test_one_address_for_one_listener(address: str) -> None:
    """Two listeners on one address are a mistake: a request could be read by another dialect's rules."""
    line = mistake(EXTAUTHZ_NGINX_LISTEN=address)
    assert line == f"EXTAUTHZ_NGINX_LISTEN: {address!r} must not be the address of EXTAUTHZ_ENVOY_LISTEN"


def test_addresses_that_differ() -> None:
    """`off` and port 0 may stand twice, a socket only once."""
    settings(EXTAUTHZ_NGINX_LISTEN="off", EXTAUTHZ_ENVOY_LISTEN="off")
    settings(EXTAUTHZ_NGINX_LISTEN="127.0.0.1:0", EXTAUTHZ_ENVOY_LISTEN="127.0.0.1:0")
    line = mistake(EXTAUTHZ_NGINX_LISTEN="unix:/run/x", EXTAUTHZ_ADMIN_LISTEN="unix:/run/x")
    assert line.startswith("EXTAUTHZ_ADMIN_LISTEN: 'unix:/run/x' must not be the address of EXTAUTHZ_NGINX_LISTEN")


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("DATABASE_URL", "postgresql://u:s3cret@h:1/d?sslmode=require&sslpassword=s3cret", "postgresql://u:***@h:1/d?sslmode=require&sslpassword=***"),
        ("DATABASE_URL", "host=h password='s3cret s3cret' user=u", "host=h password=*** user=u"),
        ("DATABASE_URL", "host=h dbname='password=s3cret'", "host=h dbname=***"),
        ("REDIS_URL", "redis://s3cret@h/1", "redis://***@h/1"),
        ("REDIS_URL", "rediss://u:s3cret@h:1?db=2&password=s3cret", "rediss://u:***@h:1?db=2&password=***"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h:4318/s3cret?s3cret", "https://h:4318/***?***"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "host=s3cret,b=s3cret", "host:***,b:***"),
        ("EXTAUTHZ_KEY_PEPPER", f"b:{SECRET},{PEPPER}", "b:***,2026:***"),
        ("EXTAUTHZ_ADMIN_TOKEN", SECRET, "admin:***"),
        ("EXTAUTHZ_WEBHOOK_URL", "https://u:s3cret@h:1/s3cret?s3cret", "https://u:***@h:1/***?***"),
        ("EXTAUTHZ_WEBHOOK_SECRET", f"host={SECRET}", "***"),
        ("RATE_LIMIT_HEADERS", "off", "off"),
        ("EXTAUTHZ_ENVOY_LISTEN", "[::1]:0", "[::1]:0"),
        ("EXTAUTHZ_ENVOY_LISTEN", "unix:/run/x", "unix:/run/x"),
        ("EXTAUTHZ_ENVOY_LISTEN", "off", "off"),
        ("EXTAUTHZ_ADMIN_TOKEN", "", "-"),
    ],
)  # fmt: skip
def test_effective(name: str, text: str, shown: str) -> None:
    """`check-config` shows values as an operator writes them, and of secrets only those without secret content."""
    effective = {setting: value for setting, value, _ in settings(**{name: text}).effective()}
    assert effective[name] == shown


@given(st.sampled_from(SECRETS), st.text(st.characters(exclude_characters="\x00,")))
def test_a_wrong_secret_is_never_seen(name: str, text: str) -> None:
    """No mistake, traceback, repr, dump or effective value contains the value of a secret setting."""
    secret_keys = {key for key, field in Settings.model_fields.items() if field.alias in SECRETS}
    # No pepper has a name with a tilde; names may be seen.
    words = f"~Zq7x{text}~Zq7x{text}{'~Zq7x' * 8}"
    for secret in (words, f"id:{words}", f"redis://:{words}@h/0", f"postgresql://u:{words}@h/d", f"http://u:{words}@h"):
        for known in ({}, {f"{name}_FILE": "/nowhere"}):
            try:
                taken = settings(**{name: secret}, **known)
                seen = f"{taken!r} {taken} {taken.effective()} {taken.model_dump(include=secret_keys)}"
            except ConfigError as error:
                seen = "".join(traceback.format_exception(error)) + repr(error.mistakes)
            assert "Zq7x" not in seen


def test_a_secret_in_the_file_is_never_seen(tmp_path: Path) -> None:
    """Also in the configuration file, where a secret has the wrong type or a wrong name."""
    file = tmp_path / "config.toml"
    file.write_text(
        '[settings]\nkey_pepper = ["s3cret"]\nkey_peper = "s3cret"\ndatabase_url = "s3cret"\ns = "s3cret"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load({}, file)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
