"""Many calls at once wait for their turn; a server that hangs holds no caller, and gets a bounded number of calls."""

import asyncio

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.admin.api import AdminApi
from extauthz.admin.concurrency import ConcurrencyLimit
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.core.errors import NotFound
from extauthz.demo.postgres import Postgres
from tests.servers.admin_api import TOKENS, Caller, code, services, serving, value
from tests.servers.fixtures import paused
from tests.servers.raw_http import Answer

PLACES = 2


async def test_all_of_many_get_their_turn(database: str, redis: RedisClient) -> None:
    """64 changes at the same moment on four connections: every one is made."""
    async with open_pool(database, size=4, wait=5, statement_timeout=5) as pool:
        fake_service = services(pool, redis)
        assert fake_service.places == 4
        async with serving(AdminApi(fake_service, TOKENS)) as port:
            ops = Caller(port)
            calls = [ops("POST", "/v1/plans", {"name": f"p{number}"}) for number in range(64)]
            assert {answer.status for answer in await asyncio.gather(*calls)} == {201}


async def test_a_server_that_hangs_does_not_hold_callers(
    pool: Pool, redis: RedisClient, postgres_server: Postgres
) -> None:
    """A call that had begun is answered that its outcome is unknown, any other that nothing was changed.

    The one change that had begun is made or not, once; a call that waited in vain for its turn is never made, and
    calls succeed again afterwards.
    """
    api = AdminApi(
        services(pool, redis), TOKENS, concurrency=ConcurrencyLimit(PLACES, slot_timeout=0.2, operation_timeout=0.5)
    )
    async with serving(api) as port:
        ops = Caller(port)
        await asyncio.gather(*(ops("GET", "/v1/plans") for _ in range(PLACES)))  # connections are open
        with paused(postgres_server):
            begun = [asyncio.create_task(ops("POST", "/v1/plans", {"name": f"begun{n}"})) for n in range(PLACES)]
            await asyncio.wait(begun, timeout=0.1)
            late = await ops("POST", "/v1/plans", {"name": "late"})
            assert (late.status, code(late), late["retry-after"]) == (503, "busy", "1")
            assert "nothing was changed" in value(late)["detail"]
            for answer in await asyncio.gather(*begun):
                assert (answer.status, code(answer), answer["retry-after"]) == (503, "store_unavailable", "1")
                assert "whether anything was changed is not known" in value(answer)["detail"]
            still = await ops("GET", "/v1/plans")  # slots stay taken until the server answers
            assert (still.status, code(still)) == (503, "busy")
        answer = await _answered(ops)
        names = [plan["name"] for plan in value(answer)["items"]]
        assert "late" not in names
        assert len(names) == len(set(names))


async def _answered(ops: Caller) -> Answer:
    """The first answer that is none of a server that is away."""
    async with asyncio.timeout(10):
        while (answer := await ops("GET", "/v1/plans")).status == 503:
            pass
    return answer


async def test_a_server_that_hangs_does_not_hold_up_a_stop(
    database: str, redis: RedisClient, postgres_server: Postgres
) -> None:
    """A service with abandoned operations still stops in time."""
    async with asyncio.timeout(8), open_pool(database, size=1, wait=5, statement_timeout=5) as pool:
        with paused(postgres_server):
            async with serving(
                AdminApi(services(pool, redis), TOKENS, concurrency=ConcurrencyLimit(1, operation_timeout=0.2))
            ) as port:
                assert (await Caller(port)("GET", "/v1/plans")).status == 503


async def test_an_error_of_an_operation_reaches_its_caller() -> None:
    """An operation that fails in time raises its error to its caller, and frees its slot."""
    turns = ConcurrencyLimit(1, slot_timeout=0.01)

    async def fail() -> None:
        raise NotFound("nobody")

    for _ in range(2):
        with pytest.raises(NotFound):
            await turns.take(fail())
    await turns.close()
