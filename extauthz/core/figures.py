"""Figures: what the database says of keys, webhooks and the audit log, as metrics and alerts need it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figures:
    """One reading. Of usable keys: how many end within 7 and 30 days, and how many each pepper signs.

    `backlog` is how many quota events wait to be delivered and `oldest_seconds` the age of the oldest; None where no
    webhook is told. `audit_rows` is the number of the audit log's last row, `names` are organizations' names by id.
    """

    expiring_7d: int
    expiring_30d: int
    by_pepper: Mapping[str, int]
    audit_rows: int
    backlog: int | None = None
    oldest_seconds: float | None = None
    names: Mapping[str, str] = field(default_factory=dict)
