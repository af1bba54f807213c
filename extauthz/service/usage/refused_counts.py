"""Refusals, counted in the process: a request that is refused leaves Redis as it is."""

from collections.abc import Sequence
from datetime import date
from itertools import islice
from uuid import UUID, uuid4

import structlog

from extauthz.core.limit_kinds import QUOTA_REASONS
from extauthz.core.reason import Reason
from extauthz.core.usage import Refused

ROWS_MAX = 50_000  # a key on a day is one
ROWS_PER_BATCH_MAX = 5000  # rows of a batch


class RefusedCounts:
    """Sums by organization, key and day until they are added.

    While PostgreSQL is away for long, those that have a row are counted on; for others there is room for ROWS_MAX
    rows, what goes beyond is lost, and the log says how many. Bills do not depend on them.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, date], list[int]] = {}
        self._batch: tuple[UUID, Sequence[Refused]] | None = None
        self._lost = 0

    def note(self, tenant_id: str, key_id: str, *, day: date, reason: Reason) -> None:
        """A request was refused by a bucket or a quota; other reasons are not counted."""
        over_quota = reason in QUOTA_REASONS
        if not over_quota and reason is not Reason.RATE_LIMITED:
            return
        row = tenant_id, key_id, day
        counts = self._counts.get(row)
        if counts is None:
            if len(self._counts) >= ROWS_MAX:
                self._lost += 1
                return
            counts = self._counts[row] = [0, 0]
        counts[over_quota] += 1

    @property
    def batches(self) -> int:
        """How many batches all of it is now."""
        return (self._batch is not None) + -(-len(self._counts) // ROWS_PER_BATCH_MAX)

    def next(self) -> tuple[UUID, Sequence[Refused]] | None:
        """The batch to be added, the same until it is known to be; None: there is none."""
        if self._batch is None and self._counts:
            rows = list(islice(self._counts, ROWS_PER_BATCH_MAX))
            self._batch = uuid4(), [Refused(*row, *self._counts.pop(row)) for row in rows]
        return self._batch

    def added(self) -> None:
        """The batch is added."""
        self._batch = None
        if self._lost:
            structlog.get_logger().warning("refusals_not_counted", count=self._lost)
            self._lost = 0
