"""The commonest first mistakes with PostgreSQL: the server's own words and what helps, in log, /readyz and command."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors as pg

from extauthz.backends.postgres.error_texts import remedy
from extauthz.backends.postgres.errors import translated
from extauthz.core.errors import StoreUnavailable
from extauthz.demo.folders import temporary_folder
from extauthz.demo.ports import free_port
from extauthz.demo.postgres import Postgres
from tests.integration.test_cli import PEPPER
from tests.servers.process import listening, settings
from tests.servers.shell import Here

WRONG = "sesame-that-is-wrong"
MENDED = "sesame-that-was-set-later"
HERE = 'connection to server at "10.0.0.1", port 5432 failed: '
# The error of libpq, the reason, the reported text, and a part of the remedy.
SAID = (
    (
        f'{HERE}FATAL:  password authentication failed for user "app"\n',
        "authentication",
        'password authentication failed for user "app"',
        "password",
    ),
    (f"{HERE}fe_sendauth: no password supplied", "authentication", "fe_sendauth: no password supplied", "password"),
    (f'{HERE}FATAL:  role "app" does not exist', "authentication", 'role "app" does not exist', "user"),
    (f'{HERE}FATAL:  database "app" does not exist', "connection", 'database "app" does not exist', "create"),
    (
        f'{HERE}FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "app", database "app", no encryption',
        "authentication",
        'no pg_hba.conf entry for host "1.2.3.4", user "app", database "app", no encryption',
        "pg_hba.conf",
    ),
    (f"{HERE}Connection refused\n\tIs the server running?", "connection", "Connection refused", "see that it runs"),
    (
        "failed to resolve host 'nowhere': [Errno -2] Name or service not known",
        "connection",
        "failed to resolve host 'nowhere': [Errno -2] Name or service not known",
        "host in DATABASE_URL",
    ),
    (
        f"{HERE}FATAL:  unsupported startup parameter: options",
        "connection",
        "unsupported startup parameter: options",
        "ignore_startup_parameters",
    ),
    (f"{HERE}FATAL:  sorry, too many clients already", "connection", "sorry, too many clients already", "workers"),
    (
        f"{HERE}server does not support SSL, but SSL was required",
        "connection",
        "server does not support SSL",
        "sslmode",
    ),
    (f"{HERE}FATAL:  the database system is starting up", "connection", "the database system is starting up", "wait"),
)


@pytest.mark.parametrize(("text", "reason", "said", "helps"), SAID, ids=[said for _, _, said, _ in SAID])
def test_words_of_the_server(text: str, reason: str, said: str, helps: str) -> None:
    """The words come through in one line without what stands before them, and with a remedy that fits."""
    with pytest.raises(StoreUnavailable) as away, translated():
        raise psycopg.OperationalError(f"connection failed: {text}")
    assert (away.value.reason, away.value.said.startswith(said)) == (reason, True)
    assert helps in away.value.remedy
    assert "\n" not in str(away.value)


@pytest.mark.parametrize(
    ("error", "reason"), [(pg.ReadOnlySqlTransaction, "read_only"), (pg.DiskFull, "disk_full")], ids=str
)
def test_a_server_that_only_reads(error: type[psycopg.Error], reason: str) -> None:
    """A server that refuses writes has another reason than one that is away, with the server's error."""
    with pytest.raises(StoreUnavailable) as away, translated():
        raise error("cannot execute INSERT in a read-only transaction")
    assert away.value.reason == reason
    assert away.value.said == "cannot execute INSERT in a read-only transaction"


def test_errors_of_the_driver_are_not_repeated() -> None:
    """An error of the driver may hold the address, with its password."""
    with pytest.raises(StoreUnavailable) as away, translated():
        raise psycopg.ProgrammingError(f'missing "=" after "{WRONG}" in connection info string')
    assert WRONG not in away.value.detail
    assert remedy("", "X").endswith("X is right")


