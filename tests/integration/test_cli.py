"""The command line against real PostgreSQL and Redis, in child processes where the process matters."""

import json
import re
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis.asyncio import Redis

from extauthz.backends.postgres import migrate
from extauthz.backends.redis import keyspace
from extauthz.core.changes import EntityRef
from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.demo.ports import free_port
from tests.servers.shell import Here, Shell

PEPPER = "a pepper of the tests: 32 bytes or more"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
KEY_FORMAT = KeyFormat(prefix="xa", env="live", peppers=[Pepper("p1", PEPPER.encode())])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a folder"
    path.mkdir()
    return path


@pytest.fixture
def shell(folder: Path, database: str, redis_url: str) -> Shell:
    return Shell(folder, {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"})


@pytest.fixture
def here(shell: Shell) -> Here:
    return Here(shell.folder, shell.environ)


def since(changed: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The changed fields since `before`, but for version and time, which must be higher."""
    assert changed["version"] > before["version"]
    assert datetime.fromisoformat(changed["updated_at"]) > datetime.fromisoformat(before["updated_at"])
    return {**changed, "version": before["version"], "updated_at": before["updated_at"]}


def test_plans(here: Here) -> None:
    """A plan is made, shown, changed and deleted; absent options change nothing; JSON and text agree."""
    gold = here.json("plans", "create", "gold", "--rate", "100/min", "--burst", "50", "--daily-quota", "1000")
    assert UUID.fullmatch(gold["id"])
    assert (gold["rate"], gold["burst"], gold["daily_quota"], gold["monthly_quota"]) == ("100/min", 50, 1000, None)
    changed = here.json("plans", "update", "gold", "--daily-quota", "none", "--monthly-quota", "1")
    assert since(changed, gold) == {**gold, "daily_quota": None, "monthly_quota": 1}
    listed = here.json("plans", "list")
    assert [plan["name"] for plan in listed] == ["default", "gold"]
    assert listed[1] == changed
    table = here.run("plans", "list").stdout.splitlines()
    assert table[0].split() == ["NAME", "RATE", "BURST", *["DAILY", "QUOTA", "MONTHLY", "QUOTA", "HOURLY", "QUOTA"]]
    assert table[2].split() == ["gold", "100/min", "50", "none", "1", "none"]
    assert (
        here.refused(1, "plans", "create", "gold", "--rate", "1", "--burst", "1")
        == "a plan of that name is there already"
    )
    assert here.refused(2, "plans", "update", "gold", "--rate", "none") == "rate and burst go together: both or none"
    assert here.run("plans", "delete", "gold").stdout == "Deleted the plan gold.\n"
    assert "'gold'" in here.refused(1, "plans", "show", "gold", "--json")


def test_organizations(here: Here) -> None:
    """An organization gets the plan `default` and overrides, which `none` clears; it is found by name and by id."""
    acme = here.json("orgs", "create", "Acme & Söhne")
    assert (acme["plan"], acme["status"], acme["rate"], acme["burst"]) == ("default", "active", None, None)
    by_id = here.json("orgs", "update", acme["id"], "--rate", "5", "--burst", "7", "--status", "suspended")
    assert since(by_id, acme) == {**acme, "rate": "5/s", "burst": 7, "status": "suspended"}
    shown = here.run("orgs", "show", "Acme & Söhne").stdout
    assert re.search(r"^burst +7 \(own\)$", shown, re.MULTILINE)
    assert re.search(r"^daily quota +10000 \(plan\)$", shown, re.MULTILINE)
    table = here.run("orgs", "list").stdout.splitlines()
    assert table[1] == f"Acme & Söhne  {acme['id']}  default  suspended  --rate 5/s --burst 7"
    back = ("orgs", "update", "Acme & Söhne", "--rate", "none", "--burst", "none", "--status", "active")
    assert since(here.json(*back), acme) == acme
    assert since(here.json("orgs", "delete", "Acme & Söhne"), acme) == acme
    assert here.json("orgs", "list") == []


def test_life_of_a_key(here: Here) -> None:
    """A key is shown once; what is stored is its digest; it is listed, shown and revoked by its id."""
    here.json("orgs", "create", "acme")
    options = ("--name", "ci", "--permission", "api:write", "--permission", "*:read", "--expires-in", "30d")
    created = here.json("keys", "create", "acme", *options)
    key = created.pop("key")
    assert KEY_FORMAT.plausible(key)
    assert created["permissions"] == {"api": ["write"], "*": ["read"]}
    left = datetime.fromisoformat(created["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left < timedelta(days=30)
    assert here.json("keys", "show", created["id"]) == created
    assert here.json("keys", "list", "acme") == [created]
    assert "last usable key" in here.refused(1, "keys", "revoke", created["id"])
    revoked = here.json("keys", "revoke", created["id"], "--last")
    assert since(revoked, created) == {**created, "revoked_at": revoked["revoked_at"], "status": "revoked"}
    assert revoked["revoked_at"] is not None
    with psycopg.connect(here.environ["DATABASE_URL"]) as connection:
        stored = str(connection.execute("SELECT api_keys, encode(hash, 'escape') FROM api_keys").fetchall())
    assert key not in stored
    assert created["id"] in stored


def test_refused_keys(here: Here) -> None:
    """Times in the past, resources that no route has and organizations that are not there make no key."""
    here.json("orgs", "create", "acme")
    assert "in the past" in here.refused(2, "keys", "create", "acme", "--expires-at", "0001-01-01T00:00:00+14:00")
    assert "customer" in here.refused(2, "keys", "create", "acme", "--permission", "customer:read")
    (here.folder / "routes.toml").write_text('[[routes]]\npath = "/{resource}/**"\n')
    with_routes = ("--config", "routes.toml", "--permission", "customer:read")
    assert here.json("keys", "create", "acme", *with_routes)["permissions"] == {"customer": ["read"]}
    (here.folder / "routes.toml").write_text('[[routes]]\npath = "/{resource}/**"\n[resources]\norders = "order"\n')
    mapped = ("--config", "routes.toml", "--permission", "orders:read")
    assert "did you mean order?" in here.refused(2, "keys", "create", "acme", *mapped)
    assert "'nobody'" in here.refused(1, "keys", "create", "nobody")
    assert len(here.json("keys", "list", "acme")) == 1


async def test_shared_cache_is_told(shell: Shell, redis: Redis) -> None:
    """Redis is told of a change at once; where it is away, a warning says when the change takes effect."""
    acme = shell.json("orgs", "create", "acme")
    created = shell.json("keys", "create", "acme")
    invalidations = [
        keyspace.cache_fence(EntityRef("api_key", created["id"])),
        keyspace.cache_fence(EntityRef("organization", acme["id"])),
    ]
    away = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    late = shell.run("keys", "revoke", created["id"], "--last", "--json", REDIS_URL=away)
    assert (late.returncode, json.loads(late.stdout)["id"]) == (0, created["id"])
    warning = (
        "extauthz: warning: Redis could not be told; where PostgreSQL's messages do not arrive either, the change takes"
        " effect within"
    )
    assert late.stderr == f"{warning} API_KEY_CACHE_TTL, 120 seconds\n"
    late = shell.run("orgs", "update", "acme", "--daily-quota", "3", REDIS_URL=away, TENANT_QUOTA_CACHE_TTL="7")
    assert late.stderr == f"{warning} TENANT_QUOTA_CACHE_TTL, 7 seconds\n"
    assert await redis.exists(*invalidations) == 0
    shell.json("keys", "revoke", created["id"])
    shell.json("orgs", "update", "acme", "--daily-quota", "4")
    assert await redis.exists(*invalidations) == 2


def test_migrate(folder: Path, empty_database: str) -> None:
    """`migrate` needs only DATABASE_URL, prints both versions, and may run twice; `--status` changes nothing."""
    shell = Shell(folder, {"DATABASE_URL": empty_database})
    before = shell.run("migrate", "--status", "--json")
    assert before.returncode == 1
    status = json.loads(before.stdout)
    assert status == {"found": None, "known": status["known"], "current": False}
    assert before.stderr == "extauthz: the database has no extauthz schema; run: extauthz migrate\n"
    everything = {"REDIS_URL": "redis://127.0.0.1/0", "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"}
    assert "run: extauthz migrate" in shell.refused(1, "plans", "list", **everything)
    assert shell.json("migrate") == {"from": None, "to": status["known"]}
    assert shell.run("migrate").stdout == f"The schema is up to date: {status['known']}.\n"
    assert shell.json("migrate", "--status") == {**status, "found": status["known"], "current": True}


def test_postgresql_away(shell: Shell) -> None:
    """Without PostgreSQL a command prints at once the address, the reason and a remedy, and no password."""
    port = free_port()
    for command in (["keys", "list", "acme", "--json"], ["migrate"]):
        said = shell.refused(1, *command, DATABASE_URL=f"postgresql://app:hunter2@127.0.0.1:{port}/app")
        assert said == (
            f"PostgreSQL at postgresql://app:***@127.0.0.1:{port}/app cannot be used (Connection refused):"
            " see that it runs and that DATABASE_URL is right"
        )
    nowhere = shell.environ["DATABASE_URL"].rpartition("/")[0] + "/nowhere"
    assert 'database "nowhere" does not exist' in shell.refused(1, "migrate", "--status", DATABASE_URL=nowhere)


def test_interrupted(shell: Shell) -> None:
    """Ctrl-C ends a command that waits for PostgreSQL with status 130 and without a message."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        dsn = f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/app"
        with shell.start("plans", "list", DATABASE_URL=dsn) as command, silent.accept()[0]:
            command.send_signal(signal.SIGINT)
            assert (command.communicate(), command.returncode) == (("", ""), 130)


def test_interrupted_migration(folder: Path, empty_database: str) -> None:
    """Ctrl-C ends a migration, also while it waits for another one, and nothing is changed."""
    shell = Shell(folder, {"DATABASE_URL": empty_database})
    waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(f"SELECT pg_advisory_lock({migrate._LOCK})".encode())
        with shell.start("migrate") as command:
            while connection.execute(waits).fetchone() is None:
                assert command.poll() is None
            command.send_signal(signal.SIGINT)
            assert (command.communicate(), command.returncode) == (("", ""), 130)
    assert shell.json("migrate")["from"] is None


def test_closed_pipe(shell: Shell) -> None:
    """A reader that closes the pipe early, as `head` does, causes no message."""
    with shell.start("check-config") as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == ""
    assert command.returncode == 1


def test_check_config(shell: Shell) -> None:
    """Each effective setting is shown with its source, secrets masked; every mistake has a line."""
    (shell.folder / "extauthz.toml").write_text(
        '[settings]\nworkers = 4\n\n[[routes]]\npath = "/a/**"\nresource = "a"\n'
    )
    said = shell.json(
        "check-config", EXTAUTHZ_CONFIG="extauthz.toml", EXTAUTHZ_ADMIN_TOKEN="hunter2-of-these-tests-77c0f1a92b4e"
    )
    assert said["settings"]["EXTAUTHZ_WORKERS"] == {"value": "4", "source": "file"}
    assert said["settings"]["EXTAUTHZ_ADMIN_TOKEN"] == {"value": "admin:***", "source": "environment"}
    assert said["settings"]["EXTAUTHZ_KEY_PEPPER"]["value"] == "p1:***"
    assert said["settings"]["EXTAUTHZ_ENVOY_PATH_PREFIX"] == {"value": None, "source": "default"}
    assert [(route["path"], route["resource"], route["cost"]) for route in said["routes"]] == [("/a/**", "a", 1)]
    text = shell.run("check-config", "--config", "extauthz.toml", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert re.search(r"^EXTAUTHZ_WORKERS +4 +file$", text.stdout, re.MULTILINE)
    assert re.search(r"^/a/\*\* +any +any +a:by method +1$", text.stdout, re.MULTILINE)
    assert re.search(r"^OTEL_EXPORTER_OTLP_ENDPOINT +http://127.0.0.1:4318 +environment$", text.stdout, re.MULTILINE)
    assert text.stderr == ""
    assert PEPPER not in text.stdout
    (shell.folder / "extauthz.toml").write_text(
        '[[routes]]\npath = "/login"\npublic = true\nrate = "1/min"\nburst = 30\nlimits = "shadow"\n'
    )
    limited = shell.run("check-config", "--config", "extauthz.toml").stdout.splitlines()[-1]
    assert limited.endswith("nothing (public), 1/min and burst 30 by address, limits in shadow  -")
    wrong = shell.run("check-config", EXTAUTHZ_KEY_PEPPER="hunter2", EXTAUTHZ_WORKERS="0")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert [line.split(":")[:2] for line in wrong.stderr.splitlines()] == [
        ["extauthz", " EXTAUTHZ_KEY_PEPPER"],
        ["extauthz", " EXTAUTHZ_WORKERS"],
    ]
    assert "hunter2" not in wrong.stderr


def test_terminal(shell: Shell) -> None:
    """On a terminal there are colours and a next step, and however narrow it is, ids and keys are whole."""
    shell.json("orgs", "create", "acme")
    created = shell.on_terminal("keys", "create", "acme")
    (key,) = set(re.findall(r"xa_live_[0-9A-Za-z]{33}", created))
    assert "\x1b[" in created
    assert f"  curl -i -H 'Authorization: Bearer {key}' http://127.0.0.1:9001/" in created
    assert UUID.search(shell.on_terminal("keys", "list", "acme"))
