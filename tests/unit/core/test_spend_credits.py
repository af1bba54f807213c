"""Credits: what is taken of a count that does not renew, and what is said of it."""

from extauthz.core.balance import balance
from extauthz.core.decision import Deny, conclude
from extauthz.core.headers import IETF, X, rate_limit_headers
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.token_bucket import State
from tests.limit_names import BURST, KEY_CREDITS, OWN_CREDITS
from tests.unit.core.test_spend import NOW, question
from tests.unit.core.test_spend_hours import ask

YEAR = 365 * 86_400


def test_credits_do_not_renew() -> None:
    """What is spent stays spent, in whatever day, month or year, until more are granted."""
    state, asked = State(), question(Limits(credits=5), cost=2)
    assert [ask(state, asked).refused for _ in range(3)] == [(), (), (OWN_CREDITS,)]
    assert ask(state, asked, NOW + YEAR).refused == (OWN_CREDITS,)
    more = ask(state, question(Limits(credits=7), cost=2))
    assert (more.refused, more.used[OWN_CREDITS]) == ((), 6)


def test_a_grant_may_be_reduced_below_what_was_used() -> None:
    """Then nothing is left, and never less than nothing."""
    state = State(credits={"": 5})
    spent = ask(state, question(Limits(credits=3)))
    (status,) = balance(question(Limits(credits=3)), spent).limit_statuses
    assert (spent.refused, status.remaining) == ((OWN_CREDITS,), 0)


def test_a_key_has_its_own() -> None:
    """They are counted apart, only where there are some, and a refusal takes from neither."""
    state = State()
    asked = question(Limits(credits=9), own=Limits(credits=1))
    assert [ask(state, asked).refused for _ in range(2)] == [(), (KEY_CREDITS,)]
    assert state.credits == {"": 1, "key-1": 1}
    assert ask(state, question(UNLIMITED, own=Limits(credits=5))).used[KEY_CREDITS] == 2
    assert state.credits == {"": 1, "key-1": 2}
    assert len(ask(state, question(Limits(daily_quota=5))).row) == 12


def test_credits_of_which_no_count_is_known_are_not_spent() -> None:
    """Counters that began without PostgreSQL would give them twice; what has none goes on."""
    state = State(provisional=True)
    assert ask(state, question(Limits(daily_quota=9, credits=9))).refused == (OWN_CREDITS,)
    assert ask(state, question(Limits(daily_quota=9))).refused == ()
    assert state.credits == {}


def test_no_request_is_too_large_for_them() -> None:
    """More may be granted, so a cost above the total is refused by the limit, not as one that can never fit."""
    assert Limits(credits=0).below(1) == {}


def test_what_headers_say() -> None:
    """Size and what is left, without a window and without a reset; and no X-RateLimit-Reset where they bind."""
    asked = question(Limits(Rate(1, 1), 50, credits=12))
    told = rate_limit_headers(balance(asked, ask(State(), asked)), (IETF, X))
    assert dict(told) == {
        "ratelimit-policy": '"burst";q=50;w=50, "credits";q=12',
        "ratelimit": '"burst";r=49;t=1, "credits";r=11',
        "x-ratelimit-limit": "12",
        "x-ratelimit-remaining": "11",
    }


def test_no_wait_helps() -> None:
    """The refusal is theirs whatever else refuses, and names no time to come back."""
    state, asked = State(), question(Limits(Rate(1, 60), 1, credits=1))
    ask(state, asked)
    refused = ask(state, asked)
    told = balance(asked, refused, jitter=3)
    assert (refused.refused, told.retry_after) == ((BURST, OWN_CREDITS), None)
    denied = conclude(None, told, 1)
    assert isinstance(denied, Deny)
    assert (denied.reason, denied.retry_after) == (Reason.CREDITS_EXHAUSTED, None)


def test_caches_keep_them_only_where_there_are_some() -> None:
    """A record of limits without credits is as it was, and reads as one; management shows them elsewhere."""
    some, none = Limits(daily_quota=5, credits=0), Limits(daily_quota=5)
    assert Limits.from_record(some.to_cache()) == some != none
    assert Limits.from_record(none.to_cache()) == none
    assert "credits" not in none.to_cache()
    assert "credits" not in some.to_record()
