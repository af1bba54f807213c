"""The names that permissions can use: those that a route can ask for, and what a name that none asks for may mean."""

from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches


class Resources(Collection[str]):
    """Names of resources. Iterating gives those that the configuration names; where a path names its own, more exist.

    `segments` maps a path's segment to its name. `from_path` says whether a path can name a resource, None where no
    route takes one from the path.
    """

    def __init__(
        self, named: Collection[str], segments: Mapping[str, str], from_path: Callable[[str], bool] | None
    ) -> None:
        self._named = frozenset(named)
        self._segments = dict(segments)
        self._from_path = from_path

    @property
    def segments(self) -> Mapping[str, str]:
        """The name of each segment that is called otherwise in permissions."""
        return self._segments

    def __contains__(self, name: object) -> bool:
        if name in self._named:
            return True
        return self._from_path is not None and isinstance(name, str) and self._from_path(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._named))

    def __len__(self) -> int:
        return len(self._named)

    def meant(self, name: str) -> str:
        """The name that stands for this segment of a path, or the most similar one; empty where there is none."""
        if name in self._segments and self._segments[name] in self:
            return self._segments[name]
        near = {known.lower(): known for known in (*self._segments, *self._named)}
        similar = get_close_matches(name.lower(), near, n=1)
        if not similar:
            return ""
        found = near[similar[0]]
        return found if found in self else self._segments.get(found, "")
