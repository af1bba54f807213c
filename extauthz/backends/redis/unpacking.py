"""Counters in the layout of the release before packed states, for the way back to it."""

from redis.asyncio import Redis

from extauthz.backends.redis import scripts
from extauthz.backends.redis.errors import translated
from extauthz.backends.redis.layout import STATE, is_packed
from extauthz.backends.redis.topology import connect

FIELDS_PER_CALL_MAX = 400  # that one call unpacks
PATTERNS = "tenant_limits:*", "address_limits:*"
COMMAND_TIMEOUT_SECONDS = 5.0  # for one command

_UNPACK = scripts.Script(scripts.read("layout", "named", "unpack"))


async def unpack(url: str) -> int:
    """Unpacks every hash; how many were packed. Raises StoreUnavailable."""
    count = 0
    with translated():
        async with connect(url, patience=COMMAND_TIMEOUT_SECONDS) as client:
            for pattern in PATTERNS:
                async for name in client.scan_iter(match=pattern, count=1000, _type="hash"):
                    count += await _unpack(client, name.decode())
    return count


async def _unpack(client: Redis, name: str) -> int:
    """Whether a hash was packed. Its owner's state goes first: charges in between then leave the keys unpacked."""
    packed = await _UNPACK.run(client, name, STATE)
    fields = [
        field.decode() async for field, _ in client.hscan_iter(name, match=f"{STATE}:*") if is_packed(field.decode())
    ]
    for start in range(0, len(fields), FIELDS_PER_CALL_MAX):
        await _UNPACK.run(client, name, *fields[start : start + FIELDS_PER_CALL_MAX])
    return int(packed or bool(fields))
