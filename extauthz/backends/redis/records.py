"""The shared cache of keys and of tenants: JSON with an expiry that is counted from the read of PostgreSQL.

What is returned knows of every change whose fence was raised: see `core.changes`.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from redis.exceptions import ResponseError

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.commands import Commands
from extauthz.backends.redis.errors import translated
from extauthz.core.changes import EVERYTHING
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.ports import REDIS
from extauthz.core.tenants import Tenant

Record = TypeVar("Record", ApiKey, Tenant)

_PUT = scripts.Script(scripts.read("put"))


class RedisKeyCache:
    """`api_key_cache:<hash>` for `ttl` seconds after `loaded_at`."""

    def __init__(self, client: Commands, *, ttl: int) -> None:
        self._client = client
        self._ttl = ttl

    async def get(self, asked: Credential, now: float) -> ApiKey | None:
        """The key cached under the first digest that is. Raises StoreUnavailable, StoreCorrupt."""
        for digest in asked.digests:
            key = await _get(self._client, keyspace.api_key_cache(digest), partial(_key, digest))
            if key is not None and _in_time(key, self._ttl, now) and await _knows_all(self._client, key):
                return key
        return None

    async def put(self, record: ApiKey, now: float) -> None:
        """Keeps a key for what is left of its time, unless a younger record is there. Raises StoreUnavailable."""
        await _put(self._client, keyspace.api_key_cache(record.digest), record, _left(record, self._ttl, now))


class RedisTenantCache:
    """`tenant_quota_cache:<tenant>` for `ttl` seconds after `loaded_at`."""

    def __init__(self, client: Commands, *, ttl: int) -> None:
        self._client = client
        self._ttl = ttl

    async def get(self, asked: str, now: float) -> Tenant | None:
        """The cached organization. Raises StoreUnavailable, StoreCorrupt."""
        tenant = await _get(self._client, keyspace.tenant_quota_cache(asked), Tenant.from_record)
        if tenant is None or not _in_time(tenant, self._ttl, now):
            return None
        if tenant.id != asked:
            raise StoreCorrupt(REDIS, "another organization's record")
        return tenant if await _knows_all(self._client, tenant) else None

    async def put(self, record: Tenant, now: float) -> None:
        """Keeps an organization for what is left of its time, unless a younger record is there.

        Raises StoreUnavailable.
        """
        await _put(self._client, keyspace.tenant_quota_cache(record.id), record, _left(record, self._ttl, now))


def _left(record: ApiKey | Tenant, ttl: int, now: float) -> int:
    """Milliseconds until `record` is too old, never more than `ttl` seconds, whatever the writer's clock said."""
    return min(int((record.loaded_at + ttl - now) * 1000), ttl * 1000)


def _in_time(record: ApiKey | Tenant, ttl: int, now: float) -> bool:
    return _left(record, ttl, now) > 0


def _key(digest: str, record: Mapping[str, object]) -> ApiKey:
    """The key of a record that says itself whose it is: a stray answer must not pass for another key's."""
    if record.get("hash") != digest:
        raise ValueError("another key's record")
    return ApiKey.from_record(record)


async def _get(client: Commands, name: str, parse: Callable[[Mapping[str, object]], Record]) -> Record | None:
    with translated():
        try:
            text = await client.execute_command("GET", name)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            text = b"null"
        if text is None:
            return None
        try:
            return parse(_object(text))
        except (ValueError, RecursionError) as error:
            await client.execute_command("DEL", name)  # else it could keep a good one out
            # The parser's own words quote the record; ours do not.
            raise StoreCorrupt(REDIS, str(error) if type(error) is ValueError else "not JSON") from None


def _object(text: bytes) -> Mapping[str, object]:
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return record


async def _knows_all(client: Commands, record: ApiKey | Tenant) -> bool:
    """Whether a record was read late enough for every fence. A fence that cannot be read keeps everything out."""
    names = [keyspace.cache_fence(thing) for thing in (EVERYTHING, *record.made_of)]
    with translated():
        try:
            fences = await asyncio.gather(*(client.execute_command("GET", name) for name in names))
            return all(fence is None or record.version >= int(fence) for fence in fences)
        except (ResponseError, ValueError):
            return False


async def _put(client: Commands, name: str, record: ApiKey | Tenant, milliseconds: int) -> None:
    if milliseconds <= 0:
        return
    text = json.dumps(record.to_record(), separators=(",", ":"))
    revoked = isinstance(record, ApiKey) and record.revoked_at is not None
    with translated():
        await _PUT.run(client, name, text, milliseconds, record.version, int(revoked), repr(record.loaded_at))
