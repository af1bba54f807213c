"""The spend script in Redis agrees with `core/token_bucket.py`: the same replies and the same stored state."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from extauthz.backends.redis.connection import RedisConnection, open_connection
from extauthz.backends.redis.keyspace import address_limits, charge_once, tenant_limits
from extauthz.backends.redis.layout import STATE, by_name
from extauthz.backends.redis.limits import RedisLimits
from extauthz.core.calendar import UTC_CALENDAR, Calendar
from extauthz.core.limits import BURST_MAX, DECIMALS, PERIODS, QUOTA_MAX, RATE_PER_SECOND_MAX, Limits, Rate
from extauthz.core.spend import MICRO, Operation, Owner, Spend
from extauthz.core.token_bucket import State, spend
from extauthz.demo.redis import Redis
from tests.generated import examples
from tests.servers.limiting import HASH, SCRIPT, TENANT, as_hash, seed, set_clock, spend_of

DAY, HOUR = 86_400 * MICRO, 3600 * MICRO
START = 1_800_000_000 * MICRO
OWNERS = (TENANT, Owner("tenant", "org-2"), Owner("address", "site 203.0.113.7"))
KEYS = ("key-1", "key:2 d")
CALENDARS = (
    UTC_CALENDAR,
    Calendar("Europe/Berlin", 31),
    Calendar("America/Havana", 15, "Asia/Kolkata", date(2027, 3, 13), 30, date(2027, 2, 28)),
    Calendar("Pacific/Apia", 30, "Pacific/Pago_Pago", date(2027, 1, 31)),
    Calendar("Australia/Lord_Howe"),  # its clocks move by half an hour
)


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """Any rate that can be written, the largest and the smallest of each period often."""
    unit = draw(st.sampled_from(list(PERIODS)))
    scale = 10 ** DECIMALS[unit]
    most = RATE_PER_SECOND_MAX * PERIODS[unit] * scale
    number = draw(st.sampled_from([1, most - 1, most]) | st.integers(1, 100 * scale) | st.integers(1, most))
    whole, decimals = divmod(number, scale)
    return Rate.parse(f"{whole}.{decimals:0{DECIMALS[unit]}d}/{unit}") if len(str(whole)) <= 14 else Rate(1, 1)


def _ends() -> list[int]:
    """Ends of days and months: leap day and year's end, days of 23 hours, a skipped one, an hour of 30 minutes."""
    ends = ["2027-01-16", "2027-02-01", "2028-02-29", "2028-03-01", "2028-01-01"]
    ends += ["2027-03-14T05:00", "2027-03-28T01:00", "2011-12-30T10:00", "2027-04-03T15:00"]
    return [int(datetime.fromisoformat(end).replace(tzinfo=UTC).timestamp()) * MICRO for end in ends]


