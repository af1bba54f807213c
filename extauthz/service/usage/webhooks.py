"""Webhooks: events of quotas are posted to an HTTP server, signed, and repeated until it accepts them.

The form and the signature are those of Standard Webhooks, for which there are libraries to verify with.
"""

import asyncio
import base64
import hmac
import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC
from time import time
from typing import Protocol

import structlog

from extauthz.core.errors import StoreUnavailable
from extauthz.core.management_ports import ClaimedEvent, QuotaEvents
from extauthz.core.observers import Observer
from extauthz.core.ports import POSTGRESQL

LOOK_INTERVAL_SECONDS = 2.0
MAX_CONCURRENT_DELIVERIES = 10  # deliveries under way in one process
CLAIM_SECONDS = 60.0  # in which an event is ours alone; a delivery takes less
BACK_OFF = (5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600)  # seconds after each attempt; after one more it is given up
JITTER = 0.25  # share of that, at most, which is added at random

_PREFIX = b"whsec_"  # before a secret that is written in base64, as the scheme has it


class Receiver(Protocol):
    """The HTTP server that events are posted to."""

    async def post(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Hands it over within CLAIM_SECONDS. Empty where it was taken, else a few words that say why not."""
        ...


class Webhook:
    """Delivers events of quotas, each at least once, or says in the log that it was given up.

    Several workers may do so at once: the one that claims an event delivers it. `secret` signs: the bytes of a text, or
    `whsec_` and base64: ValueError where it is none.
    """

    def __init__(
        self,
        events: QuotaEvents,
        receiver: Receiver,
        *,
        secret: bytes,
        observer: Observer,
        clock: Callable[[], float] = time,
    ) -> None:
        self._events = events
        self._receiver = receiver
        self._key = _key(secret)
        self._observer = observer
        self._clock = clock

    async def keep_delivering(self) -> None:
        """Delivers what is due, until cancelled; a delivery that is cut off is repeated by another worker."""
        while True:
            if await self.deliver() < MAX_CONCURRENT_DELIVERIES:
                await asyncio.sleep(LOOK_INTERVAL_SECONDS)

    async def deliver(self) -> int:
        """Attempts to deliver what is due, each event once; how many there were."""
        try:
            claimed = await self._events.claim(MAX_CONCURRENT_DELIVERIES, CLAIM_SECONDS)
        except StoreUnavailable as error:
            self._observer.store_failed(POSTGRESQL, error.reason)
            return 0
        await asyncio.gather(*map(self._attempt, claimed))
        return len(claimed)

    async def _attempt(self, event: ClaimedEvent) -> None:
        body = _body(event)
        refusal = await self._receiver.post(body, _headers(self._key, event.id, int(self._clock()), body))
        try:
            if not refusal:
                await self._events.delivered(event.id)
            elif event.attempts > len(BACK_OFF):
                await self._events.give_up(event.id)
                structlog.get_logger().error("webhook_given_up", event_id=event.id, reason=refusal)
            else:
                wait = BACK_OFF[event.attempts - 1] * (1 + random.uniform(0, JITTER))  # noqa: S311 - no secret
                await self._events.postpone(event.id, wait)
                structlog.get_logger().warning(
                    "webhook_not_delivered",
                    event_id=event.id,
                    reason=refusal,
                    attempt=event.attempts,
                    again_in=round(wait),
                )
        except StoreUnavailable as error:  # it is due again when our lease is over
            self._observer.store_failed(POSTGRESQL, error.reason)


def _body(event: ClaimedEvent) -> bytes:
    """The same bytes at every attempt, as long as the organization has its name."""
    data = {
        "organization_id": event.organization_id,
        "organization": event.organization,
        "quota": event.quota,
        "window_start": event.window_start.isoformat(),
        "threshold": event.threshold,
        "used": event.used,
        "limit": event.limit,
    }
    timestamp = event.at.astimezone(UTC).isoformat()
    return json.dumps({"type": "quota.threshold", "timestamp": timestamp, "data": data}).encode()


def _headers(key: bytes, event_id: str, now: int, body: bytes) -> dict[str, str]:
    """The id stays the same at every attempt; `now` (Unix seconds) is that of the attempt, against replay."""
    digest = hmac.digest(key, f"{event_id}.{now}.".encode() + body, "sha256")
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        "content-type": "application/json",
    }


def _key(secret: bytes) -> bytes:
    if secret.startswith(_PREFIX):
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return secret
