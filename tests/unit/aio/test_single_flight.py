"""Single flight: one call for all that ask for a key while it is under way."""

import asyncio

from extauthz.aio.single_flight import SingleFlight


async def test_one_call_per_key() -> None:
    """What asks for the same key meanwhile shares the call; another key has its own."""
    flights = SingleFlight[str, "asyncio.Future[int]"]()
    loop = asyncio.get_running_loop()
    one, same = flights.join("a", loop.create_future), flights.join("a", loop.create_future)
    other = flights.join("b", loop.create_future)
    assert one is same
    assert other is not one
    assert len(flights) == 2
    assert flights.under_way == [one, other]
    one.set_result(1)
    other.set_result(2)


async def test_next_call_begins_when_one_is_over() -> None:
    """A result, a failure and a cancellation end a flight alike."""
    flights = SingleFlight[str, "asyncio.Task[int]"]()

    async def result() -> int:
        return 7

    async def failure() -> int:
        raise LookupError

    async def silence() -> int:
        await asyncio.Event().wait()
        return 0

    for call in (result, failure, silence):
        task = flights.join("a", lambda call=call: asyncio.create_task(call()))  # type: ignore[misc]  # bound at once
        if call is silence:
            task.cancel()
        await asyncio.wait({task})
        assert len(flights) == 0
        assert task.cancelled() or task.exception() or task.result() == 7


async def test_waiter_that_leaves_does_not_end_the_call() -> None:
    """The call goes on for the others."""
    flights = SingleFlight[str, "asyncio.Task[int]"]()
    go = asyncio.Event()

    async def call() -> int:
        await go.wait()
        return 7

    async def wait() -> int:
        task = flights.join("a", lambda: asyncio.create_task(call()))
        await asyncio.wait({task})
        return task.result()

    leaves, stays = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    leaves.cancel()
    go.set()
    assert await stays == 7
    assert leaves.cancelled()
