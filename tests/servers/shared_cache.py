"""The shared cache, asked for one record."""

from typing import TypeVar

from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.ports import SharedCache
from extauthz.core.tenants import Tenant

Asked = TypeVar("Asked")
Record = TypeVar("Record", ApiKey, Tenant)


async def cached(cache: SharedCache[Asked, Record], asked: Asked, now: float, *, ended: bool = True) -> Record | None:
    """The record of one, also of one that has `ended`. Raises StoreUnavailable, StoreCorrupt."""
    (found,) = await cache.find([asked], now, ended=ended)
    if isinstance(found, StoreCorrupt):
        raise found
    return found
