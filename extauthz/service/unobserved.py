"""Where nothing is counted: what observes nothing."""

from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.observers import Observer
from extauthz.core.ports import Cache, Layer, Store
from extauthz.core.reason import Reason
from extauthz.core.usage import QuotaEvent


class Unobserved(Observer):
    """An Observer that takes no notice of anything."""

    def cache_read(self, cache: Cache, layer: Layer | None, age: float | None, times: int = 1) -> None:
        """Does nothing."""

    def store_failed(self, store: Store, reason: str) -> None:
        """Does nothing."""

    def record_corrupt(self, error: StoreCorrupt) -> None:
        """Does nothing."""

    def messages_flow(self, flows: bool) -> None:
        """Does nothing."""

    def shadowed(self, reason: Reason) -> None:
        """Does nothing."""

    def quota_threshold(self, event: QuotaEvent) -> None:
        """Does nothing."""

    def rejections_written(self, rows: int) -> None:
        """Does nothing."""

    def rejections_lost(self, refusals: int) -> None:
        """Does nothing."""

    def limit_batch(self, checks: int) -> None:
        """Does nothing."""

    def leased(self, operation: str, units: int) -> None:
        """Does nothing."""

    def change_arrived(self, seconds: float) -> None:
        """Does nothing."""

    def usage_saved(self, seconds: float, *, complete: bool) -> None:
        """Does nothing."""

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        """Does nothing."""

    def store_unfit(self, error: StoreUnavailable) -> None:
        """Does nothing."""

    def usage_kept(self, error: StoreUnavailable | None) -> None:
        """Does nothing."""
