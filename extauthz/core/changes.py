"""What changed in PostgreSQL, and from which read on a record includes it.

A version here is the number of a read: the lowest transaction that was not over when PostgreSQL took the read's
snapshot (`pg_snapshot_xmin`). A change made by transaction X is in every read whose version is above X, so a fence of
X + 1 keeps out all records that may lack the change, from every reader and in whatever order they arrive. A read
that began while an older transaction was open has a low version: it may be kept out although it has the change, but
never let in without it.
"""

import re
from typing import Literal, NamedTuple

Kind = Literal["api_key", "organization", "plan", "everything"]

CHANNEL = "extauthz"
_MESSAGE = re.compile(r"(api_key|organization|plan) ([\x20-\x7e]{1,255}) ([0-9]{1,19})", re.ASCII)
_KINDS: dict[str, Kind] = {"api_key": "api_key", "organization": "organization", "plan": "plan"}


class EntityRef(NamedTuple):
    """Something that records are made of."""

    kind: Kind
    id: str


EVERYTHING = EntityRef("everything", "")


class Change(NamedTuple):
    """Records of `thing` that were read with a version below `fence` may not know what it is now."""

    thing: EntityRef
    fence: int


def parse_change(message: str) -> Change | None:
    """The change that a trigger told of, as `api_key <id> <transaction>`; None for what says nothing to us."""
    match = _MESSAGE.fullmatch(message)
    return None if match is None else Change(EntityRef(_KINDS[match[1]], match[2]), int(match[3]) + 1)
