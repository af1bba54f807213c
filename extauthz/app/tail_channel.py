"""How decisions come from workers to the supervisor's tails: a socket for each worker, one packet for each line.

The supervisor sends which tails there are, and the worker acknowledges it. A worker never waits for the supervisor:
what does not fit into the socket is dropped, and the supervisor is told how much, as soon as there is room again.
"""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from extauthz.core.tail import TailFilter
from extauthz.service.tails import Tails

PACKET_MAX = 65_536  # bytes
PACKETS_PER_TURN_MAX = 256  # before other work of the loop has its turn
BUFFER_BYTES = 1 << 20
ACKNOWLEDGE_TIMEOUT_SECONDS = 0.5  # that a new tail waits for workers
DROP_REPORT_DELAY_SECONDS = 0.2  # until a worker tries to say again what it dropped

LINE, DROPPED, ACKNOWLEDGED = b"+", b"-", b"="


class WorkerEnd:
    """The worker's end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._sock = sock
        self._dropped: dict[int, int] = {}
        self._dropped_so_far = 0
        self._timer: asyncio.TimerHandle | None = None

    def count_dropped(self) -> int:
        """How many lines were dropped so far, for each tail that wanted them."""
        return self._dropped_so_far

    def listen(self, watch: Callable[[Mapping[int, TailFilter]], None]) -> None:
        """Hands to `watch` which tails there are, whenever that changes."""
        asyncio.get_running_loop().add_reader(self._sock, self._receive, watch)

    def send(self, numbers: Sequence[int], line: bytes) -> None:
        """Sends a line for the tails with these numbers, or drops it."""
        if self._dropped_is_told() and self._put(LINE + ",".join(map(str, numbers)).encode() + b" " + line):
            return
        for number in numbers:
            self._dropped[number] = self._dropped.get(number, 0) + 1
        self._dropped_so_far += len(numbers)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DROP_REPORT_DELAY_SECONDS, self._tell_late)

    def close(self) -> None:
        """Nothing more is sent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _dropped_is_told(self) -> bool:
        """Whether the supervisor has been told of every dropped line by now."""
        if self._dropped and self._put(DROPPED + json.dumps(list(self._dropped.items())).encode()):
            self._dropped.clear()
        return not self._dropped

    def _tell_late(self) -> None:
        """Tells of dropped lines although no other line comes."""
        told = self._dropped_is_told()
        self._timer = (
            None if told else asyncio.get_running_loop().call_later(DROP_REPORT_DELAY_SECONDS, self._tell_late)
        )

    def _put(self, packet: bytes) -> bool:
        try:
            self._sock.send(packet)
        except OSError:  # there is no room, or no supervisor
            return False
        return True

    def _receive(self, watch: Callable[[Mapping[int, TailFilter]], None]) -> None:
        try:
            packet = self._sock.recv(PACKET_MAX)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:  # the supervisor has ended
            asyncio.get_running_loop().remove_reader(self._sock)
            watch({})
            return
        revision, filters = json.loads(packet)
        watch({number: TailFilter(*only) for number, *only in filters})
        self._put(ACKNOWLEDGED + b"%d" % revision)


class SupervisorEnd:
    """The supervisor's ends, of all workers."""

    def __init__(self) -> None:
        self._revision = 0
        self._filters: Mapping[int, TailFilter] = {}
        self._acknowledged: dict[socket.socket, int] = {}
        self._news = asyncio.Event()

    def connect(self, tails: Tails) -> socket.socket:
        """The other end, for a new worker, which is told of the tails that there are."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._acknowledged[ours] = 0
        asyncio.get_running_loop().add_reader(ours, self._receive, ours, tails)
        self._tell(ours)
        return theirs

    async def watch(self, filters: Mapping[int, TailFilter]) -> None:
        """Tells every worker which tails there are, and waits a moment for their acknowledgements."""
        self._revision += 1
        self._filters = filters
        for sock in self._acknowledged:
            self._tell(sock)
        with suppress(TimeoutError):
            async with asyncio.timeout(ACKNOWLEDGE_TIMEOUT_SECONDS):
                while min(self._acknowledged.values(), default=self._revision) < self._revision:
                    self._news.clear()
                    await self._news.wait()

    def _tell(self, sock: socket.socket) -> None:
        command = [self._revision, [[number, *only] for number, only in self._filters.items()]]
        with suppress(OSError):  # the worker has ended, or will be told with the next change
            sock.send(json.dumps(command).encode())

    def _receive(self, sock: socket.socket, tails: Tails) -> None:
        for _ in range(PACKETS_PER_TURN_MAX):
            try:
                packet = sock.recv(PACKET_MAX)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._drop(sock)
                return
            kind, rest = packet[:1], packet[1:]
            if kind == LINE:
                numbers, _, line = rest.partition(b" ")
                tails.deliver([int(number) for number in numbers.split(b",")], line)
            elif kind == DROPPED:
                for number, lines in json.loads(rest):
                    tails.lose(number, lines)
            else:
                self._acknowledged[sock] = int(rest)
                self._news.set()

    def _drop(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()
        del self._acknowledged[sock]
        self._news.set()
