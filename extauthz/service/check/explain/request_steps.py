"""What a request itself decides: its path, its host, its route, and the form of its credential."""

from extauthz.core.explanation import Step, StepOutcome
from extauthz.core.hosts import normal_host
from extauthz.core.near_routes import Asked, NearRoute, matched_route, near_routes
from extauthz.core.paths import why_ambiguous
from extauthz.core.reason import Reason
from extauthz.core.routes import Match, Route
from extauthz.service.check.explain.seen import PUBLIC, Seen

_FLAWS = {
    "wrong_environment": "the key is of another environment than this service, whose is EXTAUTHZ_KEY_ENV",
    "wrong_check_characters": "the check characters of the key are wrong: it has a typing mistake, or lost a part",
    "wrong_form": "it has not the form of a key: another length, fewer than 16 characters, or the shape of a JWT",
}


def path_step(seen: Seen, outcome: StepOutcome) -> Step:
    """Whether two readers could understand the path differently."""
    facts = {"path": seen.path}
    if outcome != "refused":
        return Step("path", outcome, facts)
    remedy = "ask for the path in its plain form; a path is never normalised, since readers differ in how"
    return Step("path", outcome, facts, why_ambiguous(seen.request.path), remedy)


def host_step(seen: Seen, outcome: StepOutcome) -> Step:
    """Whether the host is one that all readers understand alike, where a route names one."""
    asked, needed = seen.request.host, seen.table.names_hosts
    facts: dict[str, object] = {"host": normal_host(asked) if outcome == "ok" else asked or None, "needed": needed}
    if outcome == "refused":
        why = "the host is not a plain name or address with an optional port" if asked else "the host is missing"
        remedy = "see that the proxy passes the host of the client" if asked else "name it: an absolute URL, or --host"
        return Step("host", outcome, facts, f"{why}, and a route names a host", remedy)
    return Step("host", outcome, facts, "" if needed or seen.refused_at == "path" else "no route names a host")


def route_step(seen: Seen, outcome: StepOutcome) -> Step:
    """Which route answers, and which ones nearly did."""
    if outcome == "skipped":
        return Step("route", outcome, {"route": None, "near": []})
    request, match = seen.request, seen.route
    host = normal_host(request.host) if seen.table.names_hosts else None
    asked = Asked(request.method, host, request.path)
    if match is not None:
        route = matched_route(seen.table, asked, match)
        facts = {"route": _matched(route, match), "near": _near(near_routes(seen.table, asked, route))}
        return Step("route", outcome, facts)
    in_capitals = request.method.upper()
    if in_capitals != request.method and seen.table.match(in_capitals, host, request.path) is not None:
        why, remedy = "no route takes the method in this case", f"ask with {in_capitals}: methods are case-sensitive"
        return Step("route", outcome, {"route": None, "near": []}, why, remedy)
    near = near_routes(seen.table, asked, None)
    remedy = "add a route for it to the configuration; extauthz check-config lists those that there are"
    return Step("route", outcome, {"route": None, "near": _near(near)}, "no route takes the request", remedy)


def credential_step(seen: Seen, outcome: StepOutcome) -> Step:
    """Whether the request carries something in the form of a key."""
    given = "key_id" if seen.by_id else "key" if seen.request.authorization else "none"
    facts = {"given": given}
    if outcome == "skipped":
        public = seen.route is not None and seen.route.public
        named = "the key is named by its id" if seen.by_id and seen.key is not None else ""
        return Step("credential", outcome, facts, PUBLIC if public else named)
    if outcome == "ok":
        return Step("credential", outcome, facts)
    reason = seen.result.decision.reason
    if reason is Reason.NO_CREDENTIALS:
        return Step("credential", outcome, facts, "no key was sent", "send Authorization: Bearer KEY")
    if reason is Reason.MALFORMED_CREDENTIALS:
        why = "what was sent holds a character that no bearer token has, or is empty"
        return Step("credential", outcome, facts, why, "send Authorization: Bearer KEY, with the key as it was issued")
    return Step("credential", outcome, facts, _FLAWS.get(seen.result.why, ""), "send the key as it was issued")


def _matched(route: Route, match: Match) -> dict[str, object]:
    return {
        **_place(route),
        "resource": match.resource or None,
        "mode": None if match.public else match.mode,
        "cost": 0 if match.public else match.cost,
        "public": match.public,
        "cache": match.cache,
        "limits": route.limits,
    }


def _near(routes: list[NearRoute]) -> list[dict[str, object]]:
    return [{**_place(near.route), "because": near.because, "detail": near.detail} for near in routes]


def _place(route: Route) -> dict[str, object]:
    methods = None if route.methods is None else sorted(route.methods)
    return {"path": route.path, "host": route.host, "methods": methods}
