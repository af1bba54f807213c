"""`extauthz serve`: what it refuses, where it listens, and what it logs of its stores."""

import asyncio
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from extauthz.backends.postgres.schema import KNOWN
from extauthz.demo.ports import free_port
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from extauthz.transports.http.listen import AddressTaken, bind
from tests.servers.fixtures import stopped
from tests.servers.management_client import ManagementClient
from tests.servers.process import listening, settings, started

SECRET = "a-word-that-nobody-may-read-anywhere"


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (None, "the database has no extauthz schema; run: extauthz migrate"),
        ("9999", f"the schema is at version 9999, newer than the {KNOWN} of this extauthz; upgrade extauthz"),
    ],
)
async def test_an_unknown_schema_is_refused(empty_database: str, redis_url: str, found: str | None, line: str) -> None:
    """With a database of an unsupported version, the start ends with 1 and one line with the remedy."""
    if found is not None:
        with psycopg.connect(empty_database) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num text)")
            connection.execute("INSERT INTO alembic_version VALUES (%s)", [found])
    async with started(settings(empty_database, redis_url)) as service:
        assert await service.ended() == 1
    assert service.text == f"extauthz: {line}\n"


async def test_mistakes_are_named_one_by_one() -> None:
    """Wrong settings end the start with 2 and a line for each, and no line repeats a secret."""
    environ = settings(f"mysql://{SECRET}@db/x", "redis://localhost") | {
        "EXTAUTHZ_LOG_LEVEL": "loud",
        "EXTAUTHZ_NGINX_LISTEN": "9002",
        "EXTAUTHZ_LISTEN": "127.0.0.1:9001",
    }
    async with started(environ, "--config", "/nowhere/extauthz.toml") as service:
        assert await service.ended() == 2
    assert SECRET not in service.text
    named = ("DATABASE_URL", "EXTAUTHZ_LOG_LEVEL", "EXTAUTHZ_NGINX_LISTEN", "EXTAUTHZ_LISTEN", "/nowhere/extauthz.toml")
    assert len(service.lines) == len(named)
    for name in named:
        assert len([line for line in service.lines if line.startswith(f"extauthz: {name}: ")]) == 1, service.text


async def test_an_address_that_is_taken(database: str, redis_url: str) -> None:
    """Where another process listens, the start ends with 1 and one line with the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        async with started(settings(database, redis_url, EXTAUTHZ_ENVOY_LISTEN=at)) as service:
            assert await service.ended() == 1
    assert service.text == f"extauthz: cannot listen on {at}: Address already in use\n"


async def test_two_that_begin_at_the_same_moment(database: str, redis_url: str, redis_server: Redis) -> None:
    """Both are bound to the address while they wait for Redis; one of them listens, the other one says why it ends."""
    off = {f"EXTAUTHZ_{name}_LISTEN": "off" for name in ("NGINX", "FORWARD", "USAGE", "ADMIN")}
    at, two = f"127.0.0.1:{free_port()}", ("--workers", "2")
    environ = settings(database, redis_url, EXTAUTHZ_ENVOY_LISTEN=at, RATE_LIMIT_ON_REDIS_DOWN="closed", **off)
    with stopped(redis_server):
        async with started(environ, *two) as one, started(environ, *two) as other:
            ends = [asyncio.create_task(service.ended()) for service in (one, other)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            assert [end.result() for end in ends if end.done()] == [1]
            loser, winner = (one, other) if ends[0].done() else (other, one)
            (line,) = loser.lines
            assert line.startswith("extauthz: ")
            assert at in line
            assert (await winner.check()).status == 401
            ends[1 if ends[0].done() else 0].cancel()


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64, "two..dots", "192.0.2.1"])
def test_a_host_that_is_not_local(host: str) -> None:
    """An unknown or invalid host name, and another machine's address, are named with what is wrong."""
    with pytest.raises(AddressTaken, match=rf"^cannot listen on {host}:9001: [^\n]{{8,}}$"):
        bind(host, 9001, None)


def test_a_socket_of_a_file_system(tmp_path: Path) -> None:
    """A socket in use and a path that is too long are refused; a socket without a listener is replaced."""
    path = tmp_path / "socket"
    with bind("", 0, str(path)), pytest.raises(AddressTaken, match="socket: Address already in use"):
        bind("", 0, str(path))
    bind("", 0, str(path)).close()
    with pytest.raises(AddressTaken, match="path too long"):
        bind("", 0, f"/{'x' * 200}")


