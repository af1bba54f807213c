"""Keys in PostgreSQL, as a person manages them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from extauthz.backends.postgres import pages
from extauthz.backends.postgres.errors import refused
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import fetch
from extauthz.backends.postgres.statements import as_id
from extauthz.backends.postgres.writing import Change, changing, expect
from extauthz.core.errors import (
    AlreadyImported,
    Conflict,
    ExtauthzError,
    InvalidInput,
    LastUsableKey,
    NotFound,
    StoreCorrupt,
)
from extauthz.core.limit_kinds import LIMIT_COLUMNS
from extauthz.core.limits import Limits
from extauthz.core.management import KeyDetails, KeyTerms, Listing, NewKey, parse_metadata
from extauthz.core.management_ports import Succession
from extauthz.core.masking import shown
from extauthz.core.permissions import Permissions, parse_permissions, storable
from extauthz.core.ports import POSTGRESQL
from extauthz.core.preconditions import Wanted

_PARSED = {"permissions", "metadata", "limits"}
_REVIVED_BY = {"disabled": "enable", "expired": "update"}


class PostgresKeys:
    """The table `api_keys`. `actor` is the author of changes in the audit log."""

    def __init__(self, pool: Pool, *, actor: str) -> None:
        self._pool = pool
        self._actor = actor

    async def horizon(self) -> int:
        """A fence above every change that is committed by now. Raises StoreUnavailable."""
        return int((await fetch(self._pool, "horizon"))[0]["horizon"])

    async def create(self, new: NewKey) -> KeyDetails:
        """Stores a key. Raises InvalidInput, Conflict, StoreUnavailable."""
        async with changing(self._pool, self._actor) as change:
            return await _create(change, new)

    async def import_many(self, news: Sequence[NewKey]) -> list[KeyDetails | ExtauthzError]:
        """Stores keys of one organization; what is refused spares the others. One import at a time.

        They are stored in the order of their digests, so that none waits for another in a circle.

        Raises Conflict, StoreUnavailable; then nothing was stored.
        """
        async with changing(self._pool, self._actor, action="api_key.import") as change:
            await change.fetch("one_import", {})
            hashes = [bytes.fromhex(digest) for new in news for digest in new.digests]
            rows = await change.fetch("known_hashes", {"hashes": hashes})
            known: dict[str, Mapping[str, object]] = {row["digest"]: row for row in rows}
            outcomes: dict[int, KeyDetails | ExtauthzError] = {}
            for place, new in sorted(enumerate(news), key=lambda each: each[1].digests[0]):
                try:
                    _refuse_known(new, known)
                    async with change.attempt():
                        key = await _create(change, new)
                except (Conflict, InvalidInput) as error:
                    outcomes[place] = error
                else:
                    known[new.digests[0]] = _as_known(new, key)
                    outcomes[place] = key
            return [outcomes[place] for place in range(len(news))]

    async def list_of(self, organization_id: str) -> list[KeyDetails]:
        """All keys of an organization, newest first. Raises StoreUnavailable."""
        return [
            _details(row) for row in await fetch(self._pool, "list_keys", {"organization_id": as_id(organization_id)})
        ]

    async def page(self, organization_id: str | None, *, limit: int, cursor: str | None) -> Listing[KeyDetails]:
        """Keys of one organization or of all, newest first. Raises InvalidInput, StoreUnavailable."""
        whose = None if organization_id is None else as_id(organization_id)
        arguments = pages.asked(limit, cursor) | {"organization_id": whose}
        with refused():
            rows = await fetch(self._pool, "page_of_keys", arguments)
        return pages.listing(rows, limit, _details)

    async def show(self, key_id: str) -> KeyDetails:
        """One key. Raises NotFound, StoreUnavailable."""
        return _only(await fetch(self._pool, "show_key", {"id": as_id(key_id)}), key_id)

    async def update(self, key_id: str, edit: Callable[[KeyDetails], KeyDetails], *, version: Wanted) -> KeyDetails:
        """Stores terms and `disabled_at`. Raises NotFound, InvalidInput, VersionMismatch, StoreUnavailable."""
        async with changing(self._pool, self._actor) as change:
            before = await _locked(change, key_id)
            expect(version, before.row_version)
            after = edit(before)
            values = _terms(after.terms) | {"id": as_id(key_id), "disabled_at": after.disabled_at}
            return _only(await change.fetch("update_key", values), key_id)

    async def rotate(self, key_id: str, succeed: Callable[[KeyDetails], Succession]) -> tuple[KeyDetails, KeyDetails]:
        """Puts a new key in place of a key; the new one and the old one.

        Raises NotFound, Conflict (it has credits), InvalidInput, StoreUnavailable.
        """
        async with changing(self._pool, self._actor, action="api_key.rotate") as change:
            succession = succeed(await _locked(change, key_id))
            (held,) = await change.fetch("credits_of_key", {"id": as_id(key_id)})
            if held["granted"] is not None:
                raise Conflict("the key has credits of its own, which do not move to another key; create one instead")
            new = await _create(change, succession.new)
            values = {"id": as_id(key_id), "expires_at": succession.old_expires_at, "rotated_to": as_id(new.id)}
            return new, _only(await change.fetch("retire_key", values), key_id)

    async def revoke(self, key_id: str, *, last: bool) -> KeyDetails:
        """Ends a key for good. Revoking twice keeps the first time.

        Raises NotFound; Conflict for an organization's last usable key unless `last`; StoreUnavailable. What may do
        nothing, or has a successor and so ends by itself, is none to live on.
        """
        async with changing(self._pool, self._actor) as change:
            key = await _locked(change, key_id)
            values = {"organization_id": as_id(key.organization_id), "id": as_id(key_id)}
            (count,) = await change.fetch("count_lasting_keys", values)
            if count["this"] and not count["others"] and not last:
                raise LastUsableKey
            return _only(await change.fetch("revoke_key", {"id": as_id(key_id)}), key_id)

    async def peppers(self) -> Mapping[str, tuple[int, int]]:
        """By the id of a pepper: how many keys were digested with it, and how many of them are usable.

        Raises StoreUnavailable.
        """
        return {row["pepper_id"]: (row["keys"], row["usable"]) for row in await fetch(self._pool, "count_by_pepper")}


async def _locked(change: Change, key_id: str) -> KeyDetails:
    await change.fetch("lock_organization_of_key", {"id": as_id(key_id)})
    return _only(await change.fetch("lock_key", {"id": as_id(key_id)}), key_id)


async def _create(change: Change, new: NewKey) -> KeyDetails:
    values = _terms(new.terms) | {
        "organization_id": as_id(new.organization_id),
        "hash": bytes.fromhex(new.digests[0]),
        "pepper_id": new.pepper_id,
        "handle": new.handle,
    }
    (row,) = await change.fetch("create_key", values)
    return _details(row)


def _refuse_known(new: NewKey, known: Mapping[str, Mapping[str, object]]) -> None:
    """Raises Conflict where the key is or was in use, under any pepper.

    AlreadyImported: it is there as the import would have it, or is refused earlier than that.
    """
    row = next((known[digest] for digest in new.digests if digest in known), None)
    if row is None:
        return
    if row["id"] is None:
        raise Conflict("the key was revoked and deleted; a revoked key never comes back")
    there = f"the key is there already as {row['id']}"
    if row["status"] == "revoked":
        raise Conflict(f"{there}, and revoked; a revoked key never comes back")
    if row["organization_id"] != new.organization_id:
        raise Conflict(f"{there}, of another organization")
    if row["status"] != "active":
        raise Conflict(f"{there}, and {row['status']}; `keys {_REVIVED_BY[str(row['status'])]}` brings it back")
    if not _grants(row["permissions"], new.terms.permissions):
        raise Conflict(f"{there}, with other permissions; `keys update` changes them")
    if _ends_later(row["expires_at"], new.terms.expires_at):
        raise Conflict(f"{there}, and ends later than is asked; `keys update` changes that")
    under = "" if row["pepper_id"] == new.pepper_id else f", under the pepper {row['pepper_id']}"
    raise AlreadyImported(f"{there}{under}")


def _grants(stored: object, asked: Permissions) -> bool:
    try:
        return parse_permissions(stored) == dict(asked)
    except ValueError:
        return False


def _ends_later(stored: object, asked: datetime | None) -> bool:
    return asked is not None and (stored is None or (isinstance(stored, datetime) and stored > asked))


def _as_known(new: NewKey, key: KeyDetails) -> Mapping[str, object]:
    return {
        "id": key.id,
        "organization_id": key.organization_id,
        "pepper_id": new.pepper_id,
        "status": "active",
        "permissions": storable(key.permissions),
        "expires_at": key.expires_at,
    }


def _terms(terms: KeyTerms) -> dict[str, object]:
    return {
        "name": terms.name,
        "permissions": Jsonb(storable(terms.permissions)),
        "expires_at": terms.expires_at,
        "metadata": Jsonb(dict(terms.metadata)),
        **terms.limits.to_record(),
    }


def _only(rows: Sequence[DictRow], key_id: str) -> KeyDetails:
    if not rows:
        raise NotFound(f"no key has the id {shown(key_id)!r}")
    return _details(rows[0])


def _details(row: DictRow) -> KeyDetails:
    try:
        return KeyDetails(
            permissions=parse_permissions(row["permissions"]),
            metadata=parse_metadata(row["metadata"]),
            limits=Limits.from_record({name: row[name] for name in LIMIT_COLUMNS}),
            **{name: row[name] for name in KeyDetails.__slots__ if name not in _PARSED},
        )
    except ValueError as error:
        raise StoreCorrupt(POSTGRESQL, f"key {row['id']}: {error}") from None
