"""What commands print of a key in the wrong place, a server that hangs, and a key without permissions."""

import subprocess
import sys
from pathlib import Path

import pytest

from extauthz.demo.postgres import Postgres
from tests.servers.fixtures import paused
from tests.servers.shell import Here, Shell

ID = "6e2b1fdb-aa34-4ce3-b10e-7f2c47957726"
KEY = "xa_live_4XAd33hTkSPZ8rjJSJa67vsMtvP1om4z1"
FOREIGN = "sk_test_abcdefghijklmnopqrstuvwx"  # made of letters, as a title of a column could be


# Arguments of commands, each with a key in a wrong place.
MISPLACED = [
    ("keys", "show", "KEY"),
    ("keys", "list", "KEY"),
    ("keys", "create", "KEY"),
    ("orgs", "show", "KEY"),
    ("orgs", "create", "other", "--plan", "KEY"),
    ("orgs", "update", "acme", "--status", "KEY"),
    ("plans", "show", "KEY"),
    ("plans", "update", "default", "--rate", "KEY"),
    ("plans", "update", "default", "--burst", "KEY"),
    ("audit", "--org", "KEY"),
    ("audit", "--limit", "KEY"),
    ("keys", "create", "acme", "--permission", "KEY"),
    ("keys", "create", "acme", "--permission", "KEY:read"),
    ("keys", "create", "acme", "--permission", "api:KEY"),
    ("keys", "create", "acme", "--metadata", "KEY"),
    ("keys", "create", "acme", "--metadata", "KEY=1", "--metadata", "KEY=2"),
    ("keys", "create", "acme", "--expires-in", "KEY"),
    ("keys", "create", "acme", "--expires-at", "KEY"),
    ("keys", "rotate", ID, "--grace", "KEY"),
    ("keys", "list", "acme", "KEY"),
    ("keys", "import", "acme", "--csv", "KEY"),
    ("keys", "import", "acme", "--csv", "columns.csv"),
    ("keys", "KEY"),
    ("KEY",),
    ("--KEY",),
    ("keys", "list", "acme", "--KEY"),
]


@pytest.fixture
def here(tmp_path: Path, database: str, redis_url: str) -> Here:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "routes.toml").write_text('[[route]]\npath = "/api/**"\nresource = "api"\n')
    pepper = "p1:a pepper of the tests: 32 bytes or more"
    here = Here(folder, {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": pepper})
    here.json("orgs", "create", "acme")
    return here


@pytest.mark.parametrize("key", [KEY, FOREIGN])
def test_a_key_in_the_wrong_place_is_not_repeated(here: Here, key: str, subtests: pytest.Subtests) -> None:
    """A key in place of an id, name, mode, column, value or command is in no error."""
    (here.folder / "columns.csv").write_text(f"key,{key}\n")
    for arguments in MISPLACED:
        with subtests.test(arguments=arguments):
            done = here.run(*(argument.replace("KEY", key) for argument in arguments))
            assert done.returncode in (1, 2)
            assert done.stdout == ""
            assert done.stderr.count("\n") == 1
            assert key[8:] not in done.stderr


@pytest.mark.parametrize("permissions", ["{}", '{"api": []}'])
def test_a_key_without_permissions_is_rotated(here: Here, database: str, permissions: str) -> None:
    """The new key is shown whole, on a terminal too, though there is no request to try it with."""
    import psycopg

    made = here.json("keys", "create", "acme")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE api_keys SET permissions = %s::jsonb", (permissions,))
    shown = Shell(here.folder, here.environ).on_terminal("keys", "rotate", made["id"])
    assert "Store the key now" in shown
    assert "curl" not in shown


def test_the_last_usable_key_names_the_option(here: Here) -> None:
    """The refusal names the option of the command."""
    made = here.json("keys", "create", "acme")
    said = here.refused(1, "keys", "revoke", made["id"])
    assert said == "this is the organization's last usable key; to revoke it all the same: --last"


SILENCE = """
import sys
from extauthz.cli import session
session.SILENCE_TIMEOUT_SECONDS = 0.5
async def work(office):
    await office.tenants.list_plans()
    print("ready", flush=True)
    sys.stdin.readline()
    await office.tenants.list_plans()
session.manage(session.read_settings(None), work, doing="Waiting")
"""


def test_a_server_that_hangs_ends_the_command(here: Here, postgres_server: Postgres) -> None:
    """A command whose PostgreSQL hangs half-way gives up by itself, with status 1 and one line."""
    with subprocess.Popen(
        [sys.executable, "-c", SILENCE],
        env=here.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.readline() == "ready\n"
        with paused(postgres_server):
            command.stdin.write("\n")
            command.stdin.flush()
            assert command.wait(10) == 1
        assert command.stderr.read() == (
            "extauthz: no answer from PostgreSQL within 0.5 seconds; whether the change was made is not known\n"
        )