costs = st.integers(1, 5) | st.sampled_from([1000, BURST_MAX])
bursts = st.integers(1, 20) | st.sampled_from([1000, BURST_MAX])
quotas = st.none() | st.integers(0, 12) | st.just(QUOTA_MAX)
hourly = st.none() | quotas
limits = st.builds(Limits, rates(), bursts, quotas, quotas, hourly, credits=hourly) | st.builds(
    Limits, st.none(), st.none(), quotas, quotas, hourly, credits=hourly
)
elapses = st.integers(0, 10 * MICRO) | st.sampled_from(
    [0, 1, 999_999, MICRO, DAY, 31 * DAY, 400 * DAY, HOUR // 2, HOUR, -HOUR, -3 * HOUR, -1, -MICRO, -DAY, -40 * DAY]
)
moments = st.builds(int.__add__, st.sampled_from(_ends()), st.integers(-2, 2))
offs = st.sampled_from([0] * 9 + [HOUR, -HOUR, DAY, -DAY, -2 * DAY, 3 * DAY, -70 * DAY])
# Whose limits they are: an owner's, or those of one of its keys.
HOLDERS = [(owner, key) for owner in OWNERS for key in ("", *KEYS)]
tight = Limits(Rate(1, 86_400), 12, 30, 40, 25), Limits(Rate(7, 60), 9, 20, 12, 11)


@dataclass(frozen=True)
class Ask:
    """A spend in a call; `skew` is the error of the worker's clock."""

    owner: Owner
    key: str
    operation: Operation
    cost: int
    once: str
    skew: int


operations = st.sampled_from(("spend", "spend", "spend", "spend", "peek"))
asks = st.builds(
    Ask,
    st.sampled_from(OWNERS),
    st.sampled_from(KEYS),
    operations,
    costs,
    st.sampled_from(("", "", "a", "b")),
    offs,
)


class Agreement(RuleBasedStateMachine):
    """Redis beside a state in memory; each operation is applied to both."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis_connection = self.runner.run(self._open())
        self.now = START
        self.states = {owner: State() for owner in OWNERS}
        self.calendars = dict.fromkeys(OWNERS, UTC_CALENDAR)
        self.limits = {(owner, key): tight[key != ""] for owner, key in HOLDERS}

    async def _open(self) -> RedisConnection:
        redis_connection = RedisConnection(self.url)
        await redis_connection.execute_command("FLUSHALL")
        await seed(redis_connection, *(owner.id for owner in OWNERS[:2]))
        await redis_connection.execute_command("HDEL", _hash_name(OWNERS[1]), STATE)  # as an earlier release begins it
        return redis_connection

    def teardown(self) -> None:
        self.runner.run(self.redis_connection.close())
        self.runner.close()

    @rule(owner=st.sampled_from(OWNERS[:2]))
    def seed_again(self, owner: Owner) -> None:
        """Restores counters of a tenant where they are absent."""
        self.runner.run(RedisLimits(self.redis_connection).seed(owner.id, ()))
        self.states[owner].seeded = True

    @rule(owner=st.sampled_from(OWNERS))
    def lose_state(self, owner: Owner) -> None:
        """Redis loses the state of one tenant."""
        self.runner.run(self.redis_connection.execute_command("DEL", _hash_name(owner)))
        once = self.states[owner].once
        self.states[owner] = State(seeded=owner.kind == "address", once=once)

    @rule(elapsed=elapses)
    def wait(self, elapsed: int) -> None:
        """Time passes, forward or back."""
        self.now += elapsed

    @rule(moment=moments)
    def go_to(self, moment: int) -> None:
        """The time is near midnight."""
        self.now = moment

    @rule(holder=st.sampled_from(HOLDERS), changed=limits)
    def limit(self, holder: tuple[Owner, str], changed: Limits) -> None:
        """Changes the limits of an owner or of a key."""
        self.limits[holder] = changed

    @rule(owner=st.sampled_from(OWNERS), calendar=st.sampled_from(CALENDARS))
    def count_by(self, owner: Owner, calendar: Calendar) -> None:
        """Changes how days and months are counted."""
        self.calendars[owner] = calendar

    @rule(calls=st.lists(asks, min_size=1, max_size=8))
    def ask(self, calls: list[Ask]) -> None:
        """One call; every number in its reply and all stored state equal those of the reference arithmetic."""
        asked = [self._asked(one) for one in calls]
        expected = [spend(self.states[one.owner], one, self.now) for one in asked]
        assert self.runner.run(self._spend(asked)) == expected
        for owner, state in self.states.items():
            found, once = self.runner.run(self._stored(owner, state))
            assert found == as_hash(
                state, self.runner.run(self.redis_connection.epoch()) if owner.kind == "tenant" else ""
            )
            assert once == state.once

    def _asked(self, one: Ask) -> Spend:
        owner, key = one.owner, one.key
        asked = Spend(
            owner,
            one.cost,
            self.limits[owner, ""],
            operation=one.operation,
        )
        if owner.kind == "address":
            return replace(asked, limits=Limits(asked.limits.rate, asked.limits.burst))
        own = self.limits[owner, key]
        asked = replace(asked, calendar=self.calendars[owner], key_id=key, key_limits=own, once=one.once)
        return asked.at((self.now + one.skew) / MICRO)

    async def _spend(self, asked: list[Spend]) -> object:
        await set_clock(self.redis_connection, self.now)
        return await RedisLimits(self.redis_connection, script=SCRIPT).spend(asked)

    async def _stored(self, owner: Owner, state: State) -> tuple[dict[str, str], dict[str, int]]:
        flat, *once = await asyncio.gather(
            self.redis_connection.execute_command("HGETALL", _hash_name(owner)),
            *(self.redis_connection.execute_command("GET", charge_once(owner.id, name)) for name in state.once),
        )
        found = by_name({name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)})
        found.pop("text_until", None)
        found = {name: value for name, value in found.items() if value != "0" or not name.startswith("m:")}
        if owner.kind == "address":
            found |= {"seeded": "", "days": ""}
        return found, dict(zip(state.once, map(int, once), strict=True))


def _hash_name(owner: Owner) -> str:
    return tenant_limits(owner.id) if owner.kind == "tenant" else address_limits(owner.id)


@pytest.mark.fuzz
def test_script_agrees_with_reference_arithmetic(redis_server: Redis) -> None:
    """Whatever is asked, changed or lost, and however clocks step: replies and hashes are equal, to the byte."""
    machine = type("Machine", (Agreement,), {"url": redis_server.redis_url})
    run_state_machine_as_test(machine, settings=settings(examples(5, 1_000), stateful_step_count=40))


@given(
    level=st.integers(0, BURST_MAX * MICRO),
    carry=st.integers(0, 864_000),
    at=st.integers(0, 4 * 10**15),
    counters=st.tuples(st.integers(0, 20), st.integers(0, QUOTA_MAX)),
    rate=rates(),
    burst=bursts,
)
@pytest.mark.fuzz
@examples(10, 2_000)
async def test_script_agrees_with_reference_arithmetic_on_any_state(
    redis_server: Redis, level: int, carry: int, at: int, counters: tuple[int, int], rate: Rate, burst: int
) -> None:
    """From any state that could be stored, long ago or under other limits, both continue alike."""
    asked = spend_of(Limits(rate, burst, 12, QUOTA_MAX), START / MICRO, key_limits=Limits(rate, burst, 15, None))
    state = State(
        buckets={"": (level, carry, at), "key-1": (level // 2, carry, at)},
        counters=dict(zip(("d:20270115", "m:20270101"), counters, strict=True)),
        days={"d:20270115:key-1": (counters[0], 1, 7)},
    )
    async with open_connection(redis_server.redis_url) as redis_connection:
        epoch = await redis_connection.epoch()
        fields = [word for pair in as_hash(state, epoch).items() for word in pair]
        await redis_connection.execute_command("DEL", HASH)
        await redis_connection.execute_command("HSET", HASH, *fields)
        await set_clock(redis_connection, START)
        assert await RedisLimits(redis_connection, script=SCRIPT).spend([asked]) == [spend(state, asked, START)]
        flat = await redis_connection.execute_command("HGETALL", HASH)
        found = by_name({name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)})
        found.pop("text_until", None)
        assert found == as_hash(state, epoch)
