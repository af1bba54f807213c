"""When the requests of a load are due, and how long each took from then on.

In an open loop a request is due at its time, whether or not a connection is free for it: what waits in front of a slow
server counts, as with clients that do not know of each other. In a closed loop it is due as soon as it can be sent.
"""

from collections.abc import Sequence
from math import inf

SHARES = (0.5, 0.9, 0.99, 0.999)


class Timetable:
    """The requests of one run over connections that have numbers. Times are seconds of any one clock."""

    def __init__(self, start: float, seconds: float, *, rate: float = 0.0, at_most: int = 0) -> None:
        """`rate` a second; 0: as fast as answers come. `at_most` requests; 0: any number within those seconds."""
        self.took: list[float] = []
        self._start = start
        self._seconds = seconds
        self._rate = rate
        self._at_most = at_most
        self._sent = 0
        self._since: dict[int, float] = {}  # connection -> when its request was due

    @property
    def waiting(self) -> int:
        """The number of requests without an answer."""
        return len(self._since)

    def due(self, now: float) -> float:
        """When the next request is to be sent; never, where there is none."""
        if self._sent == self._at_most > 0:
            return inf
        due = self._start + self._sent / self._rate if self._rate else now
        return due if due < self._start + self._seconds else inf

    def send(self, connection: int, due: float) -> None:
        """Notes that the request which was due then has been sent."""
        self._sent += 1
        self._since[connection] = due

    def answer(self, connection: int, now: float) -> None:
        """Notes an answer; KeyError where none is waited for."""
        self.took.append(now - self._since.pop(connection))


def milliseconds(took: Sequence[float]) -> list[float]:
    """What these shares of the times, which are seconds, do not exceed."""
    ordered = sorted(took)
    return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 for share in SHARES]
