"""One step of a lease: take units ahead, report what was served, give back the rest. The reference of lease.lua.

For every bucket `its level + the tokens that leases hold <= the level of a bucket that is asked each time`, at every
moment: what is served from a lease would have been allowed there and then. Buckets are therefore refilled to what
leases leave of their capacity, and are kept as they are before a report makes that more.
"""

from extauthz.core.leases import (
    FRESH,
    HOLD,
    LEASES_MAX,
    NEAR,
    NO_LEASE,
    RESERVE,
    SHARE,
    UNITS_MIN,
    Lease,
    LeaseAsk,
    Leased,
)
from extauthz.core.limits import Limits
from extauthz.core.spend import MICRO, day_field, month_field
from extauthz.core.token_bucket import State, Step

NO_WINDOW, UNSEEDED = -1, -2
MIDDLE = 1, 1  # of the windows; a lease that is closed names its own


def lease(state: State, ask: LeaseAsk, now: int) -> Leased:
    """One step at `now` (microseconds). The units of the answer are what was added or, by a `close`, given back."""
    windows = ask.spend.windows
    if windows is None:
        return nothing(NO_WINDOW, now)
    if ask.operation == "close":
        return _close(Step(state, ask.spend, now, MIDDLE), ask)
    day, month = windows.days.index_at(now // MICRO), windows.months.index_at(now // MICRO)
    if day is None or month is None:
        return nothing(NO_WINDOW, now)
    if not state.seeded:
        return nothing(UNSEEDED, now)
    step = Step(state, ask.spend, now, (day, month))
    step.lapse()
    fields = day_field(windows, day), month_field(windows, month)
    found = _begun(state, ask, fields) if ask.operation == "take" else state.leases.get(ask.lease_id)
    if found is None or (found.cost, found.day, found.month) != (ask.spend.cost, *fields):
        return nothing(NO_LEASE, now)
    served = min(max(found.served, ask.served), found.granted)
    state.leases[ask.lease_id] = found._replace(served=served, until=now + HOLD, stage=FRESH)
    units, near = _room(step, ask.wanted)
    if units > 0:
        step.take(units * ask.spend.cost, units)
    if units > 0 or ask.operation == "more":
        step.store()
        state.leases[ask.lease_id] = found._replace(
            granted=found.granted + units, served=served, until=now + HOLD, stage=FRESH
        )
    else:
        del state.leases[ask.lease_id]
    return Leased(units, now, step.row(0, NEAR if near else 0))


def nothing(why: int, now: int) -> Leased:
    """Nothing happened."""
    return Leased(0, now, (why, *(0,) * 11))


def _begun(state: State, ask: LeaseAsk, fields: tuple[str, str]) -> Lease | None:
    if ask.lease_id in state.leases or ask.lease_id in state.lapsed or len(state.leases) >= LEASES_MAX:
        return None
    spend = ask.spend
    return Lease(spend.key_id, spend.key_limits.rate is not None, spend.cost, *fields, granted=0, served=0, until=0)


def _room(step: Step, wanted: int) -> tuple[int, bool]:
    """Units that may be added, and whether one of the limits has too little left for any."""
    asked = step.asked
    of_owner, of_key = step.used()
    room, near = wanted, False
    for name, limits, used in (("", asked.limits, of_owner), (asked.key_id, asked.key_limits, of_key)):
        held = step.held(name)
        for size, left in _left(step, name, limits, used):
            spare = (left - -(-size // RESERVE)) // asked.cost
            near = near or spare < UNITS_MIN
            room = min(room, (size // SHARE - held) // asked.cost, spare)
    return (room if room >= UNITS_MIN else 0), near


def _left(step: Step, name: str, limits: Limits, used: tuple[int, ...]) -> list[tuple[int, int]]:
    """Size of each limit, and what is left of it in whole tokens."""
    found: list[tuple[int, int]] = []
    if limits.burst is not None and limits.rate is not None:
        found.append((limits.burst, step.buckets[name][0] // MICRO))
    for quota, count in zip(limits.quotas, used, strict=True):
        if quota is not None:
            found.append((quota, quota - count))
    return found


def _close(step: Step, ask: LeaseAsk) -> Leased:
    """Of a lease that had ended, buckets get nothing back: they may have been full meanwhile."""
    step.lapse()
    held = step.state.leases.pop(ask.lease_id, None)
    found = held or step.state.lapsed.pop(ask.lease_id, None)
    if found is None:
        return nothing(NO_LEASE, step.now)
    units = found.granted - min(max(found.served, ask.served), found.granted)
    key_id = ask.spend.key_id
    step.fields = found.day, found.month, f"{found.day}:{key_id}", f"{found.month}:{key_id}"
    if held is None:
        step.buckets = {}
    step.give_back(units * found.cost, units)
    return Leased(units, step.now, (0,) * 12)
