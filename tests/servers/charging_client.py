"""Charges on a real Redis as a worker makes them, on whatever day a test says."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from uuid import UUID

from extauthz.backends.redis import keyspace
from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.layout import by_name
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.spends import SPEND
from extauthz.backends.redis.usage import RedisUsage
from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.ports import UsageStore
from extauthz.core.spend import NotApplied, Owner, Spend, Spent, spans
from extauthz.core.usage import Counted, Seed, Span

TODAY = date(2027, 3, 31)
_TIME = "redis.call('TIME')"
assert SPEND.count(_TIME) == 1


def id_of(number: int) -> str:
    """An id as organizations and keys have them."""
    return str(UUID(int=number, version=4))


ACME, GLOBEX = id_of(0xACE), id_of(0x610BE)
ONE, TWO, THREE = id_of(1), id_of(2), id_of(3)


class NothingKnown:
    """PostgreSQL that is there and has no usage."""

    async def seeds(self, wanted: Mapping[str, Sequence[Span]]) -> Mapping[str, Sequence[Seed]]:
        return dict.fromkeys(wanted, ())


class ChargingClient:
    """Marks and spends at noon of a day with `charge`.

    `usage` is asked for seeds; None stands for PostgreSQL that is away.
    """

    def __init__(self, redis_connection: RedisConnection, usage: UsageStore | None = None) -> None:
        self.redis_connection = redis_connection
        self.usage = usage
        self.log = RedisUsage(redis_connection, today=TODAY)
        self.limits = RedisLimits(
            redis_connection, script=SPEND.replace(_TIME, "redis.call('MGET', 'clock:s', 'clock:us')")
        )

    async def charge(
        self,
        key_id: str = ONE,
        *,
        tenant_id: str = ACME,
        cost: int = 1,
        day: date = TODAY,
        limits: Limits = UNLIMITED,
        mark: bool = True,
    ) -> tuple[Spend, Spent]:
        """The spend and its outcome."""
        now = datetime.combine(day, time(12), UTC).timestamp()
        await self.redis_connection.execute_command("MSET", "clock:s", int(now), "clock:us", 0)
        windows = UTC_CALENDAR.round(now)
        asked = Spend(Owner("tenant", tenant_id), cost, limits, UTC_CALENDAR, windows, key_id)
        if mark:
            await self.log.mark([(tenant_id, key_id)])
        (result,) = await self.limits.spend([asked])
        if isinstance(result, NotApplied):
            await self.limits.seed(tenant_id, await self._seeds(asked))
            (result,) = await self.limits.spend([asked])
        assert isinstance(result, Spent)
        return asked, result

    async def complete(self, asked: Spend) -> None:
        """PostgreSQL is back: counters that began without it are reconciled."""
        await self.limits.seed(asked.owner.id, await self._seeds(asked))

    async def age_marks(self, seconds: float = 60.0) -> None:
        """All marks were set so much earlier."""
        found = await self.redis_connection.execute_command("ZRANGE", keyspace.usage_due(), 0, -1)
        for member in found:
            await self.redis_connection.execute_command("ZINCRBY", keyspace.usage_due(), -seconds, member)

    async def marks(self) -> set[tuple[str, ...]]:
        """The spans that are marked as due."""
        found = await self.redis_connection.execute_command("ZRANGE", keyspace.usage_due(), 0, -1)
        return {tuple(member.decode().split("\n")) for member in found}

    async def fields(self, tenant_id: str = ACME) -> dict[str, str]:
        """What a tenant's hash has, by name."""
        found = await self.redis_connection.execute_command("HGETALL", keyspace.tenant_limits(tenant_id))
        return by_name({name.decode(): value for name, value in zip(found[::2], found[1::2], strict=True)})

    async def _seeds(self, asked: Spend) -> Sequence[Seed] | None:
        if self.usage is None or asked.windows is None:
            return None
        return (await self.usage.seeds({asked.owner.id: spans(asked.windows)}))[asked.owner.id]


async def save(usage: UsageStore, *counted: Counted) -> bool:
    """Saves rows. False: another worker saves."""
    async with usage.exclusive_saver() as saver:
        if saver is not None:
            await saver(counted)
        return saver is not None
