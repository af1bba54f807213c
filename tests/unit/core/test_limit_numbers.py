"""The numbers of a row equal those of `balance`, whatever the limits, the windows and the outcome."""

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.balance import NEVER, Balance, balance
from extauthz.core.calendar import UTC_CALENDAR, Calendar
from extauthz.core.limit_kinds import BITS, BUCKET
from extauthz.core.limit_numbers import LimitNumbers
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.spend import MICRO, Owner, Row, Spend, Spent, empty_row, result_of, spent_by
from tests.generated import examples

NOW = 1_800_000_000
DAY = 86_400
_ZONES = ["UTC", "Asia/Tokyo", "America/St_Johns", "Pacific/Apia"]

few = st.integers(0, 5) | st.integers(0, 10**12)
rates = st.builds(Rate, st.integers(1, 10**9), st.sampled_from([1, 7, 60, 1000, 3600, 86_400, 864_000]))


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    """Any limits: some of them, all, or none."""
    rate = draw(st.none() | rates)
    burst = None if rate is None else draw(st.integers(1, 10**9))
    quotas = [draw(st.none() | few) for _ in range(3)]
    return Limits(rate, burst, *quotas, credits=draw(st.none() | few))


@st.composite
def spends(draw: st.DrawFn) -> Spend:
    """What a check asks, of an organization with any calendar, or of a public route's bucket."""
    cost = draw(st.integers(1, 50))
    if draw(st.booleans()) and draw(st.booleans()):
        return Spend(Owner("address", "x 203.0.113.7"), cost, Limits(draw(rates), draw(st.integers(1, 10**9))))
    calendar = draw(st.just(UTC_CALENDAR) | st.builds(Calendar, st.sampled_from(_ZONES), st.integers(1, 31)))
    own = draw(st.just(UNLIMITED) | limits())
    asked = Spend(Owner("tenant", "org-1"), cost, draw(limits()), calendar, key_id="key-1", key_limits=own)
    return asked.at(NOW + draw(st.integers(0, 400 * DAY)))


def names_of(asked: Spend) -> list[str]:
    """The limits that a spend has, in the order of their bits."""
    limit_statuses = balance(asked, spent_by(0, empty_row(asked, 2))).limit_statuses
    return [standing.name for standing in limit_statuses]


@st.composite
def outcomes(draw: st.DrawFn, *, refused: bool | None = None) -> tuple[Spend, int, Row]:
    """A spend, the time of a store, and a row that it may answer there."""
    asked = draw(spends())
    names = names_of(asked)
    refuses = bool(names) and (draw(st.booleans()) if refused is None else refused)
    chosen = draw(st.sets(st.sampled_from(names), min_size=1)) if refuses else set()
    bits = sum(1 << BITS[name] for name in chosen)
    window = 1 if asked.windows is None else draw(st.integers(1, 3))
    now = (NOW + draw(st.integers(-2 * DAY, 400 * DAY))) * MICRO + draw(st.integers(0, MICRO - 1))
    state: list[int] = []
    for each, name in zip((asked.limits, asked.key_limits), BUCKET.names, strict=True):
        bucket = name in chosen
        most = min(asked.cost, each.burst or 0) * MICRO - 1 if bucket else (each.burst or 0) * MICRO
        level = draw(st.integers(0, max(most, 0))) if each.rate is not None else 0
        carry = draw(st.integers(0, each.rate.seconds - 1)) if each.rate is not None else 0
        state += [level, carry, draw(few), draw(few)]
    further = (window, draw(few), draw(few)) if asked.hourly or asked.credited else ()
    credited = (draw(few), draw(few)) if asked.credited else ()
    return asked, now, (bits, 0, window, window, *state, *further, *credited)


def numbers_of(told: Balance) -> list[int]:
    """A balance as numbers; 1 stands for a reset that nothing tells."""
    numbers = [number for each in told.limit_statuses for number in (each.remaining, each.reset or 1)]
    if told.binding is None:
        return [*numbers, 0, 0, 0]
    return [*numbers, told.binding.size, told.binding.remaining, told.binding.reset or 1]


@examples(10, 20_000)
@given(outcomes())
def test_remainders(outcome: tuple[Spend, int, Row]) -> None:
    """The remainder of every limit, and of the one that binds."""
    asked, now, row = outcome
    row = (0, *row[1:])
    spent = result_of(now, row)
    assert isinstance(spent, Spent)
    assert LimitNumbers(asked, window=row[2]).left(now, row) == numbers_of(balance(asked, spent))


@examples(10, 20_000)
@given(outcomes(refused=True), st.integers(0, 5))
def test_limit_that_refuses(outcome: tuple[Spend, int, Row], jitter: int) -> None:
    """The limit that refuses the longest, the remainder of every limit, and the wait."""
    asked, now, row = outcome
    spent = result_of(now, row)
    assert isinstance(spent, Spent)
    if not spent.refused:  # no limits at all
        return
    told = balance(asked, spent, jitter=jitter)
    assert told.binding is not None
    name, numbers = LimitNumbers(asked, window=row[2]).refused(now, row, jitter)
    wait = NEVER if told.retry_after is None else told.retry_after
    assert (name, numbers) == (told.binding.name, [*numbers_of(told), wait])
