"""Whether Redis lets us do what checks do. PING says nothing of that: a replica or a full server answers it, too."""

import asyncio
from collections.abc import Sequence
from typing import Literal, NamedTuple

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.commands import Commands

_PROBE = scripts.Script(scripts.read("probe"))
_NOTHING = ""  # the id of no tenant and of no request


class Trial(NamedTuple):
    """A name that is written to, and what is kept under names like it."""

    key: str
    kind: Literal["hash", "string", "set"]


LIMITS = (Trial(keyspace.tenant_limits(_NOTHING), "hash"),)
ADDRESSES = (Trial(keyspace.address_limits(_NOTHING), "hash"),)
CHARGE_ONCE = (Trial(keyspace.charge_once(_NOTHING, "."), "string"),)
USAGE = (Trial(keyspace.usage_due(), "set"),)
CACHES = (
    Trial(keyspace.api_key_cache("."), "string"),
    Trial(keyspace.tenant_quota_cache(_NOTHING), "string"),
)
FENCES = (Trial(keyspace.NO_FENCE, "string"),)


async def write(client: Commands, trials: Sequence[Trial]) -> None:
    """Writes as checks write, in one round trip. Raises what Redis refuses.

    The script is sent whole and by its digest: checks need the first after every restart of Redis, then the second.
    """
    first = trials[0]
    outcomes = await asyncio.gather(
        _PROBE.send(client, first.key, first.kind),
        *(_PROBE.run(client, trial.key, trial.kind) for trial in trials),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
