"""The drain: a client that keeps sending requests loses none of them."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import pytest

from extauthz.demo.postgres import Postgres
from tests.servers.fixtures import paused
from tests.servers.management_client import KEY_FORMAT
from tests.servers.process import Service, listening, settings

CALLERS = 20
DRAIN = 1
DRAINS = {"EXTAUTHZ_DRAIN_SECONDS": str(DRAIN)}
STORES = ("store_away", "store_up")  # what a busy machine may bring about
REQUEST = b"GET /api HTTP/1.1\r\nHost: api.example.com\r\n\r\n"


class Caller:
    """A proxy with one connection that it keeps; when told to close it, it goes to the next address for good."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self.answered = [asyncio.Event() for _ in addresses]

    async def call(self) -> None:
        """Sends requests until the last address sends it away; a request without an answer is an error."""
        for address, answered in zip(self._addresses, self.answered, strict=True):
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            with suppress(asyncio.CancelledError):
                await self._use(reader, writer, answered)
            writer.close()

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: asyncio.Event) -> None:
        closes = False
        while not closes:
            writer.write(REQUEST)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b"\r\nx-extauthz-decision: no_credentials\r\n" in head
            await reader.readexactly(int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]))
            answered.set()
            closes = b"\r\nconnection: close\r\n" in head
        assert await reader.read() == b""


async def seconds_to_end(service: Service) -> float:
    """From the first signal until it had stopped, by its own log."""
    moments = [datetime.fromisoformat((await service.logged(event))["timestamp"]) for event in ("draining", "stopped")]
    return (moments[1] - moments[0]).total_seconds()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, "1"), (signal.SIGINT, "2")])
async def test_no_request_is_lost(database: str, redis_url: str, number: signal.Signals, workers: str) -> None:
    """Told to stop, it says so at `/readyz`, sends its callers away one answer at a time, and ends with 0.

    As Ctrl-C does, the signal reaches all that share its terminal; the end is as orderly.
    """
    environ = settings(database, redis_url)
    first = listening(environ | DRAINS, "--workers", workers, start_new_session=True)
    async with first as old, listening(environ) as new, asyncio.TaskGroup() as group:
        for service in (old, new):
            await service.until(lambda report: report["status"] == "ready")
        callers = [Caller([await old.address("envoy"), await new.address("envoy")]) for _ in range(CALLERS)]
        calls = [group.create_task(caller.call()) for caller in callers]
        await asyncio.gather(*(caller.answered[0].wait() for caller in callers))
        os.killpg(old.process.pid, number)
        assert await old.until(lambda report: report["status"] == "draining") == 503
        assert (await old.check()).decision == "no_credentials"
        assert (await old.check()).headers["connection"] == "close"
        await asyncio.gather(*(caller.answered[1].wait() for caller in callers))
        assert await old.ended() == 0
        assert await seconds_to_end(old) >= DRAIN
        for call in calls:
            call.cancel()
    assert {record["level"] for record in old.log if record["event"] not in STORES} == {"info"}


async def test_a_second_signal_is_quick(database: str, redis_url: str) -> None:
    """A second signal ends the drain at once, with any number of workers; the end is as orderly."""
    patient = settings(database, redis_url, EXTAUTHZ_DRAIN_SECONDS="60")
    async with listening(patient, "--workers", "2") as service:
        await service.until(lambda report: report["status"] == "ready")
        service.process.terminate()
        assert (await service.logged("draining"))["seconds"] == 60
        assert await service.end() == 0
        assert await seconds_to_end(service) < 6


async def test_a_hung_server_does_not_hold_it_up(database: str, redis_url: str, postgres_server: Postgres) -> None:
    """A stop is not much longer than the drain, though a hung PostgreSQL holds queries."""
    async with listening(settings(database, redis_url) | DRAINS) as service:
        await service.until(lambda report: report["status"] == "ready")
        with paused(postgres_server):
            replies = await asyncio.gather(*(service.check(KEY_FORMAT.issue(bytes([n] * 20))) for n in range(20)))
            assert {reply.decision for reply in replies} == {"authentication_unavailable"}
            assert await service.end() == 0
        assert await seconds_to_end(service) < 3 * DRAIN
    assert {record["level"] for record in service.log if record["event"] not in STORES} == {"info"}
