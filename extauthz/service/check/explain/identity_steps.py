"""The steps of an explanation that a key and its organization decide: identity and permission."""

import shlex
from collections.abc import Iterable
from difflib import get_close_matches

from extauthz.core.explanation import Step, StepOutcome
from extauthz.core.keys import ApiKey, ended_by
from extauthz.core.permissions import ANY_RESOURCE, storable
from extauthz.core.routes import Match
from extauthz.core.subject import Subject
from extauthz.core.tenants import ENFORCE, SHADOW
from extauthz.service.check.explain.seen import ELSEWHERE, PUBLIC, Seen, age, plain_time, time_text


def key_step(seen: Seen, outcome: StepOutcome) -> Step:
    """Whose key it is, from which layer that is known, and whether the key may be used."""
    reading = seen.key
    key = None if reading is None else reading.record
    facts = {
        "api_key_id": None if key is None else key.id,
        "name": None if seen.named is None else seen.named.name,
        "layer": None if reading is None else reading.layer,
        "age_seconds": None if key is None else age(key.loaded_at, seen.now),
        "layers": [] if reading is None else list(seen.layers),
        "expires_at": None if key is None else time_text(key.expires_at),
        "revoked_at": None if key is None else time_text(key.revoked_at),
        "disabled_at": None if key is None else time_text(key.disabled_at),
    }
    if outcome != "refused":
        return Step("key", outcome, facts, _public(seen))
    return Step("key", outcome, facts, *(_not_found(seen) if key is None else _ended(seen, key)))


def _not_found(seen: Seen) -> tuple[str, str]:
    if seen.key is not None and seen.key.error is not None:
        if seen.key.error.reason == "busy":
            return "more keys are to be looked up at this moment than there is room for", "ask again in a second"
        return f"{seen.away(seen.key.error)}, and no cache has the key", "see that PostgreSQL runs, and DATABASE_URL"
    if seen.key is not None and seen.key.corrupt:
        return f"its record cannot be used: {seen.key.corrupt}", "mend the row, or give the client another key"
    if seen.pepper_missing and seen.named is not None:
        why = f"its digest was made with the pepper {seen.named.pepper_id}, which EXTAUTHZ_KEY_PEPPER does not have"
        return why, "give the pepper back to the setting, or the client another key: extauthz keys rotate ID"
    remedy = ELSEWHERE if seen.kept_elsewhere else "compare with what the organization has: extauthz keys list ORG"
    return "no such key: it was never issued here, or under a pepper that is no longer set", remedy


def _ended(seen: Seen, key: ApiKey) -> tuple[str, str]:
    why = ended_by(key)
    at = {"revoked": key.revoked_at, "disabled": key.disabled_at, "expired": key.expires_at}[why]
    remedies = {
        "revoked": f"revoked is for good; make a new key: extauthz keys create {shlex.quote(seen.organization)}",
        "disabled": f"extauthz keys enable {key.id}",
        "expired": f"extauthz keys update {key.id} --expires-in 30d",
    }
    since = f"the key {'has expired' if why == 'expired' else f'was {why}'}: {plain_time(at)}"
    return since, ELSEWHERE if seen.kept_elsewhere else remedies[why]


def organization_step(seen: Seen, outcome: StepOutcome) -> Step:
    """Which organization the key belongs to, and whether that may use the service."""
    reading = seen.tenant
    tenant = None if reading is None else reading.record
    facts = {
        "organization_id": None
        if reading is None or seen.result.subject is None
        else seen.result.subject.organization_id,
        "name": None if reading is None or seen.named is None else seen.named.organization,
        "plan": None if tenant is None else tenant.plan,
        "status": None if tenant is None else tenant.status,
        "limits_mode": None if tenant is None else SHADOW if tenant.shadow else ENFORCE,
        "layer": None if reading is None else reading.layer,
        "age_seconds": None if tenant is None else age(tenant.loaded_at, seen.now),
    }
    if outcome != "refused" or reading is None:
        return Step("organization", outcome, facts, _public(seen))
    if reading.error is not None:
        why = f"{seen.away(reading.error)}, and the organization was changed since the key was read"
        return Step("organization", outcome, facts, why, "see that PostgreSQL runs, and DATABASE_URL")
    if tenant is None:
        why = f"its record cannot be used: {reading.corrupt}" if reading.corrupt else "the organization is gone"
        return Step("organization", outcome, facts, why, "see the organizations: extauthz orgs list")
    enable = f"extauthz orgs update {shlex.quote(seen.organization)} --status active"
    remedy = ELSEWHERE if seen.kept_elsewhere else enable
    return Step("organization", outcome, facts, "the organization is suspended", remedy)


def permission_step(seen: Seen, outcome: StepOutcome) -> Step:
    """What the route asks for, and what the key holds."""
    route, subject = seen.route, seen.result.subject
    if outcome == "skipped" or route is None or subject is None:
        return Step("permission", outcome, {"asked": None, "held": [], "meant": None}, _public(seen))
    asked = f"{route.resource}:{route.mode}"
    held = [f"{name}:{mode}" for name, modes in storable(subject.permissions).items() for mode in modes]
    if outcome == "ok":
        return Step("permission", outcome, {"asked": asked, "held": held, "meant": None})
    meant = _meant(seen, subject, route)
    facts = {"asked": asked, "held": held, "meant": meant or None}
    why = f"the route asks for {asked}, which the key does not hold"
    if meant in subject.permissions:
        why += f"; {meant} in its permissions was probably meant to be {route.resource}"
    elif meant:
        why += f"; probably {meant} is meant by {route.resource} in the path"
    # A name that no route asks for becomes the one that was meant; keys update would refuse it, too.
    wrong = "" if meant in seen.table.resources else f"{meant}:"
    granted = {each.replace(wrong, f"{route.resource}:") if wrong and each.startswith(wrong) else each for each in held}
    grant = f"extauthz keys update {subject.id} {_options({*granted, asked})}"
    return Step("permission", outcome, facts, why, ELSEWHERE if seen.kept_elsewhere else grant)


def _meant(seen: Seen, subject: Subject, route: Match) -> str:
    """The name in the key's permissions that was probably meant for the resource, else the name of a route that is."""
    held = [name for name, modes in subject.permissions.items() if route.mode in modes and name != ANY_RESOURCE]
    for name in held:
        if name != route.resource and seen.table.resources.meant(name) == route.resource:
            return name
    names = {name.lower(): name for name in held if name != route.resource}
    similar = get_close_matches(route.resource.lower(), names, n=1)
    if similar:
        return names[similar[0]]
    return "" if route.resource in set(seen.table.resources) else seen.table.resources.meant(route.resource)


def _options(granted: Iterable[str]) -> str:
    return " ".join(f"--permission {shlex.quote(permission)}" for permission in sorted(granted))


def _public(seen: Seen) -> str:
    return PUBLIC if seen.route is not None and seen.route.public else ""
