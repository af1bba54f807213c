"""Events of quotas in PostgreSQL, as they are claimed and delivered."""

from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import execute
from extauthz.backends.postgres.statements import as_id
from extauthz.core.management_ports import ClaimedEvent

LATEST_DAYS = 3  # older events that were never tried are dropped: a new webhook does not get those of months before


class PostgresQuotaEvents:
    """The table `quota_events`. Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, at_most: int, lease_seconds: float) -> list[ClaimedEvent]:
        """Undelivered events that are due, oldest first, for this caller alone.

        One that is not settled within `lease_seconds` is due again.
        """
        arguments = {"at_most": at_most, "seconds": lease_seconds, "days": LATEST_DAYS}
        return [ClaimedEvent(**row) for row in await execute(self._pool, "claim_events", arguments)]

    async def delivered(self, event_id: str) -> None:
        """It is done with."""
        await execute(self._pool, "event_delivered", {"id": as_id(event_id)})

    async def postpone(self, event_id: str, seconds: float) -> None:
        """It is due again in so many seconds."""
        await execute(self._pool, "event_postponed", {"id": as_id(event_id), "seconds": seconds})

    async def give_up(self, event_id: str) -> None:
        """It is never due again."""
        await execute(self._pool, "event_given_up", {"id": as_id(event_id)})
