"""What limits decide: each one with what is left of it, and what is refused for want of it."""

import shlex
from collections.abc import Iterable

from extauthz.core.balance import Balance, balance
from extauthz.core.decision import Allow, Deny
from extauthz.core.explanation import Step, StepOutcome
from extauthz.core.limit_kinds import CREDITS, KEY, KINDS, OWNER
from extauthz.core.limits import Limits
from extauthz.core.reason import Reason
from extauthz.service.check.explain.seen import ELSEWHERE, PUBLIC, Seen

_OPTIONS = {name: kind.options for kind in KINDS for name in kind.names}
_OF_KEYS = frozenset(kind.names[KEY] for kind in KINDS)
_OF_RECORDS = {column: kind for kind in KINDS for column in kind.columns}
_OF_NOW = "what is left, and until when, is of now, not of the time that was asked for"


def limits_step(seen: Seen, outcome: StepOutcome) -> Step:
    """What the request costs, and what every limit that holds says to that."""
    decision, found = seen.result.decision, _balance(seen)
    reached = outcome != "skipped"
    cost = None if not reached or seen.route is None else 1 if seen.route.public else seen.route.cost
    tenant = None if not reached or seen.tenant is None else seen.tenant.record
    windows = None if tenant is None else tenant.calendar.round(seen.request.now)
    shadow = isinstance(decision, Allow) and decision.shadow
    facts = {
        "cost": cost,
        "limits": [] if found is None else _limits(found),
        "too_small": [{"name": name, "limit": size} for name, size in _too_small(seen).items()] if reached else [],
        "shadow": shadow,
        "would": None if seen.would is None else seen.would.value,
        "degraded": isinstance(decision, Allow) and decision.degraded,
        "retry_after": (found.retry_after or None) if found is not None else None,
        "day": None if windows is None else windows.days.dates[1].isoformat(),
        "month": None if windows is None else windows.months.dates[1].isoformat(),
    }
    why, remedy = _words(seen, found) if reached else (_unlimited(seen), "")
    return Step("limits", outcome, facts, why, remedy)


def _balance(seen: Seen) -> Balance | None:
    asked, spent = seen.peek.asked, seen.peek.spent
    return None if asked is None or spent is None else balance(asked, spent)


def _limits(found: Balance) -> list[dict[str, object]]:
    return [
        {
            "name": limit.name,
            "limit": limit.size,
            "window": limit.window,
            "remaining": limit.remaining,
            "reset": limit.reset,
            "refused": limit.name in found.refused,
        }
        for limit in found.limit_statuses
    ]


def _too_small(seen: Seen) -> dict[str, int]:
    """The limits that the cost can never fit, by their names in headers."""
    route, subject = seen.route, seen.result.subject
    tenant = None if seen.tenant is None else seen.tenant.record
    if route is None or subject is None or tenant is None:
        return {}
    of_owner = _below(tenant.limits_at(seen.request.now), route.cost, OWNER)
    return of_owner | _below(subject.limits, route.cost, KEY)


def _below(limits: Limits, cost: int, side: int) -> dict[str, int]:
    return {_OF_RECORDS[name].names[side]: size for name, size in limits.below(cost).items()}


def _words(seen: Seen, found: Balance | None) -> tuple[str, str]:
    """What decided, and what changes that."""
    decision = seen.result.decision
    notes = [_OF_NOW] if seen.moved and found is not None else []
    if seen.peek.spent is not None and seen.peek.spent.provisional:
        notes.append("the counters began without PostgreSQL, so more may seem to be left than is")
    if seen.peek.error is not None:
        mode = f"RATE_LIMIT_ON_REDIS_DOWN={seen.on_redis_down.value}"
        outcome = "refuses the request" if isinstance(decision, Deny) else "lets it pass, charged nothing"
        return f"{seen.away(seen.peek.error)}; {mode} {outcome}", "see that Redis runs, and REDIS_URL"
    small = _too_small(seen)
    if Reason.COST_EXCEEDS_LIMIT in (decision.reason, seen.would):
        sizes = ", ".join(f"{name} {size}" for name, size in small.items())
        notes.insert(0, f"the cost is above what a limit can ever hold: {sizes}")
        return _sentence(seen, notes), _raise(seen, small)
    if decision.reason is Reason.LIMITS_UNAVAILABLE:
        notes.insert(0, "what was used of credits is not known, because Redis has lost it and PostgreSQL is away")
        return _sentence(seen, notes), "see that PostgreSQL runs, and DATABASE_URL"
    if found is not None and found.refused:
        notes.insert(0, f"not enough is left of {', '.join(found.refused)}; {_again(found)}")
        return _sentence(seen, notes), _raise(seen, found.refused)
    if found is not None and not found.limit_statuses:
        notes.insert(0, "there is no limit")
    return _sentence(seen, notes), ""


def _again(found: Balance) -> str:
    return "no wait helps" if found.retry_after is None else f"again in {found.retry_after} s"


def _sentence(seen: Seen, notes: Iterable[str]) -> str:
    shadow = ["limits are in shadow, and refuse nothing"] if seen.would not in (None, Reason.ALLOW) else []
    return "; ".join([*notes, *shadow])


def _raise(seen: Seen, names: Iterable[str]) -> str:
    """The commands that raise limits."""
    subject = seen.result.subject
    if subject is None:
        return "wait, or raise rate and burst of the route in the configuration"
    if seen.kept_elsewhere:
        return ELSEWHERE
    key, organization = subject.id, shlex.quote(seen.organization)
    commands = []
    for name in names:
        group, whose = ("keys", key) if name in _OF_KEYS else ("orgs", organization)
        verb = "credits" if name in CREDITS.names else "update"
        commands.append(f"extauthz {group} {verb} {whose} {_OPTIONS[name]}")
    return "; ".join(commands)


def _unlimited(seen: Seen) -> str:
    route = seen.route
    return f"{PUBLIC}, and has no limit" if route is not None and route.public and route.bucket is None else ""
