"""Single flight: one call for all that want the same."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar


class Flight(Protocol):
    """A call under way, such as a task or a future."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> object:
        """Call `callback` when the call is over."""
        ...


Key = TypeVar("Key", bound=Hashable)
FlightT = TypeVar("FlightT", bound=Flight)


class SingleFlight(Generic[Key, FlightT]):
    """Calls under way by key: whatever asks for a key meanwhile shares its call, however that ends."""

    def __init__(self) -> None:
        self._flights: dict[Key, FlightT] = {}

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def under_way(self) -> list[FlightT]:
        """The calls under way."""
        return list(self._flights.values())

    def join(self, key: Key, begin: Callable[[], FlightT]) -> FlightT:
        """Return the call under way for a key, or the one that `begin` makes."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = begin()
            flight.add_done_callback(partial(self._over, key))
        return flight

    def _over(self, key: Key, _: object) -> None:
        del self._flights[key]
