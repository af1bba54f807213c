"""Where nothing is counted: what observes nothing."""

from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.observers import Observer
from extauthz.core.ports import Cache, Layer, Store
from extauthz.core.reason import Reason
from extauthz.core.usage import QuotaEvent


class Unobserved(Observer):
    """An Observer that takes no notice of anything."""

    def cache_read(self, cache: Cache, layer: Layer | None, age: float | None, times: int = 1) -> None:
        """Takes no notice."""

    def store_failed(self, store: Store, reason: str) -> None:
        """Takes no notice."""

    def record_corrupt(self, error: StoreCorrupt) -> None:
        """Takes no notice."""

    def messages_flow(self, flows: bool) -> None:
        """Takes no notice."""

    def shadowed(self, reason: Reason) -> None:
        """Takes no notice."""

    def quota_threshold(self, event: QuotaEvent) -> None:
        """Takes no notice."""

    def rejections_written(self, rows: int) -> None:
        """Takes no notice."""

    def rejections_lost(self, refusals: int) -> None:
        """Takes no notice."""

    def limit_batch(self, checks: int) -> None:
        """Takes no notice."""

    def leased(self, operation: str, units: int) -> None:
        """Takes no notice."""

    def change_arrived(self, seconds: float) -> None:
        """Takes no notice."""

    def usage_saved(self, seconds: float, *, complete: bool) -> None:
        """Takes no notice."""

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        """Takes no notice."""

    def store_unfit(self, error: StoreUnavailable) -> None:
        """Takes no notice."""

    def usage_kept(self, error: StoreUnavailable | None) -> None:
        """Takes no notice."""