async def test_listeners(database: str, redis_url: str, tmp_path: Path) -> None:
    """A listener is off, on IPv6 or on a Unix socket, also where a killed process left its socket; each only checks."""
    path = tmp_path / "a socket"
    with_secrets = (database.replace("@", f":{SECRET}@"), redis_url.replace("://", f"://:{SECRET}@"))
    environ = settings(*with_secrets) | {
        "EXTAUTHZ_ENVOY_LISTEN": f"unix:{path}",
        "EXTAUTHZ_NGINX_LISTEN": "[::1]:0",
        "EXTAUTHZ_FORWARD_LISTEN": "off",
    }
    async with listening(environ) as service:
        assert await service.end(signal.SIGKILL) == -signal.SIGKILL
    assert path.is_socket()
    async with listening(environ) as service:
        at = await service.logged("listening")
        assert at["envoy"] == f"unix:{path}"
        assert at["nginx"].startswith("[::1]:")
        assert "forward" not in at
        for target in ("/livez", "/readyz", "/metrics", "/v1/keys", "/"):
            for method in ("GET", "POST", "OPTIONS", "PROPFIND"):
                reply = await service.get("envoy", target, method=method)
                assert (reply.status, reply.decision) == (401, "no_credentials")
        assert (await service.get("nginx", "/readyz")).decision == "bad_proxy_request"
        for target, status in {"/livez": 200, "/api": 404}.items():
            reply = await service.get("admin", target, authorization=f"Bearer {SECRET}")
            assert (reply.status, reply.decision) == (status, "")
    assert SECRET not in service.text


async def test_stores_may_come_later(
    database: str, redis_url: str, operator: ManagementClient, postgres_server: Postgres, redis_server: Redis
) -> None:
    """It starts while PostgreSQL and Redis are away, logs which it misses, and is ready once both came."""
    _, key = await operator.new_key("acme")
    with ExitStack() as postgresql, ExitStack() as redis:
        postgresql.enter_context(stopped(postgres_server))
        redis.enter_context(stopped(redis_server))
        async with listening(settings(database, redis_url)) as service:
            status, report = await service.readyz()
            assert (status, report["status"]) == (503, "not ready")
            assert "ok" not in (report["postgresql"], report["redis"])
            assert (await service.get("admin", "/livez")).status == 200
            reply = await service.check(key)
            assert (reply.status, reply.decision) == (503, "authentication_unavailable")
            redis.close()
            assert await service.until(lambda report: report["redis"] == "ok") == 503
            assert (await service.readyz())[1]["postgresql"] != "ok"
            postgresql.close()
            assert await service.until(lambda report: report["status"] == "ready") == 200
            assert (await service.check(key)).decision == "allow"
            assert (await service.metrics())["redis_down_events_total"] == 0


async def test_stores_may_go_away(
    database: str, redis_url: str, operator: ManagementClient, postgres_server: Postgres, redis_server: Redis
) -> None:
    """A later loss is named, also without requests, and logged once; without Redis `closed` is not ready."""
    _, key = await operator.new_key("acme")
    environs = [settings(database, redis_url, RATE_LIMIT_ON_REDIS_DOWN=policy) for policy in ("open", "closed")]
    async with listening(environs[0]) as tolerant, listening(environs[1]) as strict:
        both = (tolerant, strict)
        for service in both:
            assert await service.until(lambda report: report["status"] == "ready") == 200
            assert (await service.check(key)).decision == "allow"
        with stopped(postgres_server):
            for service in both:
                assert await service.until(lambda report: report["postgresql"] != "ok") == 200
                assert (await service.check(key)).decision == "allow"
        for service in both:
            assert await service.until(lambda report: report["postgresql"] == "ok") == 200
        with stopped(redis_server):
            assert await tolerant.until(lambda report: report["redis"] != "ok") == 200
            assert [(await tolerant.check(key)).decision for _ in range(3)] == ["allow"] * 3
            assert await strict.until(lambda report: report["redis"] != "ok") == 503
            assert [(await strict.check(key)).decision for _ in range(3)] == ["limits_unavailable"] * 3
        for service in both:
            assert await service.until(lambda report: report["redis"] == "ok") == 200
            reply = await service.check(key)
            assert (reply.decision, reply.headers.get("x-extauthz-degraded")) == ("allow", None)
            away = [record["store"] for record in service.log if record["event"] == "store_away"]
            assert set(away) == {"postgresql", "redis"}
            assert (await service.metrics())["redis_down_events_total"] == away.count("redis")


async def test_a_log_without_a_reader(
    database: str, redis_url: str, operator: ManagementClient, redis_server: Redis
) -> None:
    """Where the reader of the log is gone, the service goes on, also when there are events to log."""
    _, key = await operator.new_key("acme")
    async with listening(settings(database, redis_url)) as service:
        await service.until(lambda report: report["status"] == "ready")
        service.stop_reading()
        with stopped(redis_server):
            await service.until(lambda report: report["redis"] != "ok")
            assert (await service.check(key)).headers["x-extauthz-degraded"] == "limits"
        await service.until(lambda report: report["redis"] == "ok")
        assert "x-extauthz-degraded" not in (await service.check(key)).headers
        service.process.terminate()
        assert await service.process.wait() == 0
