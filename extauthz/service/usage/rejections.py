"""Refusals are counted in the process and written down behind the checks, so that they can be asked for later."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from time import monotonic
from uuid import UUID, uuid4

import structlog

from extauthz.core.addresses import address_group
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow
from extauthz.core.errors import StoreUnavailable
from extauthz.core.observers import Observer
from extauthz.core.ports import POSTGRESQL, RejectionStore
from extauthz.core.rejections import PATH_LONGEST, SAMPLES, SPAN, UNKNOWN, WORD_LONGEST, Group, Rejected, Sample
from extauthz.core.request import CheckRequest
from extauthz.service.store_calls import bounded_call

TENANT_GROUPS, UNKNOWN_GROUPS = 100, 1000  # of one organization, and of all addresses, in five minutes
GROUPS_MAX, SAMPLES_MAX = 20_000, 20_000  # that wait to be written down
SEEN_MAX = 50_000  # groups that have room of their own in this and the last five minutes
GROUPS_PER_BATCH_MAX = 2000
WRITE_INTERVAL_SECONDS = 5.0
DELETE_INTERVAL_SECONDS = 600.0
CALL_TIMEOUT_SECONDS = 5.0
STOP_TIMEOUT_SECONDS = 1.0  # for all calls at the end of a process
RETRY_DELAY_SECONDS = 0.25  # until then


class Rejections:
    """Counts refusals by group until they are written down.

    What an organization has beyond TENANT_GROUPS in five minutes goes into one group for each decision, and so does
    what addresses have beyond UNKNOWN_GROUPS. While PostgreSQL is away for long, groups that wait are counted on; for
    others there is room for GROUPS_MAX, what goes beyond is lost, and the log says how many.
    """

    def __init__(
        self, store: RejectionStore | None, *, kept_days: int, hide: Callable[[str], str], observer: Observer
    ) -> None:
        """`store` None, or `kept_days` 0: nothing is kept. `hide` takes what could be a key out of a client's words."""
        self._store = store if kept_days else None
        self._kept_days = kept_days
        self._hide = hide
        self._observer = observer
        self._counts: Counter[Group] = Counter()
        self._samples: dict[Group, deque[Sample]] = {}
        self._sampled = 0
        self._seen: dict[tuple[int, str], set[Group]] = {}
        self._rooms = 0
        self._batch: tuple[UUID, list[Rejected]] | None = None
        self._lost = 0
        self._pulls: list[Callable[[], Iterator[None]]] = []
        self._forgot_at: float | None = None

    def pull(self, count: Callable[[], Iterator[None]]) -> None:
        """Lets something count what it has not counted yet, step by step, before refusals are written down."""
        self._pulls.append(count)

    def decided(self, result: CheckResult) -> None:
        """Counts a refusal; an allowed check is none."""
        self.denied(result, 1, () if result.request is None else (result.request,))

    def denied(self, result: CheckResult, times: int, requests: Sequence[CheckRequest]) -> None:
        """Counts a refusal that came so often in a span of five minutes; `requests` are the last of them."""
        if self._store is None or isinstance(result.decision, Allow):
            return
        subject, request = result.subject, result.request
        address = UNKNOWN if request is None else address_group(request.client_address)
        group = self._room_for(
            Group(
                int(result.at) // SPAN * SPAN,
                tenant_id="" if subject is None else subject.organization_id,
                key_id="" if subject is None else subject.id,
                address=address if subject is None else "",
                route="" if result.route is None else result.route.path,
                decision=result.decision.reason.value,
                reason=result.why,
            )
        )
        if group not in self._counts and len(self._counts) >= GROUPS_MAX:
            self._lost += times
            self._observer.rejections_lost(times)
            return
        self._counts[group] += times
        for each in requests:
            self._sample(group, each)

    async def keep_writing(self) -> None:
        """Writes what was counted again and again, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL_SECONDS)
            await self.write()

    async def write_all(self) -> None:
        """Writes what was counted once more at the end of a process, with a little patience."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                while not await self.write():  # noqa: ASYNC110 - no one would set an event
                    await asyncio.sleep(RETRY_DELAY_SECONDS)

    async def write(self) -> bool:
        """Writes what was counted. False: the store failed, and the rest waits."""
        if self._store is None:
            return True
        for pull in self._pulls:
            for _ in pull():
                await asyncio.sleep(0)  # to read thousands of requests at once would hold all checks
        try:
            for _ in range((self._batch is not None) + -(-len(self._counts) // GROUPS_PER_BATCH_MAX)):
                id_, rows = self._next()
                await bounded_call(self._store.add(id_, rows), CALL_TIMEOUT_SECONDS, POSTGRESQL)
                self._batch = None
                self._observer.rejections_written(len(rows))
            if self._forgot_at is None or monotonic() - self._forgot_at >= DELETE_INTERVAL_SECONDS:
                self._forgot_at = monotonic()
                if await bounded_call(self._store.delete_old(self._kept_days), CALL_TIMEOUT_SECONDS, POSTGRESQL):
                    self._forgot_at = None  # the rest next time, or more rows could come than go
        except StoreUnavailable as error:
            self._observer.store_failed(POSTGRESQL, error.reason)
            return False
        if self._lost:
            structlog.get_logger().warning("rejections_lost", count=self._lost)
            self._lost = 0
        return True

    def _room_for(self, group: Group) -> Group:
        owner = group.since, group.tenant_id
        seen = self._seen.get(owner)
        if seen is None:
            self._drop_spans(group.since)
            seen = self._seen[owner] = set()
        if group in seen:
            return group
        most = TENANT_GROUPS if group.tenant_id else UNKNOWN_GROUPS
        if len(seen) >= most or self._rooms >= SEEN_MAX:
            return group.shared
        seen.add(group)
        self._rooms += 1
        return group

    def _drop_spans(self, now: int) -> None:
        """Drops the groups of earlier spans; the clock does not go back further than one."""
        for owner in [owner for owner in self._seen if owner[0] < now - SPAN]:
            self._rooms -= len(self._seen.pop(owner))

    def _sample(self, group: Group, request: CheckRequest) -> None:
        samples = self._samples.get(group)
        if samples is None:
            samples = self._samples[group] = deque(maxlen=SAMPLES)
        if len(samples) < SAMPLES:
            if self._sampled >= SAMPLES_MAX:
                return
            self._sampled += 1
        path = self._hide(request.path.partition("?")[0][:PATH_LONGEST])
        method, request_id = self._hide(request.method[:WORD_LONGEST]), self._hide(request.request_id[:WORD_LONGEST])
        samples.append(Sample(request.now, method, path, request_id))

    def _next(self) -> tuple[UUID, list[Rejected]]:
        """The batch to be written, the same until it is known to be."""
        if self._batch is None:
            groups = list(islice(self._counts, GROUPS_PER_BATCH_MAX))
            rows = []
            for group in groups:
                samples = self._samples.pop(group, ())
                self._sampled -= len(samples)
                rows.append(Rejected(group, self._counts.pop(group), tuple(samples)))
            self._batch = uuid4(), rows
        return self._batch
