"""The counters of an organization as a check would begin them, read from Redis and left there as they are."""

from collections.abc import Mapping, Sequence

from redis.exceptions import ResponseError

from extauthz.backends.redis import keyspace, layout
from extauthz.backends.redis.commands import Commands
from extauthz.backends.redis.errors import translated
from extauthz.backends.redis.layout import by_name, four, one, three
from extauthz.core.spend import Spend, day_field, month_field
from extauthz.core.token_bucket import State
from extauthz.core.usage import CREDITS_FIELD, ORGANIZATION, Seed

FIELDS_PER_CALL_MAX = 400  # that one call reads


class RedisCounters:
    """`tenant_limits:{<tenant>}`: what `scripts/seed.lua` would make of it, without making it."""

    def __init__(self, client: Commands) -> None:
        self._client = client

    async def beginning(self, asked: Spend, seeds: Sequence[Seed]) -> State:
        """The state that a check would find once the counters are raised to `seeds`. Raises StoreUnavailable.

        What is malformed in Redis counts as never written.
        """
        known = [seed for seed in seeds if seed.key_id != ORGANIZATION and seed.field != CREDITS_FIELD]
        credits_used = {seed.key_id: seed.cost for seed in seeds if seed.field == CREDITS_FIELD}
        holders = {CREDITS_FIELD: ORGANIZATION, f"{CREDITS_FIELD}:{asked.key_id}": asked.key_id}
        owners, own = _fields(asked)
        buckets = {"bucket": "", f"bucket:{asked.key_id}": asked.key_id}
        hours = {layout.HOUR: "", f"{layout.HOUR}:{asked.key_id}": asked.key_id}
        names = [*buckets, *hours, *holders, *owners, *own, *(f"{seed.field}:{seed.key_id}" for seed in known)]
        states = [layout.STATE, *(layout.state_field(key) for key in (asked.key_id, *(seed.key_id for seed in known)))]
        with translated():
            here = await self._read(keyspace.tenant_limits(asked.owner.id), list(dict.fromkeys([*states, *names])))
        counts = {name: _first(here.get(name, "")) for name in (*owners, *own)}
        for seed in known:
            field = f"{seed.field}:{seed.key_id}"
            more = max(seed.cost - _first(here.get(field, "")), 0)
            counts[seed.field] = counts.get(seed.field, 0) + more
            if field in own:
                counts[field] += more
        return State(
            buckets={key: held for name, key in buckets.items() if (held := three(here.get(name, ""))) is not None},
            counters=counts,
            days={field: (counts[field], 0, 0) for field in own},
            credits={key: max(_first(here.get(name, "")), credits_used.get(key, 0)) for name, key in holders.items()},
            hours={key: two for name, key in hours.items() if (two := four(here.get(name, ""))) is not None},
        )

    async def _read(self, name: str, fields: Sequence[str]) -> Mapping[str, str]:
        """Buckets and counters by their names; none where the key is of another type."""
        found: dict[str, bytes] = {}
        try:
            for start in range(0, len(fields), FIELDS_PER_CALL_MAX):
                part = fields[start : start + FIELDS_PER_CALL_MAX]
                values = await self._client.execute_command("HMGET", name, *part)
                found |= {field: value for field, value in zip(part, values, strict=True) if value is not None}
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
        return by_name(found)


def _fields(asked: Spend) -> tuple[list[str], list[str]]:
    """The counters of the organization, and those of the key, in all windows that a spend may touch."""
    windows = asked.windows
    if windows is None:
        return [], []
    owners = [name(windows, index) for name in (day_field, month_field) for index in range(3)]
    return owners, [f"{field}:{asked.key_id}" for field in owners]


def _first(text: str) -> int:
    """A counter: a number, or the first of a key's three of a day."""
    found = three(text)
    return found[0] if found else one(text)
