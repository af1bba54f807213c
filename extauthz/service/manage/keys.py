"""The life of a key, as a person manages it; the same for every way in."""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from extauthz.core.changes import EntityRef
from extauthz.core.credentials import SECRET_BYTES, KeyFormat
from extauthz.core.errors import Conflict, ExtauthzError, InvalidInput
from extauthz.core.management import KeyDetails, KeyTerms, Listing, NewKey, PepperUse
from extauthz.core.management_ports import KeyStore, Succession, TenantStore
from extauthz.core.ports import SharedInvalidations
from extauthz.core.preconditions import Wanted
from extauthz.service.directory.invalidation import ChangeNotifier
from extauthz.service.manage import rotation
from extauthz.service.manage import validation as key_terms
from extauthz.service.manage.imports import check_foreign
from extauthz.service.manage.rotation import Rotated


class KeyService:
    """Creates, imports, shows, changes, rotates and revokes keys. Every method may raise StoreUnavailable.

    A change tells the shared cache; the flag `told` says whether it could. If not, copies end by themselves.
    `version` is the `row_version` that a change is meant for: VersionMismatch where the key has another by now.
    """

    def __init__(
        self,
        *,
        keys: KeyStore,
        tenants: TenantStore,
        invalidations: SharedInvalidations,
        key_format: KeyFormat,
        peppers: Sequence[str],
        resources: Collection[str] | None,
    ) -> None:
        """`peppers`: the ids of those that `key_format` has, in its order.

        `resources`: the names that the routes know; None where a route takes any name from the path.
        """
        self._keys = keys
        self._tenants = tenants
        self._notifier = ChangeNotifier(keys, invalidations)
        self._key_format = key_format
        self._peppers = peppers
        self._resources = resources

    async def create(self, organization: str, terms: KeyTerms) -> tuple[KeyDetails, str]:
        """A new key of an organization (id or name), and the key itself, which is nowhere stored and shown this once.

        Raises NotFound, InvalidInput.
        """
        terms = key_terms.check(terms, self._resources, key_terms.utc_now())
        owner = await self._tenants.show_organization(organization)
        key = self._issue()
        return await self._keys.create(self._new(owner.id, key, terms)), key

    async def import_key(self, organization: str, key: str, terms: KeyTerms) -> KeyDetails:
        """Takes in a key that another system issued. Raises NotFound, InvalidInput, Conflict, AlreadyImported."""
        (outcome,) = await self.import_many(organization, [(key, terms)])
        if isinstance(outcome, ExtauthzError):
            raise outcome
        return outcome

    async def import_many(
        self, organization: str, items: Sequence[tuple[str, KeyTerms]]
    ) -> list[KeyDetails | ExtauthzError]:
        """Takes in keys in one step; for each of `items` the key, or why it is refused, which spares the others.

        Raises NotFound (the organization).
        """
        owner = await self._tenants.show_organization(organization)
        now = key_terms.utc_now()
        outcomes: list[KeyDetails | ExtauthzError | NewKey] = []
        for key, terms in items:
            try:
                check_foreign(key, self._key_format)
                outcomes.append(self._new(owner.id, key, key_terms.check(terms, self._resources, now)))
            except InvalidInput as error:
                outcomes.append(error)
        stored = iter(await self._keys.import_many([each for each in outcomes if isinstance(each, NewKey)]))
        return [next(stored) if isinstance(each, NewKey) else each for each in outcomes]

    async def list_of(self, organization: str) -> list[KeyDetails]:
        """The keys of an organization (id or name), newest first. Raises NotFound."""
        owner = await self._tenants.show_organization(organization)
        return await self._keys.list_of(owner.id)

    async def list_keys(
        self, organization: str | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> Listing[KeyDetails]:
        """One page of the keys of an organization (id or name), or of all, newest first.

        Raises NotFound, InvalidInput.
        """
        owner = None if organization is None else await self._tenants.show_organization(organization)
        return await self._keys.page(None if owner is None else owner.id, limit=limit, cursor=cursor)

    async def show(self, key_id: str) -> KeyDetails:
        """One key. Raises NotFound."""
        return await self._keys.show(key_id)

    async def update(
        self, key_id: str, changes: Mapping[str, object], *, version: Wanted = None
    ) -> tuple[KeyDetails, bool]:
        """A key with other terms, by field: name, permissions, expires_at, metadata and its limits; null clears.

        Raises NotFound, InvalidInput, VersionMismatch; Conflict for a revoked key, or a later end of a rotated one.
        """

        def edit(before: KeyDetails) -> KeyDetails:
            after = key_terms.changed(before.terms, changes, self._resources, key_terms.utc_now())
            rotation.check_end_of_rotated(before, after.expires_at)
            return replace(
                before,
                name=after.name,
                permissions=after.permissions,
                expires_at=after.expires_at,
                metadata=after.metadata,
                limits=after.limits,
            )

        return await self._edit(key_id, edit, version)

    async def disable(self, key_id: str, version: Wanted = None) -> tuple[KeyDetails, bool]:
        """Refuses a key until it is enabled; what is disabled stays so since its first time. Raises as `update`."""

        def edit(before: KeyDetails) -> KeyDetails:
            return replace(before, disabled_at=before.disabled_at or key_terms.utc_now())

        return await self._edit(key_id, edit, version)

    async def enable(self, key_id: str, version: Wanted = None) -> tuple[KeyDetails, bool]:
        """Takes a disabled key again. Raises as `update`."""
        return await self._edit(key_id, lambda before: replace(before, disabled_at=None), version)

    async def rotate(self, key_id: str, *, grace: timedelta, expires_at: datetime | None = None) -> Rotated:
        """A new key with the terms of a key, which itself ends after `grace`, at most 365 days, or before.

        Without `expires_at` the new key lives as long from now as the old one was given. Raises NotFound, InvalidInput;
        Conflict for a key that is not in force, or that has a successor.
        """
        now = key_terms.utc_now()
        rotation.check_grace(grace)
        key_terms.check_expiry(expires_at, now)
        secret = self._issue()

        def succeed(old: KeyDetails) -> Succession:
            rotation.check_rotatable(old, now)
            terms = replace(old.terms, expires_at=expires_at or rotation.end_of_successor(old, now))
            return Succession(self._new(old.organization_id, secret, terms), rotation.end_of_old(old, grace, now))

        new, old = await self._keys.rotate(key_id, succeed)
        return Rotated(new, secret, old, await self._notifier.notify_change(EntityRef("api_key", old.id)))

    async def revoke(self, key_id: str, *, last: bool) -> tuple[KeyDetails, bool]:
        """Ends a key for good. Revoking twice keeps the first time.

        Raises NotFound; Conflict for the last usable key of an organization unless `last`.
        """
        key = await self._keys.revoke(key_id, last=last)
        return key, await self._notifier.notify_change(EntityRef("api_key", key.id))

    async def peppers(self) -> list[PepperUse]:
        """How many keys depend on each pepper: those of the settings in their order, then those that no setting has.

        Keys of the latter can never be used. Take a pepper away only when no key depends on it: what was imported and
        revoked under it is not recognised any more, and could be imported again.
        """
        counted = await self._keys.peppers()
        lost = sorted(set(counted) - set(self._peppers))
        signing = self._key_format.signing_pepper
        return [
            PepperUse(id_, id_ in self._peppers, id_ == signing, *counted.get(id_, (0, 0)))
            for id_ in (*self._peppers, *lost)
        ]

    async def _edit(
        self, key_id: str, edit: Callable[[KeyDetails], KeyDetails], version: Wanted
    ) -> tuple[KeyDetails, bool]:
        def edit_unless_revoked(before: KeyDetails) -> KeyDetails:
            if before.revoked_at is not None:
                raise Conflict("the key is revoked, for good; nothing of it can be changed")
            return edit(before)

        key = await self._keys.update(key_id, edit_unless_revoked, version=version)
        return key, await self._notifier.notify_change(EntityRef("api_key", key.id))

    def _issue(self) -> str:
        return self._key_format.issue(secrets.token_bytes(SECRET_BYTES))

    def _new(self, organization_id: str, key: str, terms: KeyTerms) -> NewKey:
        return NewKey(
            organization_id=organization_id,
            terms=terms,
            digests=self._key_format.digest(key).digests,
            pepper_id=self._key_format.signing_pepper,
            handle=self._key_format.handle(key),
        )
