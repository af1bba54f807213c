"""The route table: method, host and raw path in; resource, mode and cost out. Compiled once, asked at every request."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import unquote

from extauthz.core.errors import ConfigError
from extauthz.core.hosts import configured_host
from extauthz.core.limits import Limits, Rate
from extauthz.core.paths import is_ambiguous
from extauthz.core.resources import Resources
from extauthz.core.route_rules import Route, is_resource_name, mistakes_in, place

__all__ = ["DEFAULT_ROUTES", "Bucket", "Match", "Mode", "Route", "RouteTable", "is_ambiguous", "is_resource_name"]

Mode = Literal["read", "write"]

DEFAULT_ROUTES = (Route("/**", resource="api"),)

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Bucket(NamedTuple):
    """A token bucket that each client address has at a public route.

    `name`, 16 hexadecimal digits, is that of the route's path, host and methods: it outlives a restart, another order
    of the routes and another `rate` or `burst`. `limits` has these two and no quota.
    """

    name: str
    limits: Limits


class Match(NamedTuple):
    """What a request asks for. `resource` is empty on a public route and only there; `cost` is in tokens.

    `shadow`: whatever limits would refuse is allowed. `bucket` is only on a public route, where it has one. `path` is
    the route's pattern.
    """

    resource: str
    mode: Mode
    cost: int
    public: bool
    cache: bool
    shadow: bool = False
    bucket: Bucket | None = None
    path: str = ""


class _Compiled:
    """A route made ready: what does not depend on the request is built once."""

    __slots__ = ("host", "methods", "names", "position", "reading", "writing")

    def __init__(self, route: Route, names: Mapping[str, str], methods: frozenset[str] | None) -> None:
        segments = route.path.split("/")
        self.host = None if route.host is None else configured_host(route.host)
        self.methods = methods
        self.names = names
        self.position = segments.index("{resource}") if "{resource}" in segments else None
        shadow, bucket = route.limits == "shadow", _bucket(route)
        said = (route.cost, route.public, route.cache, shadow, bucket, route.path)
        self.reading = Match(route.resource or "", "write" if route.mode == "write" else "read", *said)
        self.writing = Match(route.resource or "", "read" if route.mode == "read" else "write", *said)

    def fits(self, method: str, host: str | None) -> bool:
        return (self.host is None or self.host == host) and (self.methods is None or method in self.methods)

    def answer(self, method: str, segments: Sequence[str]) -> Match | None:
        match = self.reading if method in _READING else self.writing
        if self.position is None:
            return match
        segment = segments[self.position]
        resource = self.names.get(segment)
        if resource is None:
            if not is_resource_name(segment):
                return None
            resource = segment
        return Match(resource, *match[1:])


def _bucket(route: Route) -> Bucket | None:
    if route.rate is None:
        return None
    # No path, host or method has a line feed, so two routes never write the same.
    place = "\n".join((route.path, configured_host(route.host or "") or "", *sorted(route.methods or ())))
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    return Bucket(name, Limits(rate=Rate.parse(route.rate), burst=route.burst))


def order_at_a_place(route: Route) -> tuple[bool, bool]:
    """Sorts routes of one path: those with a host first, then those with methods."""
    return route.host is None, route.methods is None


_ANY_SEGMENT = "any-segment"  # stands for what a pattern leaves open, where a path is made of it


@dataclass(slots=True)
class _Node:
    """A place in the tree of segments. `routes` end here; those of `tail` take whatever follows."""

    spelling: str = ""
    literals: dict[str, "_Node"] = field(default_factory=dict)  # by decoded segment
    wild: "_Node | None" = None
    tail: "_Node | None" = None
    routes: list[_Compiled] = field(default_factory=list)

    def place(self, segments: Sequence[str]) -> "_Node":
        """The node where a pattern ends, made on the way."""
        node = self
        for segment in segments:
            if segment == "**":
                node.tail = node = node.tail or _Node()
            elif segment in ("*", "{resource}"):
                node.wild = node = node.wild or _Node()
            else:
                node = node.literals.setdefault(unquote(segment), _Node(segment))
        return node


class RouteTable:
    """All routes, compiled. `resources` has every name that a route can ask for.

    `names_hosts`: a route names a host, so that the host of a request must be one that all readers understand alike.
    """

    def __init__(self, routes: Sequence[Route], names: Mapping[str, str]) -> None:
        """For `compile`, which checks first."""
        self.routes = tuple(routes)
        self.charged = tuple(route for route in routes if not route.public and route.limits == "enforce")
        from_path = any("{resource}" in route.path for route in routes)
        fixed = {route.resource for route in routes if route.resource}
        self.resources = Resources(
            fixed | {name for name in names.values() if from_path}, names, self._asks if from_path else None
        )
        self.names_hosts = any(route.host is not None for route in routes)
        # Places of segments, counted from 1, at which a route looks at what a segment is.
        self._telling = {
            place
            for route in routes
            for place, segment in enumerate(route.path.split("/")[1:], 1)
            if segment not in ("*", "**")
        }
        self._depth = max((route.path.count("/") for route in routes), default=0)
        self._root = _Node()
        self._methods = frozenset[str]().union(*(route.methods or () for route in routes))
        if "GET" in self._methods:
            self._methods |= {"HEAD"}
        self._in_capitals = frozenset(method.upper() for method in self._methods)
        self._head_taken = {place(route) for route in routes if "HEAD" in (route.methods or ())}
        for route in sorted(routes, key=order_at_a_place):
            self._root.place(route.path.split("/")[1:]).routes.append(_Compiled(route, names, self.methods_of(route)))

    def takes_any_end(self, raw_path: str) -> bool:
        """Whether a path leads where it does whatever its last segment is: any but one that is empty, has an encoded
        character, or is ambiguous.
        """
        return raw_path.partition("?")[0].count("/") not in self._telling

    def methods_of(self, route: Route) -> frozenset[str] | None:
        """The methods that a route takes; None: all. GET is HEAD, too, unless another route of its place names HEAD."""
        methods = route.methods
        if methods is not None and "GET" in methods and place(route) not in self._head_taken:
            return methods | {"HEAD"}
        return methods

    def _asks(self, name: str) -> bool:
        """Whether a request exists for which a route takes this resource from its path."""
        for route in self.routes:
            if "{resource}" not in route.path:
                continue
            stem = route.path.replace("{resource}", name).replace("*", _ANY_SEGMENT)
            host = None if route.host is None else configured_host(route.host)
            for end in ("", "/", f"/{_ANY_SEGMENT}"):
                path = stem.removesuffix(f"/{_ANY_SEGMENT}{_ANY_SEGMENT}") + end
                for method in route.methods or ("GET", "POST"):
                    match = self.match(method, host, path)
                    if match is not None and not match.public and match.resource == name:
                        return True
        return False

    @classmethod
    def compile(
        cls, routes: Sequence[Route], resources: Mapping[str, str], *, numbers: Sequence[int] | None = None
    ) -> "RouteTable":
        """Check everything, then build the table. `resources` maps a segment to its name in permissions.

        Raises ConfigError with one line per mistake, named by table and place (`[[routes]] 2 path: …`); `numbers`
        are the places, when they are not 1, 2, 3 and so on.
        """
        labels = [f"[[routes]] {number}" for number in numbers or range(1, len(routes) + 1)]
        mistakes = mistakes_in(dict(zip(labels, routes, strict=True)), resources)
        if mistakes:
            raise ConfigError(mistakes)
        return cls(routes, dict(resources))

    def match(self, method: str, host: str | None, raw_path: str) -> Match | None:
        """The most specific route for the request, or None. Never raises; takes time by the depth of the routes.

        `host` is in normal form (`core.hosts`); None only where no route names a host.

        A route for GET holds for HEAD, unless another one of the same place names HEAD.

        None also where that route takes its resource from a segment that cannot be one, where a segment is only another
        encoding of a route's literal, and where the method differs by case alone from one that a route names: falling
        back to a wider route would judge one thing by another's rule.
        """
        if method not in self._methods and method.upper() in self._in_capitals:
            return None
        segments = raw_path.partition("?")[0].split("/", self._depth + 1)
        end = len(segments)
        branches = [(self._root, 1)]  # the last is the most specific one left
        while branches:
            node, depth = branches.pop()
            if node.tail is not None:
                branches.append((node.tail, end))
            if depth == end:
                for route in node.routes:
                    if route.fits(method, host):
                        return route.answer(method, segments)
                continue
            if node.wild is not None:
                branches.append((node.wild, depth + 1))
            segment = segments[depth]
            literal = node.literals.get(unquote(segment) if "%" in segment else segment)
            if literal is not None:
                if literal.spelling != segment:
                    return None
                branches.append((literal, depth + 1))
        return None
