"""Live tails: each gets matching lines, a slow one loses lines and delays nothing, and their number is bounded."""

import asyncio
from collections.abc import Mapping

import pytest

from extauthz.core.tail import TailFilter
from extauthz.service.tails import LINES_MAX, TAILS_MAX, Tails, TooManyTails

WAIT = 5.0  # seconds


class Watched:
    """Records which tails the workers were notified of."""

    def __init__(self) -> None:
        self.filters: Mapping[int, TailFilter] = {}
        self.tails = Tails(self.watch)

    async def watch(self, filters: Mapping[int, TailFilter]) -> None:
        self.filters = filters


async def test_lines_reach_matching_tails() -> None:
    """Workers are notified of each tail while it is open; a line for a closed one is dropped."""
    watched = Watched()
    async with watched.tails.open(TailFilter()) as first, watched.tails.open(TailFilter("org")) as second:
        one, two = watched.filters
        watched.tails.deliver([one, two], b"a\n")
        watched.tails.deliver([one], b"b\n")
        assert await first.take(WAIT) == (b"a\nb\n", 0)
        assert await second.take(WAIT) == (b"a\n", 0)
    assert watched.filters == {}
    watched.tails.deliver([one, two], b"c\n")
    watched.tails.lose(one, 3)
    assert watched.tails.count_dropped() == 0


async def test_one_that_does_not_read() -> None:
    """A bounded number of lines waits for it; the rest is dropped, counted, and reported to it."""
    watched = Watched()
    async with watched.tails.open(TailFilter()) as tail:
        (number,) = watched.filters
        for _ in range(LINES_MAX + 5):
            watched.tails.deliver([number], b"x\n")
        watched.tails.lose(number, 7)
        assert await tail.take(WAIT) == (b"x\n" * LINES_MAX, 12)
        assert watched.tails.count_dropped() == 5
        watched.tails.deliver([number], b"y\n")
        assert await tail.take(WAIT) == (b"y\n", 0)


async def test_few_at_once() -> None:
    """One more than may be is refused; when one ends, there is room again."""
    watched = Watched()
    opened = [watched.tails.open(TailFilter()) for _ in range(TAILS_MAX)]
    for tail in opened:
        await tail.__aenter__()
    with pytest.raises(TooManyTails, match=f"{TAILS_MAX} tails"):
        async with watched.tails.open(TailFilter()):
            pass
    await opened[0].__aexit__(None, None, None)
    async with watched.tails.open(TailFilter()):
        assert len(watched.filters) == TAILS_MAX


async def test_the_end_of_all() -> None:
    """Each tail that waits for a line learns that none will come."""
    watched = Watched()
    async with watched.tails.open(TailFilter()) as tail:
        waiting = asyncio.create_task(tail.take(WAIT))
        await asyncio.sleep(0)
        watched.tails.close()
        assert await waiting == (b"", 0)
        assert tail.ended
