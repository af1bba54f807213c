"""Secrets must be random and distinct, and a wrong value is reported wherever it is set."""

import base64
from pathlib import Path

import pytest

from extauthz.app.management import key_format
from extauthz.config import Settings, load
from extauthz.core.errors import ConfigError

ONE = "one-of-these-tests-77c0f1a92b4e5d"
TWO = "two-of-these-tests-0f9c81d57ab2e6"
GIVEN = {
    "DATABASE_URL": "postgresql://app@db/app",
    "REDIS_URL": "redis://redis:6379/0",
    "EXTAUTHZ_KEY_PEPPER": f"2026:{ONE}",
}
HOOK = {"EXTAUTHZ_WEBHOOK_URL": "https://h/"}


def settings(**environ: str) -> Settings:
    return load({**GIVEN, **environ}, None)


def mistake(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(**environ)
    (line,) = caught.value.mistakes
    assert not any(secret in line for secret in (ONE, TWO))
    return line


@pytest.mark.parametrize(
    "value", ["a" * 32, "ab" * 16, "12345" * 7, "changeme" * 4, "pass-word-1!" * 3, "0" * 64, "\u00e9" * 20]
)
@pytest.mark.parametrize("name", ["EXTAUTHZ_KEY_PEPPER", "EXTAUTHZ_ADMIN_TOKEN", "EXTAUTHZ_WEBHOOK_SECRET"])
def test_secrets_that_are_not_random(name: str, value: str) -> None:
    """A secret of one letter, few letters or one repeated word is rejected, also as one of several."""
    if name == "EXTAUTHZ_WEBHOOK_SECRET":
        assert "must be random" in mistake(**HOOK, **{name: value})
        encoded = base64.b64encode(value.encode()).decode()
        assert "must be random" in mistake(**HOOK, **{name: f"whsec_{encoded}"})
    elif value.isascii() or name == "EXTAUTHZ_KEY_PEPPER":
        assert mistake(**{name: f"a:{value}"}).startswith(f"{name}: must be random")
        assert mistake(**{name: f"b:{TWO},a:{value}"}).startswith(f"{name}: entry 2 must be random")


def test_secrets_that_are_random_enough() -> None:
    """Digits alone, hexadecimal digits and sentences are accepted."""
    for value in ("31415926535897932384626433832795", "0123456789abcdef" * 4, "correct horse battery staple 12345"):
        assert settings(EXTAUTHZ_KEY_PEPPER=f"a:{value}").key_pepper[0].value == value.encode()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"EXTAUTHZ_ADMIN_TOKEN": ONE}, "the value 2026 must not be that of EXTAUTHZ_ADMIN_TOKEN admin"),
        ({"EXTAUTHZ_ADMIN_TOKEN": f"a:{TWO},b:{ONE}"}, "the value 2026 must not be that of EXTAUTHZ_ADMIN_TOKEN b"),
        ({"EXTAUTHZ_ADMIN_TOKEN": f"ops:{ONE}+more"}, "the value 2026 must not be that of EXTAUTHZ_ADMIN_TOKEN ops"),
        ({**HOOK, "EXTAUTHZ_WEBHOOK_SECRET": ONE}, "the value 2026 must not be that of EXTAUTHZ_WEBHOOK_SECRET"),
        (
            {**HOOK, "EXTAUTHZ_WEBHOOK_SECRET": f"whsec_{base64.b64encode(ONE.encode()).decode()}"},
            "the value 2026 must not be that of EXTAUTHZ_WEBHOOK_SECRET",
        ),
        (
            {"DATABASE_URL": f"postgresql://app:{ONE}@db/app"},
            "the value 2026 must not be that of DATABASE_URL",
        ),
        ({"DATABASE_URL": f"host=db password='{ONE}'"}, "the value 2026 must not be that of DATABASE_URL"),
        ({"REDIS_URL": f"redis://:{ONE}@redis/0"}, "the value 2026 must not be that of REDIS_URL (password)"),
        ({"EXTAUTHZ_KEY_PEPPER": f"a:{ONE},b:{ONE}"}, "gives a and b the same value: each is random by itself"),
    ],
)
def test_one_secret_in_two_places(environ: dict[str, str], said: str) -> None:
    """One secret for two purposes is rejected, because a leak in one place would open the other."""
    assert mistake(**environ).partition(": ")[2].startswith(said)


