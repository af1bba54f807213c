"""The one connection of all checks: how it logs in, keeps answers apart and comes back, on a real server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import exceptions

from extauthz.backends.redis.connection import RedisConnection, open_connection
from extauthz.core.errors import StoreUnavailable
from extauthz.demo.folders import temporary_folder
from extauthz.demo.redis import Redis as Server
from tests.servers.tls_door import TLS, join, tls_before


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server with a password."""
    with temporary_folder("extauthz test ") as folder, Server(folder / "redis", durable=True) as server:
        yield server


async def reason_of(redis_connection: RedisConnection) -> str:
    with pytest.raises(StoreUnavailable) as away:
        await redis_connection.probe()
    return away.value.reason


async def test_it_logs_in(locked: Server) -> None:
    """Password, user and database of the address are used, as the client library would use them."""
    _, _, password = locked.redis_url.rpartition("@")[0].rpartition(":")
    where = f"127.0.0.1:{locked.port}"
    for url in (
        f"redis://:{password}@{where}/3",
        f"redis://default:{password}@{where}/3",
        f"redis://{where}/3?password={password}",
    ):
        async with open_connection(url) as redis_connection:
            await redis_connection.probe()
            assert b" db=3 " in await redis_connection.execute_command("CLIENT", "INFO")


async def test_a_refused_password(locked: Server) -> None:
    """A wrong password, and none, has its own reason; the password is in no error."""
    for url in (f"redis://:sesame@127.0.0.1:{locked.port}/0", f"redis://127.0.0.1:{locked.port}/0"):
        async with open_connection(url) as redis_connection:
            assert await reason_of(redis_connection) == "authentication"
            with pytest.raises(exceptions.RedisError) as refusal:
                await redis_connection.execute_command("GET", "a")
            assert "sesame" not in str(refusal.value)


async def test_a_password_that_was_not_asked_for_is_named_so(redis_server: Server) -> None:
    """A server without a password refuses one, with the reason `authentication`."""
    async with open_connection(f"redis://:sesame@127.0.0.1:{redis_server.port}/0") as redis_connection:
        assert await reason_of(redis_connection) == "authentication"


async def test_each_gets_its_own_answer(redis_url: str) -> None:
    """A thousand commands of one turn go out together; each caller gets its own answer or error."""
    async with open_connection(redis_url) as redis_connection:
        asked = [
            redis_connection.execute_command("ECHO", number)
            if number % 3
            else redis_connection.execute_command("EVALSHA", "0" * 40, 0)
            for number in range(1000)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for number, answer in enumerate(answers):
            assert isinstance(answer, exceptions.NoScriptError) if number % 3 == 0 else answer == b"%d" % number
        clients = await redis_connection.execute_command("CLIENT", "LIST")
        assert clients.count(b"\n") == 1


async def test_a_long_answer_comes_whole(redis_url: str) -> None:
    """Answers that arrive in many pieces are put together."""
    async with open_connection(redis_url) as redis_connection:
        await redis_connection.execute_command("SET", "long", b"x" * 5_000_000)
        first, second = await asyncio.gather(
            redis_connection.execute_command("GET", "long"), redis_connection.execute_command("ECHO", "next")
        )
        assert (len(first), second) == (5_000_000, b"next")


async def test_first_callers_share_one_connection_and_its_failure(redis_server: Server, redis_url: str) -> None:
    """Callers wait for the same connection while it opens; where it cannot be had, all of them fail."""
    async with open_connection(redis_url) as redis_connection:
        redis_server.stop()
        try:
            outcomes = await asyncio.gather(
                *(redis_connection.execute_command("PING") for _ in range(10)), return_exceptions=True
            )
        finally:
            redis_server.start()
        assert {type(outcome) for outcome in outcomes} == {ConnectionRefusedError}
        assert await asyncio.gather(*(redis_connection.execute_command("PING") for _ in range(10))) == [b"PONG"] * 10


async def test_a_server_that_restarts_is_found_again(redis_server: Server, redis_url: str) -> None:
    """The next command after a restart opens a new connection."""
    async with open_connection(redis_url) as redis_connection:
        await redis_connection.probe()
        await asyncio.to_thread(redis_server.stop)  # the loop goes on, and sees the connection end
        await asyncio.to_thread(redis_server.start)
        await redis_connection.probe()


async def test_over_tls(redis_server: Server) -> None:
    """`rediss://` checks the server's certificate, and talks only to one that it trusts."""
    async with tls_before(redis_server.port) as port:
        async with open_connection(f"rediss://localhost:{port}/0?ssl_ca_certs={TLS / 'cert.pem'}") as redis_connection:
            await redis_connection.probe()
        async with open_connection(f"rediss://localhost:{port}/0") as stranger:
            assert await reason_of(stranger) == "connection"


async def test_by_a_unix_socket(tmp_path: Path, redis_server: Server) -> None:
    """`unix://` reaches a server on this machine."""
    path = Path("/tmp") / f"extauthz-{redis_server.port}.sock" if len(str(tmp_path)) > 80 else tmp_path / "redis.sock"

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await join(reader, writer, redis_server.port)

    server = await asyncio.start_unix_server(pipe, path)
    try:
        async with open_connection(f"unix://{path}?db=2") as redis_connection:
            await redis_connection.probe()
            assert b" db=2 " in await redis_connection.execute_command("CLIENT", "INFO")
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def test_a_connection_that_was_replaced_ends_with_the_others(redis_url: str) -> None:
    """It may still bring its answers for a while, and not longer than what it belongs to."""
    async with open_connection(redis_url) as redis_connection:
        await redis_connection.probe()
        answer = asyncio.create_task(redis_connection.execute_command("BLPOP", "nothing", "0"))
        await asyncio.sleep(0)  # the task has asked
        redis_connection._leave()
    with pytest.raises(exceptions.ConnectionError):
        await answer
