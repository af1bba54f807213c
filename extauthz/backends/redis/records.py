"""The shared cache of keys and of tenants: JSON with an expiry that is counted from the read of PostgreSQL.

What is returned includes every change whose fence was raised: see `core.changes`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.commands import Commands
from extauthz.backends.redis.errors import translated
from extauthz.backends.redis.record_codec import key_text, read_key, read_tenant, tenant_text
from extauthz.core.changes import EVERYTHING
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.ports import REDIS
from extauthz.core.tenants import Tenant

Record = TypeVar("Record", ApiKey, Tenant)

_GET = scripts.Script(scripts.read("get"))
_PUT = scripts.Script(scripts.read("put"))


class RedisKeyCache:
    """`api_key_cache:<hash>` for `ttl` seconds after `loaded_at`. Not `writes`: Redis is left as it is."""

    def __init__(self, client: Commands, *, ttl: int, writes: bool = True) -> None:
        self._client = client
        self._ttl = ttl
        self._writes = writes

    async def find(
        self, asked: Sequence[Credential], now: float, *, ended: bool = False
    ) -> list[ApiKey | StoreCorrupt | None]:
        """The key cached under the first digest of each that is; none that has ended, unless `ended`.

        Raises StoreUnavailable.
        """
        digests = [digest for credential in asked for digest in credential.digests]
        found = await _find(
            self._client,
            [(keyspace.api_key_cache(digest), partial(read_key, digest=digest)) for digest in digests],
            in_time=lambda key: _in_time(key, self._ttl, now),
            confirm=lambda key: ended or now < key.ends_at,
            mend=self._writes,
        )
        by_digest = dict(zip(digests, found, strict=True))
        first = [
            next((there for digest in credential.digests if (there := by_digest[digest]) is not None), None)
            for credential in asked
        ]
        return [None if isinstance(key, ApiKey) and not ended and key.ends_at <= now else key for key in first]

    async def put(self, records: Sequence[ApiKey], now: float) -> None:
        """Keeps each key for what is left of its time, unless a younger record is there. Raises StoreUnavailable."""
        if self._writes:
            named = [(keyspace.api_key_cache(key.digest), key) for key in records]
            await _put(self._client, named, self._ttl, now)


class RedisTenantCache:
    """`tenant_quota_cache:<tenant>` for `ttl` seconds after `loaded_at`. Not `writes`: Redis is left as it is."""

    def __init__(self, client: Commands, *, ttl: int, writes: bool = True) -> None:
        self._client = client
        self._ttl = ttl
        self._writes = writes

    async def find(
        self,
        asked: Sequence[str],
        now: float,
        *,
        ended: bool = False,  # noqa: ARG002 - an organization does not end
    ) -> list[Tenant | StoreCorrupt | None]:
        """The cached organization of each id. Raises StoreUnavailable."""
        return await _find(
            self._client,
            [(keyspace.tenant_quota_cache(id_), partial(read_tenant, tenant_id=id_)) for id_ in asked],
            in_time=lambda tenant: _in_time(tenant, self._ttl, now),
            confirm=lambda _: True,
            mend=self._writes,
        )

    async def put(self, records: Sequence[Tenant], now: float) -> None:
        """Keeps each organization for what is left of its time, unless a younger record is there.

        Raises StoreUnavailable.
        """
        if self._writes:
            named = [(keyspace.tenant_quota_cache(tenant.id), tenant) for tenant in records]
            await _put(self._client, named, self._ttl, now)


def _left(record: ApiKey | Tenant, ttl: int, now: float) -> int:
    """Milliseconds until `record` is too old, never more than `ttl` seconds, whatever the writer's clock said."""
    return min(int((record.loaded_at + ttl - now) * 1000), ttl * 1000)


def _in_time(record: ApiKey | Tenant, ttl: int, now: float) -> bool:
    return _left(record, ttl, now) > 0


async def _find(
    client: Commands,
    wanted: Sequence[tuple[str, Callable[[bytes], Record]]],
    *,
    in_time: Callable[[Record], bool],
    confirm: Callable[[Record], bool],
    mend: bool,
) -> list[Record | StoreCorrupt | None]:
    """What stands under each name, as far as it is in time, or what is wrong with it.

    None for a record that is to be confirmed and was read before a change. `mend`: what is wrong is thrown away.
    """
    with translated():
        texts = await _get(client, [name for name, _ in wanted])
        found: list[Record | StoreCorrupt | None] = []
        for (name, parse), text in zip(wanted, texts, strict=True):
            there = None if text is None else _parsed(text, parse)
            if mend and isinstance(there, StoreCorrupt):
                await client.execute_command("DEL", name)  # else it could keep a good one out
            found.append(there if there is None or isinstance(there, StoreCorrupt) or in_time(there) else None)
        records = {
            place: there
            for place, there in enumerate(found)
            if there is not None and not isinstance(there, StoreCorrupt) and confirm(there)
        }
        invalidations = await _fences(client, records.values())
    for place, record in records.items():
        if not _includes_all(invalidations, record):
            found[place] = None
    return found


async def _get(client: Commands, names: Sequence[str]) -> list[bytes | None]:
    """The texts under all names, `null` for a value of another type: MGET would be silent about it."""
    texts: list[bytes | None] = await _GET.run_many(client, names, ())
    return texts


def _parsed(text: bytes, parse: Callable[[bytes], Record]) -> Record | StoreCorrupt:
    try:
        return parse(text)
    except (ValueError, RecursionError) as error:
        # The parser's own words quote the record; ours do not.
        return StoreCorrupt(REDIS, str(error) if type(error) is ValueError else "not JSON")


async def _fences(client: Commands, records: Collection[ApiKey | Tenant]) -> Mapping[str, bytes | None]:
    """The fences that may keep these records out, by name."""
    if not records:
        return {}
    things = {EVERYTHING} | {thing for record in records for thing in record.made_of}
    names = [keyspace.cache_fence(thing) for thing in things]
    return dict(zip(names, await _get(client, names), strict=True))


def _includes_all(invalidations: Mapping[str, bytes | None], record: ApiKey | Tenant) -> bool:
    """Whether a record was read late enough for every fence. A malformed fence keeps everything out."""
    try:
        values = [invalidations[keyspace.cache_fence(thing)] for thing in (EVERYTHING, *record.made_of)]
        return all(fence is None or record.version >= int(fence) for fence in values)
    except ValueError:
        return False


async def _put(client: Commands, named: Sequence[tuple[str, ApiKey | Tenant]], ttl: int, now: float) -> None:
    names: list[str] = []
    arguments: list[int | str] = []
    for name, record in named:
        if _in_time(record, ttl, now):
            text = key_text(record) if isinstance(record, ApiKey) else tenant_text(record)
            revoked = isinstance(record, ApiKey) and record.revoked_at is not None
            names.append(name)
            arguments += (text, _left(record, ttl, now), record.version, int(revoked), repr(record.loaded_at))
    if names:
        with translated():
            await _PUT.run_many(client, names, arguments)
