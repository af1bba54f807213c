"""What is written behind the checks: charges, refusals, times of use, events of quotas."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from extauthz.aio.tasks import cancel_until_done
from extauthz.app.management import key_format
from extauthz.app.stores import OpenStores
from extauthz.backends.webhook import webhook_receiver
from extauthz.config import Settings
from extauthz.service.background import forever
from extauthz.service.limits.reconcile import CounterReconciler
from extauthz.service.limits.restore import CounterRestorer
from extauthz.service.usage.flush import UsageFlush
from extauthz.service.usage.last_used import LastUsed
from extauthz.service.usage.rejections import Rejections
from extauthz.service.usage.webhooks import Webhook
from extauthz.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class UsageWriters:
    """What checks tell of use, charges and refusals, and what writes it."""

    last_used: LastUsed
    flush: UsageFlush
    rejections: Rejections

    async def write_all(self) -> None:
        """Writes all of it once more at the end of a process."""
        await asyncio.gather(self.last_used.write_all(), self.flush.save_all(), self.rejections.write_all())


def open_writers(
    stack: AsyncExitStack, settings: Settings, opened: OpenStores, *, restorer: CounterRestorer, metrics: Metrics
) -> UsageWriters:
    """The writers, which write once more when the stack is left. Without usage stores they write nothing."""
    stores = opened.usage_stores
    if stores is None:
        flush = UsageFlush(None, None, complete=None, observer=metrics)
    else:
        complete = CounterReconciler(stores.tenants, restorer).complete
        flush = UsageFlush(stores.usage_source, stores.usage, complete=complete, observer=metrics)
    writers = UsageWriters(
        LastUsed(None if stores is None else stores.use_log),
        flush,
        Rejections(
            None if stores is None else stores.rejections,
            kept_days=settings.rejections_kept_days,
            hide=key_format(settings).hide,
            observer=metrics,
        ),
    )
    stack.push_async_callback(writers.write_all)
    return writers


async def keep_writing(
    stack: AsyncExitStack, settings: Settings, opened: OpenStores, *, writers: UsageWriters, metrics: Metrics
) -> None:
    """Writes charges and refusals again and again and delivers events of quotas, until the stack is left."""
    stores = opened.usage_stores
    if stores is None:
        return
    works: list[Callable[[], Awaitable[None]]] = [writers.flush.keep_saving, writers.rejections.keep_writing]
    if settings.webhook_url:
        receiver = await stack.enter_async_context(webhook_receiver(settings.webhook_url.get_secret_value()))
        secret = settings.webhook_secret.get_secret_value()
        works.append(Webhook(stores.events, receiver, secret=secret, observer=metrics).keep_delivering)
    for work in works:
        stack.push_async_callback(cancel_until_done, [asyncio.create_task(forever(work))])
