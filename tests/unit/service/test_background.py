"""Work behind the checks, and readiness of a process that starts."""

import asyncio

from structlog.testing import capture_logs

from extauthz.core.failure import OnRedisDown
from extauthz.service.background import forever
from extauthz.service.health import Health
from tests.unit.service.fakes import FakeService


async def test_work_with_a_bug_goes_on() -> None:
    """A bug is logged with the work's name, and the work is started again."""
    begun, done = iter(range(3)), asyncio.Event()

    async def work() -> None:
        if next(begun) < 2:
            raise ZeroDivisionError
        done.set()
        await asyncio.Event().wait()

    with capture_logs() as logs:
        task = asyncio.create_task(forever(work, pause=0))
        await asyncio.wait_for(done.wait(), 5)
        task.cancel()
    assert [(each["event"], each["work"].endswith("work")) for each in logs] == [("unhandled_exception", True)] * 2


async def test_ready_once_both_stores_were_seen() -> None:
    """It is awaited for a bounded time; a loss afterwards ends readiness only where limits must not degrade."""
    fake_service = FakeService()
    opened, closed = (
        Health(postgresql=fake_service.postgresql, redis=fake_service.redis, on_redis_down=policy)
        for policy in OnRedisDown
    )
    waiting = asyncio.create_task(opened.until_ready(5))
    await fake_service.redis.start()
    await closed.until_ready(0.02)
    assert not closed.readiness().ready
    await fake_service.postgresql.start()
    await waiting
    assert opened.readiness().ready
    assert closed.readiness().ready
    await fake_service.lose(fake_service.redis)
    assert (opened.readiness().ready, closed.readiness().ready) == (True, False)
    for guard in (fake_service.postgresql, fake_service.redis):
        await guard.close()
