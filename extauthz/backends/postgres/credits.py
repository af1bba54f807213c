"""Credits in PostgreSQL, as management grants them."""

from collections.abc import Sequence

from psycopg.rows import DictRow

from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import fetch
from extauthz.backends.postgres.statements import as_id
from extauthz.backends.postgres.suggestions import NothingCalled, meant
from extauthz.backends.postgres.writing import changing, expect
from extauthz.core.credits import Credits, Edit
from extauthz.core.errors import Conflict, NotFound
from extauthz.core.masking import shown
from extauthz.core.parsing import normal_name
from extauthz.core.preconditions import Wanted


class PostgresCredits:
    """The column `credits` of `organizations` and `api_keys`, and `credits_used`. `actor` is the author of changes."""

    def __init__(self, pool: Pool, *, actor: str) -> None:
        self._pool = pool
        self._actor = actor

    async def horizon(self) -> int:
        """A fence above every change that is committed by now. Raises StoreUnavailable."""
        return int((await fetch(self._pool, "horizon"))[0]["horizon"])

    async def of_organization(self, ref: str) -> Credits:
        """The credits of an organization, by id or name. Raises NotFound, StoreUnavailable."""
        async with meant(self._pool):
            return _of_organization(await fetch(self._pool, "credits_of_organization", _named(ref)), ref)

    async def of_key(self, key_id: str) -> Credits:
        """The credits of a key. Raises NotFound, StoreUnavailable."""
        return _of_key(await fetch(self._pool, "credits_of_key", {"id": as_id(key_id)}), key_id)

    async def grant_to_organization(self, ref: str, edit: Edit, *, reason: str, version: Wanted) -> Credits:
        """Grants the total that `edit` returns. Raises NotFound, InvalidInput, VersionMismatch, StoreUnavailable."""
        action = "organization.credits"
        async with meant(self._pool), changing(self._pool, self._actor, action=action, reason=reason) as change:
            for row in await change.fetch("lock_organization", _named(ref)):
                ref = row["id"]
            before = _of_organization(await change.fetch("credits_of_organization", _named(ref)), ref)
            expect(version, before.row_version)
            id_ = as_id(before.id)
            await change.fetch("grant_to_organization", {"id": id_, "granted": edit(before)})
            return _of_organization(await change.fetch("credits_of_organization", _named(before.id)), ref)

    async def grant_to_key(self, key_id: str, edit: Edit, *, reason: str, version: Wanted) -> Credits:
        """Grants the total that `edit` returns; the organization of the key is locked first, as for every change of it.

        Raises NotFound, Conflict (the key is revoked), InvalidInput, VersionMismatch, StoreUnavailable.
        """
        wanted = {"id": as_id(key_id)}
        async with changing(self._pool, self._actor, action="api_key.credits", reason=reason) as change:
            await change.fetch("lock_organization_of_key", wanted)
            for row in await change.fetch("lock_key", wanted):
                if row["revoked_at"] is not None:
                    raise Conflict("the key is revoked, for good; nothing of it can be changed")
            before = _of_key(await change.fetch("credits_of_key", wanted), key_id)
            expect(version, before.row_version)
            await change.fetch("grant_to_key", wanted | {"granted": edit(before)})
            return _of_key(await change.fetch("credits_of_key", wanted), key_id)


def _named(ref: str) -> dict[str, object]:
    return {"id": as_id(ref), "ref": ref, "normal": normal_name(ref)}


def _of_organization(rows: Sequence[DictRow], ref: str) -> Credits:
    if not rows:
        raise NothingCalled("organization", ref)
    return Credits(**rows[0])


def _of_key(rows: Sequence[DictRow], key_id: str) -> Credits:
    if not rows:
        raise NotFound(f"no key has the id {shown(key_id)!r}")
    return Credits(**rows[0])
