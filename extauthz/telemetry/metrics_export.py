"""Sends by OTLP what `/metrics` answers, again and again. It imports no library until that is on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from extauthz.telemetry.sender import Sender

LAST_SECONDS = 1.0  # that the last reading may take at the end

Read = Callable[[str], Awaitable[tuple[bytes, str]]]


@asynccontextmanager
async def metrics_sent(
    url: str, headers: Mapping[str, str], attributes: Mapping[str, str], *, every: float, read: Read
) -> AsyncIterator[None]:
    """Sends to the endpoint at `url` what `read` answers, every so many seconds and at the end.

    `read` is given an empty `Accept` header, and answers in the text format of Prometheus.
    """
    from extauthz.telemetry.metric_points import MetricReceiver  # noqa: PLC0415 - the SDK is imported only where metrics are sent

    # Counts never fall, so what is read later says all of what was not sent.
    sender = Sender(MetricReceiver(url, headers, attributes), "metrics", queue_max=1)

    async def put() -> None:
        text, _ = await read("")
        sender.put(text, 1)

    async def keep_putting() -> None:
        while True:
            await asyncio.sleep(every)
            await put()

    task = asyncio.create_task(keep_putting())
    try:
        yield
    finally:
        task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await put()
        await sender.close()
