"""A route as a person writes it, and everything that can be wrong with it and with its neighbours."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from extauthz.core.hosts import configured_host
from extauthz.core.limits import BURST_MAX, Rate
from extauthz.core.paths import is_ambiguous
from extauthz.core.permissions import MODES, RESOURCE_NAME

MAX_COST = 10**9

_STANDARD_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE"})
METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # a token: RFC 9110 §9.1
_WILD = ("*", "{resource}")
_LIMITS = ("enforce", "shadow")


@dataclass(frozen=True, slots=True)
class Route:
    """One `[[routes]]` entry; `RouteTable.compile` says whether it makes sense."""

    path: str
    host: str | None = None  # None: any
    methods: frozenset[str] | None = None  # None: all
    resource: str | None = None  # None: the segment where the path says `{resource}`
    mode: str | None = None  # None: by method
    cost: int = 1
    public: bool = False
    cache: bool = True
    limits: str = "enforce"  # or `shadow`: what would have been refused is counted and allowed
    rate: str | None = None  # with `burst`, on a public route: for each client address; None: no such limit
    burst: int | None = None


def is_resource_name(text: str) -> bool:
    """Whether the text can name a resource in a permission: `[A-Za-z0-9_-]{1,64}`."""
    return RESOURCE_NAME.fullmatch(text) is not None


def place(route: Route) -> tuple[str, str | None]:
    """Path pattern and host: routes of one place differ by methods alone."""
    pattern = "/".join("*" if segment in _WILD else segment for segment in route.path.split("/"))
    return pattern, None if route.host is None else configured_host(route.host)


def mistakes_in(routes: Mapping[str, Route], resources: Mapping[str, str]) -> list[str]:
    """One line per mistake; `routes` are by the label that names each of them in its line."""
    mistakes = [
        f"{label} {problem}"
        for label, route in routes.items()
        for problem in (*_in_path(route.path), *_in_scope(route), *_in_demand(route), *_in_limits(route))
    ]
    mistakes += _spelled_twice(routes)
    mistakes += _rivals(routes)
    mistakes += [
        f"[resources] {segment if segment.isprintable() else ascii(segment)}:"
        f" the name in permissions must be 1 to 64 of A-Z a-z 0-9 _ -, not {name!a}"
        for segment, name in resources.items()
        if not is_resource_name(name)
    ]
    return mistakes


def _in_path(path: str) -> Iterator[str]:
    segments = path.split("/")
    if not path.startswith("/"):
        yield f"path: must start with a slash, not {path!a}"
    elif "?" in path or is_ambiguous(path):
        yield f"path: no request can match {path!a}: no query, no empty, `.` or `..` segment, no needless encoding"
    if "**" in segments[:-1]:
        yield f"path: `**` must be the last segment, not as in {path!a}"
    if segments.count("{resource}") > 1:
        yield f"path: only one {{resource}} can give the resource, not as in {path!a}"
    for segment in segments:
        if segment not in (*_WILD, "**") and re.search(r"[*{}]", segment):
            yield f"path: a segment is a literal, `*`, `**` or {{resource}}, not {segment!a}"


def _in_scope(route: Route) -> Iterator[str]:
    if route.host is not None and configured_host(route.host) is None:
        yield f"host: must be a name or an address in its usual form, without port and wildcard, not {route.host!a}"
    if route.methods is not None and not route.methods:
        yield "methods: must name at least one method; leave it out for all"
    for method in sorted(route.methods or ()):
        if not METHOD.fullmatch(method):
            yield f"methods: must be names of methods, like GET, not {method!a}"
        elif method not in _STANDARD_METHODS and method.upper() in _STANDARD_METHODS:
            yield f"methods: case matters: must be {method.upper()}, not {method!a}"


def _in_demand(route: Route) -> Iterator[str]:
    from_path = "{resource}" in route.path
    if route.mode is not None and route.mode not in MODES:
        yield f"mode: must be read or write, not {route.mode!a}"
    yield from _in_number("cost", route.cost, MAX_COST)
    if route.resource is not None and not is_resource_name(route.resource):
        yield f"resource: must be 1 to 64 of A-Z a-z 0-9 _ -, not {route.resource!a}"
    if route.public and (from_path or (route.resource, route.mode, route.cost, route.cache) != (None, None, 1, True)):
        yield "public: goes without resource, mode, cost and cache, as no caller is identified and nothing is charged"
    elif route.resource is not None and from_path:
        yield "resource: is in the path already, as {resource}"
    elif not route.public and route.resource is None and not from_path:
        yield "resource: required, here or as {resource} in the path, unless public = true"


def _in_limits(route: Route) -> Iterator[str]:
    if route.limits not in _LIMITS:
        yield f"limits: must be enforce or shadow, not {route.limits!a}"
    if route.rate is not None:
        try:
            Rate.parse(route.rate)
        except ValueError as error:
            yield f"rate: {str(error).removeprefix('rate ')}"
    if route.burst is not None:
        yield from _in_number("burst", route.burst, BURST_MAX)
    given = [name for name, value in (("rate", route.rate), ("burst", route.burst)) if value is not None]
    if given and not route.public:
        yield f"{given[0]}: only where public = true; elsewhere the organization and its key say what may be spent"
    elif len(given) == 1:
        yield f"{given[0]}: rate and burst go together, both or none"
    elif route.public and not given and route.limits == "shadow":
        yield "limits: nothing is limited on a public route without rate and burst"


def _in_number(key: str, number: int, highest: int) -> Iterator[str]:
    if type(number) is int and number.bit_length() > 64:  # TOML has none; Python may refuse to write its digits
        yield f"{key}: must be a whole number from 1 to {highest}, not one of more than 64 bits"
    elif type(number) is not int or not 1 <= number <= highest:
        yield f"{key}: must be a whole number from 1 to {highest}, not {number!a}"


def _spelled_twice(routes: Mapping[str, Route]) -> Iterator[str]:
    """Literals that mean the same and are encoded differently, of which only one could ever match."""
    spellings: dict[tuple[str, ...], str] = {}
    for label, route in routes.items():
        place: tuple[str, ...] = ()
        for segment in route.path.split("/"):
            literal = segment not in (*_WILD, "**")
            place += (f"={unquote(segment)}",) if literal else ("*",)
            other = spellings.setdefault(place, segment) if literal else segment
            if other != segment:
                yield f"{label} path: {segment!a} is another spelling of {other!a} in an earlier route"


def _rivals(routes: Mapping[str, Route]) -> Iterator[str]:
    """Routes between which the order in the file would have to choose."""
    seen: dict[tuple[str, str | None], list[tuple[str, Route]]] = {}
    for label, route in routes.items():
        others = seen.setdefault(place(route), [])
        for other, rival in others:
            mine, theirs = route.methods, rival.methods
            if mine is theirs is None or (mine and theirs and mine & theirs):
                yield f"{label}: matches the same requests as {other}; their path, host or methods must differ"
        others.append((label, route))
