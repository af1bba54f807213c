"""Quota events in real PostgreSQL: announced once, each claimed by one worker at a time until it is done."""

import asyncio
from datetime import date
from uuid import uuid4

import pytest

from extauthz.backends.postgres.events import LATEST_DAYS, PostgresQuotaEvents
from extauthz.backends.postgres.usage import PostgresUsage
from extauthz.core.management_ports import ClaimedEvent, QuotaEvents
from extauthz.core.usage import QuotaEvent
from tests.servers.hook import documented
from tests.servers.management_client import ManagementClient

DAY = date(2026, 11, 22)
LEASE = 60.0  # seconds


@pytest.fixture
async def acme(operator: ManagementClient) -> str:
    return (await operator.tenants.create_organization("acme")).id


@pytest.fixture
def usage(operator: ManagementClient) -> PostgresUsage:
    return PostgresUsage(operator.pool)


@pytest.fixture
def events(operator: ManagementClient) -> QuotaEvents:
    return PostgresQuotaEvents(operator.pool)


def passed(tenant_id: str, threshold: int = 80, quota: str = "daily", start: date = DAY) -> QuotaEvent:
    return QuotaEvent(tenant_id, quota, start, threshold, used=threshold, limit=100)


async def ids(events: QuotaEvents, at_most: int = 100) -> list[str]:
    return [event.id for event in await events.claim(at_most, LEASE)]


async def test_an_event_is_announced_once(usage: PostgresUsage, acme: str) -> None:
    """Once for a window and a threshold, for any worker and figure; the worker gets the events that are new."""
    first = [passed(acme), passed(acme, 90)]
    assert sorted(await usage.announce(first)) == sorted(first)
    again = [passed(acme)._replace(used=85), passed(acme, 90), passed(acme, 100), passed(acme, quota="monthly")]
    assert sorted(await usage.announce(again)) == sorted(again[2:])
    assert await usage.announce(again) == []
    tomorrow = passed(acme, start=date(2026, 11, 23))
    assert await usage.announce([tomorrow, tomorrow]) == [tomorrow]
    assert await usage.announce([]) == []
    assert await usage.announce([passed("no id")]) == []


async def test_two_find_the_same_at_once(usage: PostgresUsage, acme: str) -> None:
    """Each event is new to exactly one of them, in whatever order they write."""
    found = [passed(acme, threshold, quota) for threshold in (80, 90, 100) for quota in ("daily", "monthly")]
    told = await asyncio.gather(*(usage.announce(found[::step]) for step in (1, -1) * 3))
    assert sorted(event for events in told for event in events) == sorted(found)


async def test_a_claimed_event_is_complete(
    usage: PostgresUsage, events: QuotaEvents, operator: ManagementClient
) -> None:
    """It has the organization, the quota and its usage; also for an organization that was deleted."""
    acme = await operator.tenants.create_organization("acme")
    gone = str(uuid4())
    await usage.announce([passed(acme.id, 90)])
    await usage.announce([passed(gone, 100, "monthly", date(2026, 11, 1))])
    first, second = await events.claim(100, LEASE)
    assert first == ClaimedEvent(first.id, first.at, acme.id, "acme", "daily", DAY, 90, 90, 100, 1)
    expected = ClaimedEvent(second.id, second.at, gone, None, "monthly", date(2026, 11, 1), 100, 100, 100, 1)
    assert second == expected
    assert first.at < second.at


async def test_each_event_is_claimed_by_one_worker(usage: PostgresUsage, operator: ManagementClient, acme: str) -> None:
    """Workers that claim at the same time get different events, and none that another has."""
    await usage.announce(
        [passed(acme, threshold, quota) for threshold in (80, 90, 100) for quota in ("daily", "monthly")]
    )
    workers = [PostgresQuotaEvents(operator.pool) for _ in range(4)]
    claimed = await asyncio.gather(*(ids(worker, 2) for worker in workers))
    assert len({event_id for each in claimed for event_id in each}) == sum(map(len, claimed)) <= 6
    rest = await ids(workers[0])
    assert len(rest) + sum(map(len, claimed)) == 6
    assert await ids(workers[0]) == []


async def test_the_oldest_comes_first(usage: PostgresUsage, events: QuotaEvents, acme: str) -> None:
    """Of events of one moment the lowest threshold comes first; at most as many as were asked for."""
    for start in (DAY, date(2026, 11, 23)):
        await usage.announce([passed(acme, threshold, start=start) for threshold in (100, 90, 80)])
    assert [event.threshold for event in await events.claim(2, LEASE)] == [80, 90]
    assert [event.threshold for event in await events.claim(4, LEASE)] == [100, 80, 90, 100]


async def test_an_event_returns_after_its_lease(usage: PostgresUsage, events: QuotaEvents, acme: str) -> None:
    """After the lease another worker tries, and counts the second attempt."""
    await usage.announce([passed(acme)])
    (first,) = await events.claim(1, 0)
    (second,) = await events.claim(1, LEASE)
    assert second == first._replace(attempts=2)
    assert await ids(events) == []


async def test_outcomes_of_an_event(
    usage: PostgresUsage, events: QuotaEvents, operator: ManagementClient, acme: str, subtests: pytest.Subtests
) -> None:
    """Delivered and given up are final, whatever a slow worker reports later; a postponed event is due again."""
    await usage.announce([passed(acme, threshold) for threshold in (80, 90, 100)])
    done, lost, later = await ids(events)
    await events.delivered(done)
    await events.give_up(lost)
    await events.postpone(later, 0)
    assert await ids(events) == [later]
    await events.postpone(later, LEASE)
    for event_id in (done, lost):
        await events.postpone(event_id, 0)
    await events.give_up(done)
    assert await ids(events) == []
    query = "SELECT delivered_at IS NULL AS open, failed_at IS NULL AS hoped FROM quota_events WHERE id::text = %s"
    for event_id, state in ((done, (False, True)), (lost, (True, False)), (later, (True, True))):
        assert [tuple(row.values()) for row in await operator.rows(query, event_id)] == [state]


async def test_old_events_are_not_sent(
    usage: PostgresUsage, events: QuotaEvents, operator: ManagementClient, acme: str
) -> None:
    """A new webhook does not get the events of the months before."""
    await usage.announce([passed(acme, threshold) for threshold in (80, 90)])
    await operator.sql(
        "UPDATE quota_events SET at = now() - make_interval(days => %s) WHERE threshold = 80", LATEST_DAYS
    )
    assert [event.threshold for event in await events.claim(100, LEASE)] == [90]


async def test_an_event_that_was_tried_is_never_too_old(
    usage: PostgresUsage, events: QuotaEvents, operator: ManagementClient, acme: str
) -> None:
    """A retry comes however late, also of an event that was given up and is retried as the page says."""
    await usage.announce([passed(acme, threshold) for threshold in (80, 90)])
    waits, lost = await ids(events)
    await events.postpone(waits, 0)
    await events.give_up(lost)
    await operator.sql("UPDATE quota_events SET at = at - make_interval(days => %s)", LATEST_DAYS + 1)
    assert await ids(events) == [waits]
    await operator.sql("UPDATE" + documented("sql").partition("UPDATE")[2])
    (again,) = await events.claim(100, LEASE)
    assert (again.id, again.attempts) == (lost, 1)
