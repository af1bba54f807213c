"""An observer that records its calls, which tests can await."""

from collections import Counter

from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.ports import Cache, Layer, Store
from extauthz.core.reason import Reason
from extauthz.core.usage import QuotaEvent
from tests.servers.waiting import News


class RecordingObserver:
    """`changes` in the order of the calls; `failures` and `reads` are counted."""

    def __init__(self) -> None:
        self.failures: Counter[tuple[Store, str]] = Counter()
        self.changes: list[tuple[Store, bool, str]] = []
        self.unfit: list[str] = []
        self.kept: list[str] = []
        self.corrupt: list[StoreCorrupt] = []
        self.reads: Counter[tuple[Cache, Layer | None]] = Counter()
        self.thresholds: list[QuotaEvent] = []
        self.saves: list[bool] = []  # whether each was complete
        self.lost = 0
        self.batches: list[int] = []
        self.flows = False
        self._told = News()
        self.until = self._told.until

    def clear(self) -> None:
        """Drops the records so far."""
        self.failures.clear()
        self.changes.clear()
        self.corrupt.clear()

    def cache_read(self, cache: Cache, layer: Layer | None, age: float | None, times: int = 1) -> None:  # noqa: ARG002 - only told
        self.reads[cache, layer] += times
        self._told.set()

    def messages_flow(self, flows: bool) -> None:
        self.flows = flows
        self._told.set()

    def store_failed(self, store: Store, reason: str) -> None:
        self.failures[store, reason] += 1
        self._told.set()

    def record_corrupt(self, error: StoreCorrupt) -> None:
        self.corrupt.append(error)
        self._told.set()

    def shadowed(self, reason: Reason) -> None:  # noqa: ARG002 - only told
        self._told.set()

    def quota_threshold(self, event: QuotaEvent) -> None:
        self.thresholds.append(event)
        self._told.set()

    def rejections_written(self, rows: int) -> None:
        """Rows were written."""

    def rejections_lost(self, refusals: int) -> None:
        self.lost += refusals

    def limit_batch(self, checks: int) -> None:
        self.batches.append(checks)

    def leased(self, operation: str, units: int) -> None:
        """Units were taken ahead, or given back."""

    def usage_saved(self, seconds: float, *, complete: bool) -> None:
        assert seconds >= 0
        self.saves.append(complete)
        self._told.set()

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        self.changes.append((store, up, reason))
        self._told.set()

    def usage_kept(self, error: StoreUnavailable | None) -> None:
        self.kept.append("" if error is None else error.reason)
        self._told.set()

    def store_unfit(self, error: StoreUnavailable) -> None:
        self.unfit.append(error.detail)
        self._told.set()
