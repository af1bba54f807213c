"""Usage in PostgreSQL: saved once however often it is sent, never back, and read where counters start again."""

import asyncio
from datetime import date, timedelta
from uuid import UUID, uuid4

import pytest

from extauthz.backends.postgres import usage as module
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.backends.postgres.usage import PostgresUsage
from extauthz.core.errors import StoreUnavailable
from extauthz.core.usage import ORGANIZATION, Counted, CreditsUsed, Refused, Seed, Span, Tally
from extauthz.core.usage_range import Period
from extauthz.core.usage_report import Figures, UsageReport
from extauthz.demo.postgres import Postgres
from tests.servers.charging_client import save
from tests.servers.fixtures import stopped
from tests.servers.management_client import ManagementClient

ACME, UMBRELLA = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2))
ONE, OTHER = (f"00000000-0000-4000-8000-0000000000a{number}" for number in (1, 2))
DAY = date(2026, 11, 22)
NEXT = DAY + timedelta(days=1)
TODAY = Span("d:20261122", DAY, NEXT)
MONTH = Span("m:20261101", date(2026, 11, 1), date(2026, 12, 1))


@pytest.fixture
def usage(pool: Pool) -> PostgresUsage:
    return PostgresUsage(pool)


async def of_day(usage: UsageReport, tenant_id: str = ACME) -> dict[str, tuple[Tally, int]]:
    """What each key used on the day, and the revision of that."""
    rows = await usage.of_period(tenant_id, Period(DAY, DAY), by_key=True, apart=[DAY])
    assert {row.day for row in rows} <= {DAY}
    return {row.key_id or "": (row.tally, row.revision) for row in rows}


async def tally(usage: UsageReport, key_id: str = ONE) -> tuple[Tally, int]:
    return (await of_day(usage)).get(key_id, (Tally(), 0))


async def test_saving_twice_changes_nothing(usage: PostgresUsage) -> None:
    """Figures replace earlier ones, and an older revision than the stored one is left out."""
    first, second = Counted(ACME, ONE, DAY, 3, 30, 3), Counted(ACME, ONE, DAY, 5, 50, 5)
    for counted in (first, first, second, second, first):
        assert await save(usage, counted)
    assert await tally(usage) == (Tally(allowed=5, cost=50), 5)


async def test_a_figure_may_fall_with_a_higher_revision(usage: PostgresUsage) -> None:
    """A refund is a change like any other."""
    await save(usage, Counted(ACME, ONE, DAY, 3, 30, 3))
    await save(usage, Counted(ACME, ONE, DAY, 2, 20, 4))
    assert await tally(usage) == (Tally(allowed=2, cost=20), 4)