def test_a_token_and_a_webhook() -> None:
    """Also between settings other than the pepper."""
    line = mistake(**HOOK, EXTAUTHZ_WEBHOOK_SECRET=TWO, EXTAUTHZ_ADMIN_TOKEN=f"ops:{TWO}")
    assert line.startswith("EXTAUTHZ_ADMIN_TOKEN: the value ops must not be that of EXTAUTHZ_WEBHOOK_SECRET")


def test_stores_may_share_a_password() -> None:
    """Passwords that extauthz shares with stores are not compared with each other."""
    settings(DATABASE_URL=f"postgresql://app:{TWO}@db/app", REDIS_URL=f"redis://:{TWO}@redis/0")


def test_secrets_are_reserved() -> None:
    """Every secret of the settings is reserved, so that none is imported as a key."""
    webhook = f"whsec_{base64.b64encode(TWO.encode()).decode()}"
    given = settings(
        **HOOK,
        EXTAUTHZ_WEBHOOK_SECRET=webhook,
        EXTAUTHZ_ADMIN_TOKEN="ops:token-of-these-tests-5b1c9e7f2a0d",
        DATABASE_URL="postgresql://app:p%40ssword-of-the-tests@db/app",
    )
    keys = key_format(given)
    held = (ONE, TWO, webhook, webhook[6:], "token-of-these-tests-5b1c9e7f2a0d", "p@ssword-of-the-tests")
    assert [secret for secret in held if not keys.is_reserved(secret)] == []
    assert not keys.is_reserved("sk_of_another_system_1")


def test_wrong_value_is_reported_although_another_place_wins(tmp_path: Path) -> None:
    """A wrong value in the file is reported, because it would stop a start without the variable."""
    file = tmp_path / "toml"
    file.write_text('[settings]\nworkers = 0\nkey_pepper = "short"\nenvoy_listen = "x"\nlog_level = "info"\n')
    over = {"EXTAUTHZ_WORKERS": "2", "EXTAUTHZ_ENVOY_LISTEN": "off", "EXTAUTHZ_LOG_LEVEL": "debug"}
    with pytest.raises(ConfigError) as caught:
        load({**GIVEN, **over}, file)
    lines = [line.removeprefix(f"{file} [settings] ") for line in caught.value.mistakes]
    assert sorted(lines) == [
        "envoy_listen: 'x' must be host:port, [::1]:port, unix:/path or off",
        "key_pepper: must be id:value, with an id of 1 to 32 of A-Z a-z 0-9 _ - and a value of at least 32 bytes",
        "workers: '0' must be a whole number from 1 to 256",
    ]
    with pytest.raises(ConfigError, match=r"^EXTAUTHZ_WORKERS: 'many' must be a whole number"):
        load({**GIVEN, "EXTAUTHZ_WORKERS": "many"}, None, options={"EXTAUTHZ_WORKERS": "2"})


def test_mistakes_of_serve_alone_stop_no_other_command() -> None:
    """Half a webhook, two listeners on one address, timeouts over the deadline: `serve` refuses, others work."""
    for wrong in (
        {"EXTAUTHZ_WEBHOOK_URL": "https://h/"},
        {"EXTAUTHZ_WEBHOOK_SECRET": TWO},
        {"EXTAUTHZ_NGINX_LISTEN": "127.0.0.1:9001"},
        {"EXTAUTHZ_DEADLINE_MS": "50"},
        {"EXTAUTHZ_REDIS_TIMEOUT_MS": "151"},
    ):
        mistake(**wrong)
        assert load({**GIVEN, **wrong}, None, serves=False).key_pepper
    with pytest.raises(ConfigError, match=r"^EXTAUTHZ_WORKERS: 'x'"):
        load({**GIVEN, "EXTAUTHZ_WORKERS": "x"}, None, serves=False)
