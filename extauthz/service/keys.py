"""The life of a key, as a person manages it; the same for every way in."""

import secrets
from collections.abc import Collection
from datetime import UTC, datetime

from extauthz.core.credentials import SECRET_BYTES, KeyFormat
from extauthz.core.errors import InvalidInput, StoreUnavailable
from extauthz.core.permissions import Permissions, unknown_resources
from extauthz.core.ports import KeyCache, KeyStore, TenantStore
from extauthz.core.records import KeyDetails, NewKey


class KeyService:
    """Creates, shows and revokes keys."""

    def __init__(
        self,
        *,
        keys: KeyStore,
        tenants: TenantStore,
        cache: KeyCache,
        key_format: KeyFormat,
        resources: Collection[str] | None,
    ) -> None:
        """`resources`: the names that the routes know; None where a route takes any name from the path."""
        self._keys = keys
        self._tenants = tenants
        self._cache = cache
        self._key_format = key_format
        self._resources = resources

    async def create(
        self, organization: str, *, name: str, permissions: Permissions, expires_at: datetime | None
    ) -> tuple[KeyDetails, str]:
        """A new key of an organization (id or name), and the key itself, which is nowhere stored and shown this once.

        Raises NotFound, InvalidInput, StoreUnavailable.
        """
        if unknown := unknown_resources(permissions, self._resources):
            known = ", ".join(sorted(self._resources or ())) or "none"
            raise InvalidInput(
                f"no route knows the resource {', '.join(unknown)}; the routes of this configuration (--config or"
                f" EXTAUTHZ_CONFIG; without a file: api) know: {known}"
            )
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise InvalidInput(f"expires_at {expires_at.isoformat()} is in the past")
        owner = await self._tenants.show_organization(organization)
        key = self._key_format.issue(secrets.token_bytes(SECRET_BYTES))
        new = NewKey(
            organization_id=owner.id,
            name=name,
            digest=self._key_format.digest(key).digests[0],
            pepper_id=self._key_format.signing_pepper,
            handle=self._key_format.handle(key),
            permissions=permissions,
            expires_at=expires_at,
        )
        return await self._keys.create(new), key

    async def list_of(self, organization: str) -> list[KeyDetails]:
        """The keys of an organization (id or name), newest first. Raises NotFound, StoreUnavailable."""
        owner = await self._tenants.show_organization(organization)
        return await self._keys.list_of(owner.id)

    async def show(self, key_id: str) -> KeyDetails:
        """One key. Raises NotFound, StoreUnavailable."""
        return await self._keys.show(key_id)

    async def revoke(self, key_id: str, *, last: bool) -> tuple[KeyDetails, bool]:
        """Ends a key for good. The key, and whether the shared cache was told; if not, its copies end by themselves.

        Raises NotFound; Conflict for the last usable key of an organization unless `last`; StoreUnavailable.
        """
        key, digest = await self._keys.revoke(key_id, last=last)
        try:
            await self._cache.drop([digest])
        except StoreUnavailable:
            return key, False
        return key, True
