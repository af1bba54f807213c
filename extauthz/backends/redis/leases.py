"""What workers ask of leases in the words that `scripts/lease.lua` takes, and its answer."""

import struct
from collections.abc import Sequence

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.spends import calendar_text, limit_numbers
from extauthz.core.leases import LeaseAsk, Leased

LEASE = scripts.read(*scripts.CHARGING, "lease")
_ROW = struct.Struct("<qh3b8q")  # of each answer, as the script packs it
_OPERATIONS = {"take": 0, "more": 1, "close": 2}


def command(asks: Sequence[LeaseAsk], epoch: str) -> tuple[list[str], list[str]]:
    """KEYS and ARGV of one call."""
    arguments = [epoch]
    for ask in asks:
        spend = ask.spend
        numbers = _OPERATIONS[ask.operation], spend.cost, ask.served, ask.wanted
        limits = *limit_numbers(spend.limits), *limit_numbers(spend.key_limits)
        calendar = "" if spend.windows is None else calendar_text(spend.windows)
        arguments += [" ".join(map(str, (*numbers, *limits))), ask.lease_id, spend.key_id, calendar]
    return [keyspace.tenant_limits(ask.spend.owner.id) for ask in asks], arguments


def read_answer(now: int, rows: bytes, *_: bytes) -> list[Leased]:
    """One for each asked; rows that FAILED are told like any other."""
    return [Leased(units, now, tuple(row)) for units, *row in _ROW.iter_unpack(rows)]