async def test_one_row_twice_in_one_call(usage: PostgresUsage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The higher revision stays, in one statement and in several."""
    older, newer = Counted(ACME, ONE, DAY, 3, 30, 3), Counted(ACME, ONE, DAY, 5, 50, 5)
    await save(usage, newer, older)
    assert await tally(usage) == (Tally(allowed=5, cost=50), 5)
    monkeypatch.setattr(module, "ROWS_PER_STATEMENT_MAX", 1)
    await save(usage, Counted(ACME, OTHER, DAY, 5, 50, 5), Counted(ACME, OTHER, DAY, 3, 30, 3))
    assert await tally(usage, OTHER) == (Tally(allowed=5, cost=50), 5)


async def test_one_saver_at_a_time(usage: PostgresUsage, database: str) -> None:
    """While one worker saves, another one gets nothing to save with; afterwards it does."""
    async with open_pool(database, size=1, wait=5, statement_timeout=5) as pool:
        async with usage.exclusive_saver() as saver:
            assert saver is not None
            assert not await save(PostgresUsage(pool))
            await saver([Counted(ACME, ONE, DAY, 3, 30, 3)])
        assert await save(PostgresUsage(pool), Counted(ACME, ONE, DAY, 4, 40, 4))
    assert await tally(usage) == (Tally(allowed=4, cost=40), 4)


async def save_and_fail(usage: PostgresUsage, failure: BaseException) -> None:
    async with usage.exclusive_saver() as saver:
        assert saver is not None
        await saver([Counted(ACME, OTHER, DAY, 9, 90, 9)])
        raise failure


@pytest.mark.parametrize("failure", [StoreUnavailable("redis", "timeout"), asyncio.CancelledError()])
async def test_a_saver_that_fails_saves_nothing(usage: PostgresUsage, failure: BaseException) -> None:
    """Where there is nothing to be read, or it is broken off, nothing is kept and the next one saves."""
    with pytest.raises(type(failure)):
        await save_and_fail(usage, failure)
    assert await save(usage, Counted(ACME, ONE, DAY, 1, 1, 1))


async def test_refusals_are_added_once_for_a_batch(usage: PostgresUsage) -> None:
    """A batch that comes again, also while it is being added, adds nothing; charges are left alone, and leave them."""
    batch, other = uuid4(), uuid4()
    refused = [Refused(ACME, ONE, DAY, 2, 1), Refused(ACME, OTHER, DAY, 0, 7), Refused(ACME, ONE, DAY, 1, 0)]
    await save(usage, Counted(ACME, ONE, DAY, 3, 30, 3))
    await asyncio.gather(*(usage.add_refusals(batch, refused) for _ in range(3)))
    await usage.add_refusals(batch, refused)
    await usage.add_refusals(other, refused[:1])
    assert await tally(usage) == (Tally(3, 30, 5, 2), 3)
    assert await tally(usage, OTHER) == (Tally(over_quota=7), 0)
    await save(usage, Counted(ACME, ONE, DAY, 4, 40, 4))
    assert await tally(usage) == (Tally(4, 40, 5, 2), 4)


async def test_many_writers_in_any_order(usage: PostgresUsage, database: str) -> None:
    """They touch the same rows in every order and none is refused: rows are locked in one order."""
    keys = [str(UUID(int=number)) for number in range(1, 301)]
    async with open_pool(database, size=6, wait=10, statement_timeout=10) as pool:
        others = [PostgresUsage(pool) for _ in range(5)]
        refused = [Refused(ACME, key_id, DAY, 1, 1) for key_id in keys]
        counted = [Counted(ACME, key_id, DAY, 1, 1, 1) for key_id in keys]
        async with asyncio.timeout(30):
            await asyncio.gather(
                *(each.add_refusals(uuid4(), refused[::step]) for each in others for step in (1, -1)),
                save(usage, *counted[::-1]),
            )
    found = await of_day(usage)
    assert {key_id: found[key_id] for key_id in keys} == dict.fromkeys(keys, (Tally(1, 1, 10, 10), 1))


async def test_old_batches_are_deleted(usage: PostgresUsage, pool: Pool) -> None:
    """Batches of the last day are kept, so that a late repetition is not added twice."""
    old, young = uuid4(), uuid4()
    async with pool.connection() as connection:
        statement = "INSERT INTO usage_batches VALUES (%s, now() - make_interval(hours => %s))"
        await connection.cursor().executemany(statement, [(old, 25), (young, 23)])
        await usage.add_refusals(young, [Refused(ACME, ONE, DAY, 1, 1)])
        rows = await (await connection.execute("SELECT id FROM usage_batches")).fetchall()
    assert [row["id"] for row in rows] == [young]
    assert await tally(usage) == (Tally(), 0)


async def test_seeds_are_sums_of_spans(usage: PostgresUsage) -> None:
    """Days and months of each key, for all organizations that ask, by one query."""
    await save(
        usage,
        Counted(ACME, ONE, date(2026, 10, 31), 100, 1000, 100),
        Counted(ACME, ONE, date(2026, 11, 1), 1, 10, 1),
        Counted(ACME, ONE, DAY, 2, 20, 7),
        Counted(ACME, OTHER, DAY, 3, 30, 3),
        Counted(ACME, ONE, NEXT, 4, 40, 4),
        Counted(ACME, ONE, date(2026, 12, 1), 100, 1000, 100),
        Counted(UMBRELLA, ONE, DAY, 9, 90, 9),
    )
    await usage.add_refusals(uuid4(), [Refused(ACME, UMBRELLA, DAY, 1, 1)])
    seeds = await usage.seeds({ACME: [TODAY, MONTH], UMBRELLA: [TODAY], ONE: [MONTH], "no id": [TODAY], OTHER: []})
    assert {tenant_id: sorted(found) for tenant_id, found in seeds.items()} == {
        ACME: [
            Seed(TODAY.field, ONE, 20, 2, 7),
            Seed(TODAY.field, OTHER, 30, 3, 3),
            Seed(MONTH.field, ONE, 70, 7, 7),
            Seed(MONTH.field, OTHER, 30, 3, 3),
        ],
        UMBRELLA: [Seed(TODAY.field, ONE, 90, 9, 9)],
        ONE: [],
        "no id": [],
        OTHER: [],
    }
    assert await usage.seeds({}) == {}


async def test_credits_go_forward_and_come_back(usage: PostgresUsage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an organization and of its keys apart; what is behind changes nothing, and other ids are left out."""
    own, of_key = CreditsUsed(ACME, ORGANIZATION, 7), CreditsUsed(ACME, ONE, 5)
    for rows in ([own, of_key, own._replace(used=6)], [of_key._replace(used=4), CreditsUsed("no id", ONE, 9)]):
        async with usage.exclusive_saver() as saver:
            assert saver is not None
            await saver([], rows)
    expected = [Seed("credits", ORGANIZATION, 7, 0, 0), Seed("credits", ONE, 5, 0, 0)]
    assert await usage.seeds({ACME: [TODAY, MONTH], UMBRELLA: [TODAY]}) == {ACME: expected, UMBRELLA: []}
    monkeypatch.setattr(module, "ROWS_PER_STATEMENT_MAX", 1)
    async with usage.exclusive_saver() as saver:
        assert saver is not None
        await saver([], [own._replace(used=9), of_key._replace(used=8)])
    found = (await usage.seeds({ACME: [TODAY]}))[ACME]
    assert {seed.key_id: seed.cost for seed in found} == {ORGANIZATION: 9, ONE: 8}


async def test_sums_of_a_period(usage: PostgresUsage) -> None:
    """By key or by day; days that are listed apart come row by row, with their revisions."""
    before = DAY - timedelta(days=1)
    await save(
        usage,
        Counted(ACME, ONE, before - timedelta(days=1), 100, 1000, 100),
        Counted(ACME, ONE, before, 1, 10, 1),
        Counted(ACME, OTHER, before, 2, 20, 2),
        Counted(ACME, ONE, DAY, 3, 30, 3),
        Counted(ACME, ONE, NEXT, 4, 40, 4),
        Counted(ACME, ONE, NEXT + timedelta(days=1), 100, 1000, 100),
        Counted(UMBRELLA, ONE, DAY, 9, 90, 9),
    )
    await usage.add_refusals(uuid4(), [Refused(ACME, ONE, DAY, 5, 6)])
    period = Period(before, NEXT)

    async def found(*apart: date, by_key: bool) -> set[Figures]:
        rows = await usage.of_period(ACME, period, by_key=by_key, apart=apart)
        assert len(set(rows)) == len(rows)
        return set(rows)

    next_row = Figures(NEXT, ONE, Tally(4, 40), 4)
    assert await found(by_key=True) == {
        Figures(None, ONE, Tally(8, 80, 5, 6), 4),
        Figures(None, OTHER, Tally(2, 20), 2),
    }
    assert await found(NEXT, by_key=True) == {
        Figures(None, ONE, Tally(4, 40, 5, 6), 3),
        Figures(None, OTHER, Tally(2, 20), 2),
        next_row,
    }
    days = {Figures(before, None, Tally(3, 30), 2), Figures(DAY, None, Tally(3, 30, 5, 6), 3)}
    assert await found(by_key=False) == {*days, next_row._replace(key_id=None)}
    assert await found(NEXT, by_key=False) == {*days, next_row}


async def test_names_of_keys(usage: PostgresUsage, operator: ManagementClient) -> None:
    """Names of the keys that exist; unknown and malformed ids have no effect."""
    key, _ = await operator.new_key("acme", name="ci")
    assert await usage.key_names([key.id, ONE, "no id"]) == {key.id: "ci"}


async def test_totals_of_spans(usage: PostgresUsage) -> None:
    """The cost of each span, 0 where no usage is stored."""
    await save(usage, Counted(ACME, ONE, DAY, 2, 20, 7), Counted(ACME, OTHER, NEXT, 3, 30, 3))
    empty = Span("d:20261120", date(2026, 11, 20), date(2026, 11, 21))
    assert await usage.totals(ACME, [TODAY, MONTH, empty]) == {TODAY.field: 20, MONTH.field: 50, empty.field: 0}
    assert await usage.totals("no id", [TODAY]) == {TODAY.field: 0}
    assert await of_day(usage, "no id") == {}


async def test_rows_with_malformed_ids_are_left_out(usage: PostgresUsage) -> None:
    """Such a row affects no other."""
    strange = [Counted("acme", ONE, DAY, 1, 1, 1), Counted(ACME, "key", DAY, 1, 1, 1), Counted(ACME, ONE, DAY, 1, 1, 1)]
    assert await save(usage, *strange)
    await usage.add_refusals(uuid4(), [Refused(ACME, "", DAY, 1, 1), Refused(ACME, ONE, DAY, 1, 1)])
    assert await of_day(usage) == {ONE: (Tally(1, 1, 1, 1), 1)}


async def test_usage_outlives_keys_and_organizations(usage: PostgresUsage, pool: Pool) -> None:
    """Bills are written afterwards."""
    await save(usage, Counted(ACME, ONE, DAY, 1, 1, 1))
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM api_keys")
        await connection.execute("DELETE FROM organizations")
    assert await tally(usage) == (Tally(1, 1), 1)


async def test_more_time_than_a_check_has(database: str, pool: Pool) -> None:
    """A large organization takes longer to add up or write than a look-up may, without an outage."""
    async with open_pool(database, size=1, wait=5, statement_timeout=0.05) as hasty, pool.connection() as connection:
        usage = PostgresUsage(hasty)
        for call in (
            usage.seeds({ACME: [TODAY]}),
            save(usage, Counted(ACME, ONE, DAY, 1, 1, 1)),
            usage.add_refusals(uuid4(), [Refused(ACME, ONE, DAY, 1, 1)]),
            usage.of_period(ACME, Period(DAY, DAY), by_key=True, apart=[]),
        ):
            async with connection.transaction():
                await connection.execute("LOCK TABLE usage_daily")
                waiting = asyncio.create_task(call)
                await connection.execute("SELECT pg_sleep(0.2)")
            await waiting
    assert await tally(PostgresUsage(pool)) == (Tally(1, 1, 1, 1), 1)


async def test_a_server_that_is_away(postgres_server: Postgres, usage: PostgresUsage) -> None:
    """Every call raises StoreUnavailable, and what was not saved can be saved later."""
    batch, refused = uuid4(), [Refused(ACME, ONE, DAY, 1, 1)]
    async with open_pool(postgres_server.dsn, size=1, wait=0.3, statement_timeout=0.2) as pool:
        hasty = PostgresUsage(pool)
        with stopped(postgres_server):
            for attempt in (
                save(hasty, Counted(ACME, ONE, DAY, 1, 1, 1)),
                hasty.add_refusals(batch, refused),
                hasty.seeds({ACME: [TODAY]}),
                hasty.of_period(ACME, Period(DAY, DAY), by_key=True, apart=[]),
                hasty.totals(ACME, [TODAY]),
                hasty.key_names([ONE]),
                hasty.announce([]),
            ):
                with pytest.raises(StoreUnavailable) as away:
                    await attempt
                assert away.value.store == "postgresql"
    await usage.add_refusals(batch, refused)
    assert await tally(usage) == (Tally(0, 0, 1, 1), 0)
