"""Credits of organizations and keys, as operators grant them."""

from contextlib import suppress
from dataclasses import replace

from extauthz.core.changes import EntityRef
from extauthz.core.credits import CREDITS_MAX, REASON_MAX, Credits, CreditStore, Edit
from extauthz.core.errors import InvalidInput, StoreUnavailable
from extauthz.core.parsing import unfit
from extauthz.core.ports import SharedInvalidations
from extauthz.core.preconditions import Wanted
from extauthz.core.usage_report import LiveUsage
from extauthz.service.directory.invalidation import ChangeNotifier


class CreditService:
    """Shows and grants credits. Every method may raise NotFound, StoreUnavailable.

    A holder is an organization, by id or name, or a key, by id. A change notifies the shared cache; the flag that is
    returned says whether it could. `version` is the `row_version` of the holder that a change is meant for, so that a
    grant that is sent twice is granted once: VersionMismatch where the holder has another by now.
    """

    def __init__(self, *, store: CreditStore, live: LiveUsage, invalidations: SharedInvalidations) -> None:
        """`live` has what was used and is not saved yet."""
        self._store = store
        self._live = live
        self._notifier = ChangeNotifier(store, invalidations)

    async def show(self, holder: EntityRef) -> Credits:
        """What was granted and used."""
        of = self._store.of_key if holder.kind == "api_key" else self._store.of_organization
        return await self._with_live(await of(holder.id))

    async def add(
        self, holder: EntityRef, amount: int, *, reason: str = "", version: Wanted = None
    ) -> tuple[Credits, bool]:
        """Raises the total by `amount`; a holder without credits gets `amount` more than it has used.

        Raises InvalidInput, VersionMismatch; Conflict for a revoked key.
        """
        _check("add", amount, least=1)
        used = (await self.show(holder)).used

        def edit(before: Credits) -> int:
            total = (max(before.used, used) if before.granted is None else before.granted) + amount
            if total > CREDITS_MAX:
                raise InvalidInput(f"credits must be at most {CREDITS_MAX} in total (got {total})")
            return total

        return await self._grant(holder, edit, reason, version)

    async def set(
        self, holder: EntityRef, total: int | None, *, reason: str = "", version: Wanted = None
    ) -> tuple[Credits, bool]:
        """Makes `total` what was granted so far, used or not; None: without such a limit. Raises as `add`."""
        if total is not None:
            _check("credits", total, least=0)
        return await self._grant(holder, lambda _: total, reason, version)

    async def _grant(self, holder: EntityRef, edit: Edit, reason: str, version: Wanted) -> tuple[Credits, bool]:
        _check_reason(reason)
        grant = self._store.grant_to_key if holder.kind == "api_key" else self._store.grant_to_organization
        granted = await self._with_live(await grant(holder.id, edit, reason=reason, version=version))
        return granted, await self._notifier.notify_change(EntityRef(holder.kind, granted.id))

    async def _with_live(self, saved: Credits) -> Credits:
        """With what was used until now; while Redis is away, with what is saved."""
        with suppress(StoreUnavailable):
            return replace(saved, used=max(saved.used, await self._live.count(saved.organization_id, saved.counter)))
        return saved


def _check(field: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= CREDITS_MAX:
        raise InvalidInput(f"{field} must be a whole number from {least} to {CREDITS_MAX}")


def _check_reason(reason: str) -> None:
    if len(reason) > REASON_MAX:
        raise InvalidInput(f"reason must have at most {REASON_MAX} characters (got {len(reason)})")
    if character := unfit(reason):
        raise InvalidInput(f"reason must hold no control and no invisible character (got {character})")
