"""How valid keys and memory fare while unknown keys come in crowds.

10,000 distinct unknown keys at one instant, then 2,000 a second for 30 s, each time beside 200 good keys that were not
used yet; and 300 checks at one instant on a route without cache. Goal: every unknown key is 401, every good one 200.
"""

import asyncio
import os
import secrets
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path

from benchmarks.ground import PLENTY, SUFFIX, Ground, ground, percentile, table
from extauthz.app import management
from extauthz.app.process import allow_connections
from extauthz.core.management import KeyTerms

UNKNOWN, GOOD, UNCACHED = 10_000, 200, 300
RATE, SECONDS, CONNECTIONS = 2_000, 30, 256
PATIENCE = 60.0  # seconds that an answer may take
GOAL_MIB = 100  # by which the peak of memory may be above what so many idle connections take
CONFIGURATION = """
[[routes]]
path = "/vault/**"
resource = "api"
cache = false
[[routes]]
path = "/**"
resource = "api"
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: when it is due (seconds from the start), what for, and whether its key is a good one."""

    due: float
    path: str
    key: str
    good: bool


@dataclass(slots=True)
class Answers:
    """How often each status came, and how long it took (seconds), for keys of one kind."""

    statuses: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)


class Crowd:
    """Keep-alive connections of a proxy, each with at most one request under way."""

    def __init__(self, at: Ground, count: int) -> None:
        self._poll = select.epoll()
        self._wires: dict[int, socket.socket] = {}
        for _ in range(count):
            wire = socket.create_connection((at.host, at.port), timeout=PATIENCE)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._wires[wire.fileno()] = wire
            self._poll.register(wire, select.EPOLLIN)
        self._idle = list(self._wires)
        self._under_way: dict[int, tuple[Ask, float]] = {}

    def at_once(self, asks: Sequence[Ask], pids: Sequence[int]) -> Mapping[bool, Answers]:
        """All of them at one instant: the service is stopped until the last one is there."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for ask in asks:
            self._send(ask, 0.0)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        return self._answers([], time.monotonic())

    def by_time(self, asks: Sequence[Ask]) -> Mapping[bool, Answers]:
        """Each when it is due, as far as a connection is free: it is late from then on all the same."""
        return self._answers(asks, time.monotonic())

    def close(self) -> None:
        """Ends all connections."""
        for wire in self._wires.values():
            wire.close()

    def _send(self, ask: Ask, due: float) -> None:
        number = self._idle.pop()
        head = f"GET {ask.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {ask.key}\r\n\r\n"
        self._wires[number].send(head.encode())
        self._under_way[number] = ask, due

    def _answers(self, asks: Sequence[Ask], started: float) -> Mapping[bool, Answers]:
        answers = {True: Answers(), False: Answers()}
        wanted = iter([*asks, None])
        ask, last = next(wanted), time.monotonic()
        while ask is not None or self._under_way:
            now = time.monotonic() - started
            while ask is not None and ask.due <= now and self._idle:
                self._send(ask, ask.due)
                ask = next(wanted)
            pause = max(ask.due - now, 0.0) if ask is not None and self._idle else 1.0
            for number, _ in self._poll.poll(pause):
                last = time.monotonic()
                status = self._read(number)
                asked, due = self._under_way.pop(number)
                answers[asked.good].statuses[status] += 1
                answers[asked.good].took.append(last - started - due)
                self._idle.append(number)
            if time.monotonic() - last > PATIENCE:
                raise TimeoutError(f"{len(self._under_way)} requests were not answered")
        return answers

    def _read(self, number: int) -> int:
        data = b""
        while SUFFIX not in data:
            more = self._wires[number].recv(65_536)
            if not more:
                raise ConnectionError("the service closed a connection")
            data += more
        head, _, body = data.partition(SUFFIX)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        while len(body) < length:
            body += self._wires[number].recv(65_536)
        return int(head[9:12])


async def main() -> None:
    """Measures and prints."""
    allow_connections()
    rows, met = [], True
    async with ground(workers=1, configuration=CONFIGURATION) as at:
        good = await _furnish(at, 2 * GOOD + 1)
        (worker,) = at.workers()
        crowd = await asyncio.to_thread(Crowd, at, UNKNOWN + GOOD)
        idle = _mib(worker, "VmRSS")
        cases = {
            f"{UNKNOWN:,} at one instant": lambda: crowd.at_once(_instant(at, good[:GOOD]), [worker]),
            f"{RATE:,} a second for {SECONDS} s": lambda: crowd.by_time(_timetable(at, good[GOOD : 2 * GOOD])),
            f"{UNCACHED} at one instant, without cache": lambda: crowd.at_once(
                [Ask(0, "/vault/1", good[-1], good=True)] * UNCACHED, [worker]
            ),
        }
        for name, run in cases.items():
            answers = await asyncio.to_thread(run)
            peak = _mib(worker, "VmHWM") - idle
            met &= not answers[False].statuses.keys() - {401} and not answers[True].statuses.keys() - {200}
            met &= peak <= GOAL_MIB
            rows += [
                _row(name, kind, each, peak) for kind, each in (("good", answers[True]), ("unknown", answers[False]))
            ]
        crowd.close()
        away = [record for record in at.service.log if record["event"] == "store_away"]
    table(("", "keys", "answers", "p50", "p99", "max", "memory above idle"), rows)
    met &= not away
    print(f"{UNKNOWN + GOOD:,} idle connections take {idle:.0f} MiB; a store was taken for away {len(away)} times.")
    print(f"Goal: only 401 for unknown keys and 200 for good ones, {GOAL_MIB} MiB: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


async def _furnish(at: Ground, count: int) -> list[str]:
    async with management.management(at.settings, actor="bench") as operator:
        await operator.tenants.create_plan("plenty", PLENTY)
        acme = await operator.tenants.create_organization("acme", "plenty")
        return [(await operator.keys.create(acme.id, KeyTerms()))[1] for _ in range(count)]


def _nobodys(at: Ground, count: int) -> list[str]:
    """Keys in the format of extauthz, with right check characters: only a look-up shows that they do not exist."""
    return [at.key_format.issue(secrets.token_bytes(20)) for _ in range(count)]


def _instant(at: Ground, good: Sequence[str]) -> list[Ask]:
    """The good ones spread among the others."""
    unknown = [Ask(number, "/", key, good=False) for number, key in enumerate(_nobodys(at, UNKNOWN))]
    step = UNKNOWN / len(good)
    return list(merge(unknown, [Ask(n * step, "/", key, good=True) for n, key in enumerate(good)], key=lambda a: a.due))


def _timetable(at: Ground, good: Sequence[str]) -> list[Ask]:
    unknown = [Ask(n / RATE, "/", key, good=False) for n, key in enumerate(_nobodys(at, RATE * SECONDS))]
    pause = SECONDS / len(good)
    return list(
        merge(unknown, [Ask(n * pause, "/", key, good=True) for n, key in enumerate(good)], key=lambda a: a.due)
    )


def _row(name: str, kind: str, answers: Answers, peak: float) -> tuple[str, ...]:
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(answers.statuses.items()))
    times = (
        [f"{percentile(answers.took, share) * 1000:.0f} ms" for share in (0.5, 0.99, 1.0)] if answers.took else [""] * 3
    )
    return (name, kind, statuses, *times, f"{peak:.0f} MiB")


def _mib(pid: int, field: str) -> float:
    """A figure of the kernel's on a process's memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


if __name__ == "__main__":
    asyncio.run(main())
