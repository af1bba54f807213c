"""`load` returns values by place, and reports every mistake on a line of its own."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from extauthz.config import Listen, NamedSecret, Settings, load
from extauthz.core.errors import ConfigError

VALUE = "pepper of these tests: 5b1c9e7f2a"
PEPPER = f"2026:{VALUE}"
TOKEN = "token-of-these-tests-77c0f1a92b4e"
SECRET = "s3cret of these tests: 0f9c81d57ab2"
GIVEN = {
    "DATABASE_URL": "postgresql://app:s3cret@db/app",
    "REDIS_URL": "redis://:s3cret@redis:6379/0",
    "EXTAUTHZ_KEY_PEPPER": PEPPER,
}
DOCUMENTED = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def settings(**environ: str) -> Settings:
    return load({**GIVEN, **environ}, None)


def mistakes(environ: Mapping[str, str], file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(environ, file)
    assert all(line.isprintable() for line in caught.value.mistakes)
    return caught.value.mistakes


def mistake(**environ: str) -> str:
    (line,) = mistakes({**GIVEN, **environ})
    return line


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A configuration file in a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    return folder / "config.toml"


def test_the_least_that_is_needed() -> None:
    """Three settings are enough; the others have their defaults."""
    least = settings()
    assert least.database_url.get_secret_value() == GIVEN["DATABASE_URL"]
    assert least.notify_database_url == least.database_url
    assert least.key_pepper == (NamedSecret("2026", VALUE.encode()),)
    assert least.envoy_listen == Listen("127.0.0.1", 9001)
    assert least.rate_limit_headers == {"ietf", "x"}
    assert (least.deadline_ms, least.redis_timeout_ms, least.database_timeout_ms) == (150, 25, 100)
    assert least.routes.match("GET", None, "/x") is not None
    assert least.notes == ()


def test_frozen() -> None:
    """Settings do not change after the start."""
    with pytest.raises(ValueError, match="frozen"):
        settings().workers = 3


def test_required() -> None:
    """All missing required settings are named at once, with examples."""
    assert [line.partition(": required; ")[0] for line in mistakes({})] == list(GIVEN)


def test_needs() -> None:
    """A command that needs fewer settings requires fewer; those not given are empty."""
    least = load({"DATABASE_URL": "postgresql:///app"}, None, needs=["DATABASE_URL"])
    assert not least.redis_url
    assert least.key_pepper == ()
    with pytest.raises(ConfigError, match=r"^DATABASE_URL: required"):
        load({}, None, needs=["DATABASE_URL"])


def test_empty_is_not_set() -> None:
    """An empty variable counts as not set, because Compose passes `NAME=` for absent ones."""
    assert settings(EXTAUTHZ_WORKERS="", EXTAUTHZ_ADMIN_TOKEN_FILE="").workers == 1
    assert mistakes({**GIVEN, "REDIS_URL": ""})[0].startswith("REDIS_URL: required")


def test_environment_wins_over_the_file(toml: Path) -> None:
    """Both places have the same settings; `effective` names the place that was used."""
    toml.write_text(
        '[settings]\nworkers = 2\nlog_level = "debug"\nstrip_credential = false\notel_traces_sampler_arg = 0.5\n'
    )
    for environ, file in ((GIVEN, toml), ({**GIVEN, "EXTAUTHZ_CONFIG": str(toml)}, None)):
        heard = load({**environ, "EXTAUTHZ_WORKERS": "3"}, file)
        assert (heard.workers, heard.log_level, heard.strip_credential) == (3, "debug", False)
        assert heard.otel_traces_sampler_arg == 0.5
        effective = {name: (value, source) for name, value, source in heard.effective()}
        assert effective["EXTAUTHZ_WORKERS"] == ("3", "environment")
        assert effective["EXTAUTHZ_LOG_LEVEL"] == ("debug", "file")
        assert effective["EXTAUTHZ_LOG_FORMAT"] == ("json", "default")


def test_option_wins_over_the_variable(toml: Path) -> None:
    """`--config` is used instead of EXTAUTHZ_CONFIG, whose file may then be missing."""
    toml.write_text("[settings]\nworkers = 2\n")
    assert load({**GIVEN, "EXTAUTHZ_CONFIG": "/nowhere"}, toml).workers == 2


def test_empty_variable_does_not_hide_the_file(toml: Path) -> None:
    """An empty variable does not hide what the file says."""
    toml.write_text("[settings]\nworkers = 2\n")
    assert load({**GIVEN, "EXTAUTHZ_WORKERS": ""}, toml).workers == 2


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("DATABASE_URL", "database_url"),
        ("EXTAUTHZ_NOTIFY_DATABASE_URL", "notify_database_url"),
        ("REDIS_URL", "redis_url"),
        ("EXTAUTHZ_KEY_PEPPER", "key_pepper"),
        ("EXTAUTHZ_ADMIN_TOKEN", "admin_token"),
        ("EXTAUTHZ_WEBHOOK_SECRET", "webhook_secret"),
        ("EXTAUTHZ_WEBHOOK_URL", "webhook_url"),
    ],
)
def test_secrets_from_files(toml: Path, variable: str, key: str) -> None:
    """A secret can be in a file, named in either place, there relative to the configuration."""
    every = {**GIVEN, "EXTAUTHZ_WEBHOOK_URL": "https://h/s3cret", "EXTAUTHZ_WEBHOOK_SECRET": SECRET}
    secret = every.get(variable, GIVEN["DATABASE_URL"] if "DATABASE" in variable else f"ops:{TOKEN}")
    (toml.parent / "secret").write_text(f"{secret}\n")
    others = {name: text for name, text in every.items() if name != variable}
    plain = getattr(load({**others, variable: secret}, None), key)
    assert getattr(load({**others, f"{variable}_FILE": str(toml.parent / "secret")}, None), key) == plain
    toml.write_text(f'[settings]\n{key}_file = "secret"\n')
    assert getattr(load(others, toml), key) == plain


def test_files_of_secrets_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing, empty or binary file, or one beside the value itself, is one line that names it."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff" * 40)
    others = {name: text for name, text in GIVEN.items() if name != "EXTAUTHZ_KEY_PEPPER"}
    for name, reason in (("none", "cannot be read: No such"), ("empty", "is empty"), ("bytes", "is not UTF-8")):
        (line,) = mistakes({**others, "EXTAUTHZ_KEY_PEPPER_FILE": str(tmp_path / name)})
        assert line.startswith(f"EXTAUTHZ_KEY_PEPPER_FILE: {tmp_path / name} {reason}")
    assert mistake(EXTAUTHZ_KEY_PEPPER_FILE="/x") == (
        "EXTAUTHZ_KEY_PEPPER_FILE: must not be set together with EXTAUTHZ_KEY_PEPPER"
    )
    (line,) = mistakes({**others, "EXTAUTHZ_KEY_PEPPER_FILE": PEPPER})
    assert PEPPER not in line


def test_only_secrets_come_from_files() -> None:
    """`_FILE` after any other setting is unknown."""
    assert mistake(EXTAUTHZ_WORKERS_FILE="/x") == "EXTAUTHZ_WORKERS_FILE: unknown; did you mean EXTAUTHZ_WORKERS?"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("EXTAUTHZ_KEY_PEPER", "EXTAUTHZ_KEY_PEPER: unknown; did you mean EXTAUTHZ_KEY_PEPPER?"),
        ("EXTAUTHZ_DATABASE_URL", "EXTAUTHZ_DATABASE_URL: unknown; did you mean DATABASE_URL?"),
        ("RATE_LIMIT_ON_REDIS_DWN", "RATE_LIMIT_ON_REDIS_DWN: unknown; did you mean RATE_LIMIT_ON_REDIS_DOWN?"),
        ("RATE_LIMIT_QQQQQQ", "RATE_LIMIT_QQQQQQ: unknown"),
        ("EXTAUTHZ_\n", r"'EXTAUTHZ_\n': unknown"),
    ],
)
def test_unknown_variables(name: str, line: str) -> None:
    """An EXTAUTHZ_ variable that does not exist is a mistake, reported with the nearest name."""
    assert mistake(**{name: "secret"}) == line


@pytest.mark.parametrize("shape", ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_9001_TCP_ADDR"])
def test_shapes_of_kubernetes(shape: str) -> None:
    """Variables that Kubernetes injects for a service called extauthz or rate-limit-x are ignored."""
    settings(
        **{f"EXTAUTHZ_{shape}": "tcp://10.0.0.1:9001", f"EXTAUTHZ_ENVOY_{shape}": "1", f"RATE_LIMIT_X_{shape}": "1"}
    )


def test_a_webhook_has_an_address_and_a_secret(toml: Path) -> None:
    """One without the other is a mistake that names both; they may be set in different places."""
    url, secret = "EXTAUTHZ_WEBHOOK_URL", "EXTAUTHZ_WEBHOOK_SECRET"
    assert mistake(**{url: "https://h/s3cret"}) == f"{url}: must be set together with {secret}"
    assert mistake(**{secret: SECRET}) == f"{secret}: must be set together with {url}"
    toml.write_text('[settings]\nwebhook_url = "https://h/s3cret"\nwebhook_secret = ""\n')
    assert mistakes(GIVEN, toml) == (f"{toml} [settings] webhook_url: must be set together with {secret}",)
    told = load({**GIVEN, secret: SECRET}, toml)
    assert told.webhook_url.get_secret_value() == "https://h/s3cret"
    assert told.webhook_secret.get_secret_value() == SECRET.encode()
    assert not settings().webhook_url
    assert not settings().webhook_secret


def test_a_command_that_needs_less_is_not_asked_for_the_other_half() -> None:
    """A job that shares its file with the service does not need the secret of the service's webhook."""
    environ = {"DATABASE_URL": "postgresql:///app", "EXTAUTHZ_WEBHOOK_URL": "https://h/"}
    assert load(environ, None, needs=["DATABASE_URL"]).webhook_url


