"""Hourly quotas: what is taken, refused and counted in an hour of an organization's clock."""

from dataclasses import replace

from extauthz.core.balance import balance
from extauthz.core.calendar import Calendar
from extauthz.core.decision import Deny, conclude
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.reason import Reason
from extauthz.core.spend import MICRO, OTHER_HOUR, Spend, Spent, empty_row
from extauthz.core.token_bucket import State, spend
from tests.limit_names import DAILY, HOURLY, KEY_HOURLY
from tests.unit.core.test_spend import NOW, question

HOUR = 3600


def ask(state: State, asked: Spend, at: float = NOW) -> Spent:
    """The outcome of a spend at `at` (Unix seconds)."""
    spent = spend(state, asked.at(at), round(at * MICRO))
    assert isinstance(spent, Spent)
    return spent


def test_each_hour_has_its_quota() -> None:
    """A spend counts in its own hour alone; the next hour begins at zero."""
    state, asked = State(), question(Limits(hourly_quota=5), cost=2)
    assert [ask(state, asked).refused for _ in range(3)] == [(), (), (HOURLY,)]
    assert ask(state, asked, NOW + HOUR - 1).refused == (HOURLY,)
    assert ask(state, asked, NOW + HOUR).used[HOURLY] == 2


def test_a_key_has_its_own() -> None:
    """Its hour is counted beside its organization's, and its refusal charges neither."""
    state, own = State(), Limits(hourly_quota=1)
    asked = question(Limits(hourly_quota=9), own=own)
    assert [ask(state, asked).refused for _ in range(2)] == [(), (KEY_HOURLY,)]
    other = ask(state, question(Limits(hourly_quota=9), key="key-2"))
    assert (other.used[HOURLY], other.used[KEY_HOURLY]) == (2, 0)


def test_only_where_there_is_one() -> None:
    """Without an hourly quota a row has no fields for it, and no hour is stored."""
    state = State()
    spent = ask(state, question(Limits(daily_quota=5)))
    assert (len(spent.row), state.hours) == (12, {})
    assert HOURLY not in spent.used
    assert ask(state, question(UNLIMITED, own=Limits(hourly_quota=5))).used[KEY_HOURLY] == 1
    assert set(state.hours) == {"key-1"}


def test_a_clock_that_steps_back_gives_nothing() -> None:
    """The hour before is still counted, and so is the one that was under way once the clock is there again."""
    for back in (1, HOUR, 2 * HOUR):
        state, asked = State(), question(Limits(hourly_quota=1))
        assert [ask(state, asked, at).refused for at in (NOW - HOUR, NOW)] == [(), ()]
        assert ask(state, asked, NOW - back).refused == (() if back == 2 * HOUR else (HOURLY,))
        assert ask(state, asked, NOW).refused == (HOURLY,)


def test_values_of_headers() -> None:
    """The size, the hour's length, what is left, and the seconds until the clock shows a full hour."""
    calendar = Calendar("Asia/Kolkata")  # at half past by UTC
    asked = replace(question(Limits(hourly_quota=5, daily_quota=9)), calendar=calendar).at(NOW + 60)
    told = balance(asked, ask(State(), asked, NOW + 60))
    assert [(each.name, each.size, each.window, each.remaining) for each in told.limit_statuses] == [
        (DAILY, 9, 24 * HOUR, 8),
        (HOURLY, 5, HOUR, 4),
    ]
    assert told.limit_statuses[1].reset == HOUR // 2 - 60


def test_the_longest_wait_decides() -> None:
    """Where the day is used up too, its decision is the one; else it is the hour's."""
    state, asked = State(), question(Limits(hourly_quota=1, daily_quota=2))
    ask(state, asked)
    refused = ask(state, asked)
    told = balance(asked.at(NOW), refused)
    assert (refused.refused, told.retry_after) == ((HOURLY,), HOUR)
    assert isinstance(denied := conclude(None, told, 1), Deny)
    assert denied.reason is Reason.HOURLY_QUOTA_EXCEEDED
    ask(state, asked, NOW + HOUR)
    again = ask(state, asked, NOW + HOUR)
    told = balance(asked.at(NOW + HOUR), again)
    assert (set(again.refused), told.binding and told.binding.name) == ({HOURLY, DAILY}, DAILY)


def test_spend_with_windows_of_another_hour() -> None:
    """A worker whose clock is an hour behind sends hours of which the last one matches."""
    asked = question(Limits(hourly_quota=5), NOW - HOUR)
    spent = spend(State(), asked, NOW * MICRO)
    assert isinstance(spent, Spent)
    assert (spent.row[1], spent.row[12]) == (OTHER_HOUR, 3)


def test_of_three_hours_the_later_two_are_kept() -> None:
    """So that a clock that steps back by an hour, and then goes on, finds each count again."""
    state, asked = State(), question(Limits(hourly_quota=9))
    for hours in (1, 0, 2):
        for _ in range(hours + 1):
            ask(state, asked, NOW + hours * HOUR)
    assert [ask(state, asked, NOW + hours * HOUR).used[HOURLY] for hours in (1, 2)] == [3, 4]
    assert ask(state, asked, NOW).used[HOURLY] == 1


def test_a_row_of_nothing() -> None:
    """Nothing is used in windows of one number, with the fields of hours where they are counted."""
    assert empty_row(question(UNLIMITED), 2) == (0, 0, 2, 2, *8 * (0,))
    assert empty_row(question(Limits(hourly_quota=9)), 3) == (0, 0, 3, 3, *8 * (0,), 3, 0, 0)
