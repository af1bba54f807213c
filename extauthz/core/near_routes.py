"""Which routes a request nearly matched, and what was different: for explanations, in time by the number of routes."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple
from urllib.parse import unquote

from extauthz.core.hosts import configured_host
from extauthz.core.routes import Match, Route, RouteTable, is_resource_name, order_at_a_place

NEAR_MAX = 5
_SIMILAR = 0.5  # ratio of difflib from which a segment may have been meant

Because = Literal["method", "host", "segment", "encoding", "resource", "less_specific"]


class Difference(NamedTuple):
    """What a route and a request disagree on. `similarity` is 1 where nothing but this has to change."""

    because: Because
    detail: str
    similarity: float = 1.0


class NearRoute(NamedTuple):
    """A route that did not answer a request, and why: the first difference, and all of them in words."""

    route: Route
    because: Because
    detail: str


class Asked(NamedTuple):
    """What a request asks of the routes: `host` in normal form, None where no route names one."""

    method: str
    host: str | None
    path: str


def matched_route(table: RouteTable, asked: Asked, match: Match) -> Route:
    """The route that `match` came from."""
    fitting = [
        route
        for route in table.routes
        if route.path == match.path and not any(_differences(table, route, asked, _segments(asked.path)))
    ]
    return min(fitting, key=order_at_a_place)


def near_routes(table: RouteTable, asked: Asked, matched: Route | None) -> list[NearRoute]:
    """Routes that differ from the request in one or two things, the nearest first; not the one that `matched`."""
    segments = _segments(asked.path)
    found: list[tuple[tuple[int, float], NearRoute]] = []
    for route in table.routes:
        if route is matched:
            continue
        differences = list(_differences(table, route, asked, segments))
        if not differences:
            found.append(((0, 0.0), NearRoute(route, "less_specific", _less_specific(matched))))
        elif len(differences) <= 2 and all(each.similarity >= _SIMILAR for each in differences):
            near = NearRoute(route, differences[0].because, "; ".join(each.detail for each in differences))
            found.append(((len(differences), -min(each.similarity for each in differences)), near))
    return [near for _, near in sorted(found, key=lambda each: each[0])[:NEAR_MAX]]


def _less_specific(matched: Route | None) -> str:
    if matched is None:
        return "a more specific route is the one that counts, and does not take the request"
    return f"{matched.path} is more specific"


def _segments(raw_path: str) -> list[str]:
    return raw_path.partition("?")[0].split("/")[1:]


def _differences(table: RouteTable, route: Route, asked: Asked, segments: Sequence[str]) -> Iterator[Difference]:
    """Everything that keeps a route from matching; nothing where its place, host and methods fit."""
    yield from _in_path(route.path.split("/")[1:], segments, table.resources.segments)
    if route.host is not None and configured_host(route.host) != asked.host:
        yield Difference("host", f"the route is for the host {route.host}")
    methods = table.methods_of(route)
    if methods is not None and asked.method not in methods:
        case = " in capitals" if asked.method.upper() in methods else ""
        yield Difference("method", f"the route takes {', '.join(sorted(methods))}{case}")


def _in_path(pattern: Sequence[str], segments: Sequence[str], names: Mapping[str, str]) -> Iterator[Difference]:
    for place, step in enumerate(pattern):
        if step == "**":
            return
        if place == len(segments):
            yield Difference("segment", f"the path ends where the route goes on with /{'/'.join(pattern[place:])}")
            return
        difference = _in_segment(step, segments[place], place + 1, names)
        if difference is not None:
            yield difference
    rest = segments[len(pattern) :]
    if rest == [""]:
        yield Difference("segment", "the path ends with a slash, and the route does not")
    elif rest:
        yield Difference("segment", "the path goes on where the route ends")


def _in_segment(step: str, segment: str, number: int, names: Mapping[str, str]) -> Difference | None:
    if step == "*":
        return None
    if step == "{resource}":
        if segment in names or is_resource_name(segment):
            return None
        return Difference("resource", f"segment {number} cannot be a resource: 1 to 64 of A-Z a-z 0-9 _ -")
    if step == segment:
        return None
    if unquote(step) == unquote(segment):
        return Difference("encoding", f"segment {number} is another encoding of `{step}`")
    similarity = SequenceMatcher(None, step.lower(), segment.lower()).ratio()
    said = f"segment {number} must be `{step}`"
    return Difference("segment", f"{said} in this case" if step.lower() == segment.lower() else said, similarity)