def test_a_file_of_a_secret_that_cannot_be_read_is_one_mistake() -> None:
    """The setting is not also reported missing when its file is."""
    line = mistake(EXTAUTHZ_WEBHOOK_URL="https://h/", EXTAUTHZ_WEBHOOK_SECRET_FILE="/nowhere")
    assert line.startswith("EXTAUTHZ_WEBHOOK_SECRET_FILE: /nowhere cannot be read")


def test_all_mistakes_at_once(toml: Path) -> None:
    """Mistakes of every kind and place are reported together, each line beginning with the name as written."""
    toml.write_text(
        '[settings]\nkey_pepper = "short"\nworker = 1\nlog_level = []\nlog_format = "xml"\nredis_url_file = "/none"\n'
        '[[routes]]\npath = "/a"\nresource = "a"\n[[routes]]\npath = "b"\ncost = "1"\n'
        '[[routes]]\npath = "c"\nresource="c"\n'
        '[resources]\nx = 1\ny = "a b"\n[setings]\n'
    )
    found = mistakes({"EXTAUTHZ_WORKERS": "no", "EXTAUTHZ_WORKER": "1"}, toml)
    assert [line.replace(str(toml), "config.toml").partition(": ")[0] for line in found] == [
        "config.toml setings",
        "config.toml [[routes]] 2 cost",
        "config.toml [resources] x",
        "config.toml [[routes]] 3 path",
        "config.toml [resources] y",
        "config.toml [settings] worker",
        "config.toml [settings] log_level",
        "config.toml [settings] redis_url_file",
        "EXTAUTHZ_WORKER",
        "DATABASE_URL",
        "config.toml [settings] key_pepper",
        "EXTAUTHZ_WORKERS",
        "config.toml [settings] log_format",
    ]


def test_documentation_has_every_setting() -> None:
    """`docs/reference/settings.md` lists the same names, keys and defaults as the code."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\S+) \|", DOCUMENTED.read_text(), re.MULTILINE)
    least = {name: value for name, value, _ in settings().effective()}
    special = dict.fromkeys(GIVEN, "required") | {"EXTAUTHZ_NOTIFY_DATABASE_URL": "DATABASE_URL"}
    keys = {field.alias: key for key, field in Settings.model_fields.items() if field.alias}
    expected = [(name, keys[name], special.get(name, value)) for name, value in least.items() if name in keys]
    assert [(name, key, default.strip("`")) for name, key, default in rows] == expected
    assert [name for name, key, _ in rows if key != name.lower().removeprefix("extauthz_")] == []
    assert all(field.description for field in Settings.model_fields.values() if field.alias)
