"""What a call asks of the version of the thing that it is about (RFC 9110 §13)."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Precondition:
    """`match`: versions of which the thing has one, None is any. `none_match`: versions of which it has none.

    `absent`: there is no such thing, so that nothing holds of one that is there.
    """

    match: Collection[int] | None = None
    none_match: Collection[int] = ()
    absent: bool = False

    def holds(self, version: int) -> bool:
        """Whether it holds of a thing with this version."""
        return not self.absent and version not in self.none_match and (self.match is None or version in self.match)


Wanted = Precondition | int | None  # of a change: what it asks, the one version it is meant for, or nothing


def holds(wanted: Wanted, version: int) -> bool:
    """Whether a change may be made to a thing with this version."""
    if isinstance(wanted, Precondition):
        return wanted.holds(version)
    return wanted is None or wanted == version
