"""Refusals as they are kept: counted by organization, key, route and decision in spans of five minutes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

SPAN = 300  # seconds
SAMPLES = 20  # of one group, the last ones
PATH_LONGEST, WORD_LONGEST = 256, 128  # characters
OTHER = "other"  # the route and the address of what has no room of its own
UNKNOWN = "unknown"  # the address of what a proxy asked in a way that says none


class Group(NamedTuple):
    """What is counted together. `since` is the Unix seconds at which its five minutes begin.

    `tenant_id` and `key_id` are empty where they are not known; `address` is the group of client addresses where no
    organization is known, and empty where one is. `route` is the pattern of a path, empty where no route matched.
    `reason` says more than `decision` where there is more.
    """

    since: int
    tenant_id: str
    key_id: str
    address: str
    route: str
    decision: str
    reason: str

    @property
    def shared(self) -> "Group":
        """The group of all that has no room of its own."""
        return self._replace(key_id="", address=OTHER if self.address else "", route=OTHER)


class Sample(NamedTuple):
    """One refused request: Unix seconds, method, path without query, and the id by which proxies log it."""

    at: float
    method: str
    path: str
    request_id: str


class Rejected(NamedTuple):
    """Refusals of one group that are not written down yet."""

    group: Group
    times: int
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class RejectionFilter:
    """Which rows are wanted; None: any. Times bound the beginning of the five minutes."""

    since: datetime | None = None
    until: datetime | None = None
    key_id: str | None = None
    decision: str | None = None
    route: str | None = None


EVERY_REJECTION = RejectionFilter()


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row: `count` refusals of a kind in the five minutes from `since` on, and the last of them."""

    since: datetime
    organization_id: str | None
    api_key_id: str | None
    api_key_name: str | None
    address: str | None
    route: str | None
    decision: str
    reason: str
    count: int
    samples: Sequence[Mapping[str, str]]

    def to_json(self) -> dict[str, object]:
        """One JSON object; times in ISO 8601."""
        return {
            "from": self.since.isoformat(),
            "decision": self.decision,
            "reason": self.reason,
            "route": self.route,
            "organization_id": self.organization_id,
            "api_key_id": self.api_key_id,
            "api_key_name": self.api_key_name,
            "address": self.address,
            "count": self.count,
            "samples": [dict(sample) for sample in self.samples],
        }
