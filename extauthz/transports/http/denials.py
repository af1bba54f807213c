"""Denials of the fast path, gathered until they are counted with all others: to count each by itself costs more."""

from collections import deque
from collections.abc import Callable, Iterator

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import deny
from extauthz.core.observers import DenialObserver
from extauthz.core.reason import Reason
from extauthz.core.rejections import SAMPLES, SPAN
from extauthz.core.request import CheckRequest
from extauthz.service.check.remembered import Remembered
from extauthz.transports.http.dialect import Dialect
from extauthz.transports.http.plain import PlainRequest

GROUPS_MAX = 256  # that are gathered at once
SAMPLE_BYTES_MAX = 2_048  # a longer request is not kept as a sample: samples wait for some seconds

_Name = tuple[Remembered, Reason, str]


class _Group:
    """Denials of one kind."""

    __slots__ = ("last", "requests", "times")

    def __init__(self) -> None:
        self.times = 0
        self.last: tuple[bytes, float] = b"", 0.0
        self.requests: deque[tuple[bytes, float]] = deque(maxlen=SAMPLES)


class Denials:
    """Denials of one listener by what they follow from and, where no organization is known, by client address."""

    def __init__(
        self, dialect: Dialect, read: Callable[[bytes, float], CheckRequest], observer: DenialObserver
    ) -> None:
        """`read` makes the request of bytes that came at a time (Unix seconds)."""
        self._dialect = dialect
        self._read = read
        self._observer = observer
        self._groups: dict[_Name, _Group] = {}
        self._counting: deque[tuple[_Name, _Group]] = deque()  # groups that the observer is still to be told of
        self._span_ends = 0.0

    def note(self, found: Remembered, reason: Reason, data: bytes, now: float) -> None:
        """A request that came at `now` (Unix seconds) was refused."""
        if not self._span_ends - SPAN <= now < self._span_ends:
            self._count_now()
            self._span_ends = (now // SPAN + 1) * SPAN
        name = found, reason, "" if found.subject is not None else self._dialect.client_address(PlainRequest(data))
        group = self._groups.get(name)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                self._count_now()
            group = self._groups[name] = _Group()
        group.times += 1
        if len(data) <= SAMPLE_BYTES_MAX:
            group.requests.append((data, now))
        else:
            group.last = data, now

    def count(self) -> Iterator[None]:
        """Tells the observer of what was gathered, of one group at each step; what is left is told the next time."""
        self._counting += self._groups.items()
        self._groups = {}
        while self._counting:
            (found, reason, _), group = self._counting.popleft()  # of one name, those that came first
            requests = [self._read(data, now) for data, now in group.requests or (group.last,)]
            last = requests[-1]
            result = CheckResult(
                self._dialect.name, last, last.now, deny(reason), found.route, found.subject, found.why
            )
            self._observer.denied(result, group.times, requests)
            yield

    def _count_now(self) -> None:
        for _ in self.count():
            pass
