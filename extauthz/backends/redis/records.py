"""The shared cache of keys and of tenants: JSON with an expiry that is counted from the read of PostgreSQL."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from redis.exceptions import ResponseError

from extauthz.backends.redis import keyspace
from extauthz.backends.redis.errors import translated
from extauthz.backends.redis.link import Commands
from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.ports import REDIS
from extauthz.core.tenants import Tenant

Record = TypeVar("Record", ApiKey, Tenant)


class RedisKeyCache:
    """`api_key_cache:<hash>` for `ttl` seconds after `loaded_at`."""

    def __init__(self, client: Commands, *, ttl: int) -> None:
        self._client = client
        self._ttl = ttl

    async def get(self, digests: Sequence[str], now: float) -> ApiKey | None:
        """The key cached under the first of `digests` that is. Raises StoreUnavailable, StoreCorrupt."""
        for digest in digests:
            key = await _get(self._client, keyspace.api_key_cache(digest), partial(_key, digest))
            if key is not None and _in_time(key, self._ttl, now):
                return key
        return None

    async def put(self, digest: str, key: ApiKey, now: float) -> None:
        """Keeps `key` for what is left of its time. Raises StoreUnavailable."""
        record = key.to_record() | {"hash": digest}
        await _put(self._client, keyspace.api_key_cache(digest), record, _left(key, self._ttl, now))

    async def drop(self, digests: Sequence[str]) -> None:
        """Forgets `digests`. Raises StoreUnavailable."""
        await _drop(self._client, [keyspace.api_key_cache(digest) for digest in digests])


class RedisTenantCache:
    """`tenant_quota_cache:<tenant>` for `ttl` seconds after `loaded_at`."""

    def __init__(self, client: Commands, *, ttl: int) -> None:
        self._client = client
        self._ttl = ttl

    async def get(self, tenant_id: str, now: float) -> Tenant | None:
        """The cached organization. Raises StoreUnavailable, StoreCorrupt."""
        tenant = await _get(self._client, keyspace.tenant_quota_cache(tenant_id), Tenant.from_record)
        if tenant is None or not _in_time(tenant, self._ttl, now):
            return None
        if tenant.id != tenant_id:
            raise StoreCorrupt(REDIS, "another organization's record")
        return tenant

    async def put(self, tenant: Tenant, now: float) -> None:
        """Keeps `tenant` for what is left of its time. Raises StoreUnavailable."""
        record = tenant.to_record()
        await _put(self._client, keyspace.tenant_quota_cache(tenant.id), record, _left(tenant, self._ttl, now))

    async def drop(self, tenant_ids: Sequence[str]) -> None:
        """Forgets these organizations. Raises StoreUnavailable."""
        await _drop(self._client, [keyspace.tenant_quota_cache(tenant_id) for tenant_id in tenant_ids])


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
            raise StoreCorrupt(REDIS, "not a string") from error
    if text is None:
        return None
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            raise StoreCorrupt(REDIS, "not an object")
        return parse(record)
    except (ValueError, RecursionError) as error:
        # The parser's own words quote the record; ours do not.
        what = str(error) if type(error) is ValueError else "not JSON"
        raise StoreCorrupt(REDIS, what) from None


async def _put(client: Commands, name: str, record: Mapping[str, object], milliseconds: int) -> None:
    if milliseconds <= 0:
        return
    with translated():
        await client.execute_command("SET", name, json.dumps(record, separators=(",", ":")), "PX", milliseconds)


async def _drop(client: Commands, names: Sequence[str]) -> None:
    with translated():
        for name in names:
            await client.execute_command("DEL", name)
