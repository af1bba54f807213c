"""A load, in a process of its own: requests over keep-alive connections, as fast as answers come or by a timetable.

`python -m tests.bench.client < job.json` prints an `Outcome` as JSON. It holds its requests ready as bytes and reads of
an answer what it must, so that it costs a core less than the servers it asks. By a timetable a request is late from the
moment it was due, whether or not a connection was free: what waits in front of a slow server counts.
"""

import gc
import json
import re
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from math import inf
from pathlib import Path

LINGER = 5.0  # seconds that the last answers may take
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask, and how: `before` and `after` stand round a key in each request, `keys` is a file of one a line.

    The keys from number `skip` on, over and over, for so many seconds, or until there were `at_most` requests (0: any
    number). `rate` a second by a timetable; 0: as fast as answers come. `status` is the answer that is wanted.
    """

    host: str
    port: int
    before: str
    after: str
    keys: str
    connections: int
    seconds: float
    status: int = 200
    rate: float = 0.0
    skip: int = 0
    at_most: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Requests answered, in how many seconds, how many by another status; how long they took, in milliseconds."""

    requests: int
    seconds: float
    others: int
    p50: float
    p90: float
    p99: float
    p999: float


class Load:
    """One run of a job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        requests = _requests(job)
        self._requests = islice(cycle(requests), job.skip % len(requests), None)
        self._asked = 0
        self._started = 0.0
        self._wires = {wire.fileno(): wire for wire in (_connect(job) for _ in range(job.connections))}
        self._since: dict[int, float] = {}  # connection -> when its request was sent, or due
        self._unfinished: dict[int, bytes] = {}
        self._idle = deque(self._wires)
        self._took: list[float] = []
        self._others = 0
        self._wanted = b" %d " % job.status

    def run(self) -> Outcome:
        """Asks until the time is up, and waits for the last answers."""
        poll = select.epoll()
        for number in self._wires:
            poll.register(number, select.EPOLLIN)
        self._started = now = time.perf_counter()
        end = self._started + self._job.seconds
        while self._since or self._due(now) < end:
            while self._idle and (due := self._due(now)) <= now and due < end:
                self._ask(self._idle.popleft(), due)
            # epoll itself counts in milliseconds, select in microseconds.
            wait = max(due - now, 0.0) if self._idle and (due := self._due(now)) < end else LINGER
            if not select.select([poll], [], [], wait)[0] and wait == LINGER:
                raise TimeoutError(f"{len(self._since)} requests were not answered")
            for number, _ in poll.poll(0):
                self._read(number)
            now = time.perf_counter()
        return self._outcome(now - self._started)

    def _due(self, now: float) -> float:
        """When the next request is to be sent; never, where there is none."""
        if self._asked == self._job.at_most > 0:
            return inf
        return self._started + self._asked / self._job.rate if self._job.rate else now

    def _ask(self, number: int, since: float) -> None:
        self._asked += 1
        self._since[number] = since
        self._wires[number].send(next(self._requests))

    def _read(self, number: int) -> None:
        data = self._unfinished.pop(number, b"") + self._wires[number].recv(65_536)
        head = data.find(_HEAD_END)
        length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
        if head < 0 or (length and len(data) < head + 4 + int(length[1])):
            if not data or number not in self._since:
                raise ConnectionError("the server closed a connection")
            self._unfinished[number] = data
            return
        self._took.append(time.perf_counter() - self._since.pop(number))
        self._others += data[8:13] != self._wanted
        self._idle.append(number)

    def _outcome(self, seconds: float) -> Outcome:
        took = sorted(self._took)
        shares = (took[min(len(took) - 1, int(share * len(took)))] * 1000 for share in (0.5, 0.9, 0.99, 0.999))
        return Outcome(len(took), seconds, self._others, *shares)


def _connect(job: Job) -> socket.socket:
    wire = socket.create_connection((job.host, job.port))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


def _requests(job: Job) -> Sequence[bytes]:
    keys = Path(job.keys).read_text().split() if job.keys else [""]
    return [f"{job.before}{key}{job.after}".encode() for key in keys]


def main() -> None:
    """Does the job on standard input."""
    load = Load(Job(**json.load(sys.stdin)))
    gc.collect()
    gc.disable()  # a pause of ours would be taken for one of the server
    json.dump(asdict(load.run()), sys.stdout)


if __name__ == "__main__":
    main()
