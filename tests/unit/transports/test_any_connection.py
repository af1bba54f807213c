"""On any connection both paths give the same answers."""

import logging

import pytest

from extauthz.transports.http import connection
from tests.generated import in_time, numbers
from tests.unit.transports.story_player import play
from tests.unit.transports.wire_stories import story_of

SUITE_STORIES = 20
PROGRESS_STORIES = 1_000  # after which the log says how far it is

_log = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter is the same twice, and a missing body is not waited for."""
    monkeypatch.setattr("extauthz.service.check.rate_limit.JITTER", 0)
    monkeypatch.setitem(connection._OPTIONS, "lingering_time", 0)


@pytest.mark.fuzz
@in_time()
async def test_both_paths_give_the_same_answers() -> None:
    """Requests in pieces, behind each other and during checks, drains and changes in between: the same bytes in the
    same order, the same decisions and the same end.
    """
    checks = fast = 0
    for number in numbers(SUITE_STORIES):
        story = story_of(number)
        one, one_by_aiohttp = await play(story, fast_path=True)
        other, other_by_aiohttp = await play(story, fast_path=False)
        assert one == other, (number, story)
        checks += len(one.reasons)
        fast += other_by_aiohttp - one_by_aiohttp
        if number % PROGRESS_STORIES == 0:
            _log.info("story %d: %d checks, %d by the fast path, no difference", number, checks, fast)
    assert fast > checks / 8  # else the stories say little
