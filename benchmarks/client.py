"""A load, in a process of its own: requests over keep-alive connections, as fast as answers come or by a timetable.

`python -m benchmarks.client < job.json` prints an `Outcome` as JSON. One thread, epoll, one `send` and one `recv` a
request; of an answer it reads what it must. Nine tenths of what a request costs it are the kernel's.
"""

import gc
import json
import re
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, cycle, islice
from math import inf
from pathlib import Path

from benchmarks.timetable import Timetable, milliseconds

LINGER = 5.0  # seconds that the last answers may take
NUMBER, KEY = "{number}", "{key}"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask, and how: in each `request` a number, which is never the same, and a key take their places.

    Numbers count from `first` on, twelve digits each. `keys` is a file of one a line, or nothing: those from number
    `skip` on, over and over, for so many seconds, or until there were `at_most` requests (0: any number). `rate` a
    second by a timetable; 0: as fast as answers come. `status` is the answer that is wanted.
    """

    host: str
    port: int
    request: str
    keys: str
    connections: int
    seconds: float
    status: int = 200
    rate: float = 0.0
    skip: int = 0
    at_most: int = 0
    first: int = 0


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
        self._requests = requests(job)
        self._wires = [_connect(job) for _ in range(job.connections)]
        self._receive = {wire.fileno(): wire.recv for wire in self._wires}
        self._unfinished: dict[int, bytes] = {}
        self._others = 0
        self._wanted = b" %d " % job.status

    def run(self) -> Outcome:
        """Asks until the time is up, and waits for the last answers."""
        poll, send = select.epoll(), {wire.fileno(): wire.send for wire in self._wires}
        for number in send:
            poll.register(number, select.EPOLLIN)
        idle, started = deque(send), time.perf_counter()
        table = Timetable(started, self._job.seconds, rate=self._job.rate, at_most=self._job.at_most)
        now, following = started, self._requests
        while (due := table.due(now)) < inf or table.waiting:
            while due <= now and idle:
                number = idle.popleft()
                table.send(number, due)
                send[number](next(following))
                due = table.due(now)
            # epoll itself counts in milliseconds, select in microseconds.
            wait = due - now if idle and due < inf else LINGER
            if not select.select([poll], [], [], wait)[0] and wait == LINGER:
                raise TimeoutError(f"{table.waiting} requests were not answered")
            for number, _ in poll.poll(0):
                if self._answered(number):
                    table.answer(number, time.perf_counter())
                    idle.append(number)
            now = time.perf_counter()
        return Outcome(len(table.took), now - started, self._others, *milliseconds(table.took))

    def _answered(self, number: int) -> bool:
        """Reads what is there for a connection; whether that is the end of an answer."""
        data = received = self._receive[number](65_536)
        if number in self._unfinished:
            data = self._unfinished.pop(number) + received
        if missing(data):
            if not received:
                raise ConnectionError("the server closed a connection")
            self._unfinished[number] = data
            return False
        self._others += data[8:13] != self._wanted
        return True


def missing(data: bytes) -> bool:
    """Whether an answer that begins like this goes on."""
    end = data.find(_HEAD_END)
    length = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
    return end < 0 or (length is not None and len(data) < end + len(_HEAD_END) + int(length[1]))


def requests(job: Job) -> Iterator[bytes]:
    """The requests of a job, without end."""
    keys = Path(job.keys).read_bytes().split() if job.keys else [b""]
    form = job.request.replace("%", "%%").replace(NUMBER, "%(number)012d").replace(KEY, "%(key)b").encode()
    following = islice(cycle(keys), job.skip % len(keys), None)
    return (form % {b"number": number, b"key": key} for number, key in zip(count(job.first), following, strict=False))


def _connect(job: Job) -> socket.socket:
    wire = socket.create_connection((job.host, job.port))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


def main() -> None:
    """Does the job on standard input."""
    load = Load(Job(**json.load(sys.stdin)))
    gc.collect()
    gc.disable()  # a pause of the client would be taken for one of the server
    json.dump(asdict(load.run()), sys.stdout)


if __name__ == "__main__":
    main()
