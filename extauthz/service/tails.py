"""Live tails: clients that watch decisions as they are made. A slow one loses lines and delays nothing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count

from extauthz.core.errors import ExtauthzError
from extauthz.core.tail import TailFilter

TAILS_MAX = 8  # at once
LINES_MAX = 1000  # that wait for one client

Watch = Callable[[Mapping[int, TailFilter]], Awaitable[None]]


class TooManyTails(ExtauthzError):
    """As many clients watch already as may at once."""


class Tail:
    """The lines that wait for one client, and how many were dropped since it was last told."""

    def __init__(self) -> None:
        self.ended = False
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._news = asyncio.Event()

    def put(self, line: bytes) -> bool:
        """Takes a line, if there is room for one more."""
        if len(self._lines) >= LINES_MAX:
            self.lose(1)
            return False
        self._lines.append(line)
        self._news.set()
        return True

    def lose(self, lines: int) -> None:
        """So many lines were dropped."""
        self._dropped += lines
        self._news.set()

    def end(self) -> None:
        """There will be no more lines."""
        self.ended = True
        self._news.set()

    async def take(self, seconds: float) -> tuple[bytes, int]:
        """All lines that wait, and how many were dropped; waits at most so long for either."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return b"", 0
        self._news.clear()
        lines, dropped = b"".join(self._lines), self._dropped
        self._lines.clear()
        self._dropped = 0
        return lines, dropped


class Tails:
    """All tails of an instance, by their numbers."""

    def __init__(self, watch: Watch) -> None:
        """`watch` tells every worker which tails there are."""
        self._watch = watch
        self._dropped = 0
        self._tails: dict[int, Tail] = {}
        self._filters: dict[int, TailFilter] = {}
        self._numbers = count(1)

    def count_dropped(self) -> int:
        """How many lines were dropped here so far, for each tail that wanted them."""
        return self._dropped

    @asynccontextmanager
    async def open(self, only: TailFilter) -> AsyncIterator[Tail]:
        """A tail until left, told of all that is decided from the first moment on. Raises TooManyTails."""
        if len(self._tails) >= TAILS_MAX:
            raise TooManyTails(f"{TAILS_MAX} tails are open already, which is as many as may be; end one of them")
        number = next(self._numbers)
        tail = self._tails[number] = Tail()
        self._filters[number] = only
        try:
            await self._watch(dict(self._filters))
            yield tail
        finally:
            del self._tails[number], self._filters[number]
            await self._watch(dict(self._filters))

    def deliver(self, numbers: Sequence[int], line: bytes) -> None:
        """Hands a line to the tails with these numbers; one may have ended meanwhile."""
        for number in numbers:
            tail = self._tails.get(number)
            if tail is not None and not tail.put(line):
                self._dropped += 1

    def lose(self, number: int, lines: int) -> None:
        """A worker had to drop so many lines of a tail, and has counted them."""
        tail = self._tails.get(number)
        if tail is not None:
            tail.lose(lines)

    def close(self) -> None:
        """Ends all tails."""
        for tail in self._tails.values():
            tail.end()