@pytest.fixture
def here(tmp_path: Path) -> Here:
    peppers = {"REDIS_URL": "redis://127.0.0.1:1/0", "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"}
    return Here(tmp_path, peppers)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Postgres]:
    """A server that asks for a password."""
    with temporary_folder("extauthz test ") as folder, Postgres(folder / "pg", durable=True) as server:
        yield server


def mistakes(server: Postgres) -> dict[str, str]:
    """Addresses that are wrong, and what is said of each."""
    password = server.dsn.split(":")[2].partition("@")[0]
    who, host = f"postgresql://extauthz:{password}@", f"127.0.0.1:{server.port}"
    return {
        f"postgresql://extauthz:{WRONG}@{host}/postgres": 'password authentication failed for user "extauthz"',
        f"{who}{host}/app": 'database "app" does not exist',
        f"{who}127.0.0.1:{free_port()}/app": "Connection refused",
        f"{who}nowhere.invalid/app": "failed to resolve host 'nowhere.invalid'",
    }


def test_a_command_explains_a_first_mistake(here: Here, guarded: Postgres) -> None:
    """The error of a command has the reason of PostgreSQL and a remedy, and never a password."""
    password = guarded.dsn.split(":")[2].partition("@")[0]
    for dsn, words in mistakes(guarded).items():
        for command in (("migrate",), ("orgs", "create", "Acme")):
            told = here.refused(1, *command, DATABASE_URL=dsn)
            assert words in told
            assert "DATABASE_URL" in told
            assert WRONG not in told
            assert password not in told


def test_a_user_that_may_not_make_tables_gets_a_remedy(here: Here, guarded: Postgres) -> None:
    """Since PostgreSQL 15 a user makes tables in a database of its own only: `migrate` says so, and then works."""
    password = guarded.dsn.split(":")[2].partition("@")[0]
    with psycopg.connect(guarded.dsn, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE newcomer LOGIN PASSWORD '{password}'".encode())
        owner.execute(b"CREATE DATABASE of_another")
        dsn = f"postgresql://newcomer:{password}@127.0.0.1:{guarded.port}/of_another"
        told = here.refused(1, "migrate", DATABASE_URL=dsn)
        assert "permission denied for schema public; " in told
        assert "ALTER DATABASE … OWNER TO …" in told
        owner.execute(b"ALTER DATABASE of_another OWNER TO newcomer")
    here.run("migrate", DATABASE_URL=dsn)


async def test_a_service_explains_a_first_mistake(guarded: Postgres, redis_url: str) -> None:
    """`serve` says it once in the log, and in /readyz as long as it lasts; mended, it is used at once."""
    wrong, words = next(iter(mistakes(guarded).items()))
    dsn = wrong.replace(WRONG, MENDED)
    async with listening(settings(dsn, redis_url)) as service:
        record = await service.logged("store_unfit", store="postgresql")
        assert (record["reason"], record["said"]) == ("authentication", words)
        _, report = await service.readyz()
        assert report["postgresql"] == f"authentication: {words}; {record['remedy']}"
        with psycopg.connect(guarded.dsn, autocommit=True) as owner:
            owner.execute(f"ALTER ROLE extauthz PASSWORD '{MENDED}'".encode())  # as if the setting had been mended
        await service.until(lambda report: report["postgresql"].startswith("schema: the database has no"))
        assert MENDED not in service.text
        told = [record for record in service.log if record["event"] == "store_unfit"]
        assert len([record for record in told if record.get("said") == words]) == 1


async def test_a_mistake_in_the_address_for_notifications_is_explained(
    database: str, guarded: Postgres, redis_url: str
) -> None:
    """A wrong EXTAUTHZ_NOTIFY_DATABASE_URL is reported with the server's words, though all else works."""
    dsn, words = next(iter(mistakes(guarded).items()))
    async with listening(settings(database, redis_url, EXTAUTHZ_NOTIFY_DATABASE_URL=dsn)) as service:
        record = await service.logged("library", logger="extauthz.changes")
        assert record["message"].startswith(f"messages of changes do not arrive: {words}; ")
        assert "EXTAUTHZ_NOTIFY_DATABASE_URL" in record["message"]
        assert WRONG not in service.text
