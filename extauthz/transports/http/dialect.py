"""How each family of proxies asks, and what it can carry of the answer."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from extauthz.core.decision import Decision
from extauthz.core.request import Question
from extauthz.core.route_rules import METHOD

Headers = list[tuple[str, str]]


class ReceivedHeaders(Protocol):
    """Case-insensitive headers that may repeat."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Every value of a name, in order."""
        ...


class Asked(NamedTuple):
    """What is asked for: all that decides where a request leads."""

    method: str
    path: str
    host: str


class Fixed:
    """Headers that many answers have, in `text` as they stand in an answer: rendered once."""

    __slots__ = ("pairs", "text")

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = tuple(pairs)
        self.text = in_lines(self.pairs)


def in_lines(pairs: Iterable[tuple[str, str]]) -> str:
    """Headers as they stand in an answer."""
    return "".join([f"{name}: {value}\r\n" for name, value in pairs])


class Answer(NamedTuple):
    """What goes back: status, headers (first those that are `fixed`), body."""

    status: int
    varying: Sequence[tuple[str, str]]
    body: bytes = b""
    fixed: Fixed = Fixed(())

    @property
    def headers(self) -> Headers:
        """All of them."""
        return [*self.fixed.pairs, *self.varying]


@dataclass(frozen=True, slots=True)
class Wording:
    """What answers are to say. `families`: which rate limit headers (`ietf`, `x`)."""

    strip_credential: bool = True
    families: Collection[str] = ("ietf", "x")


class Dialect(Protocol):
    """One family of proxies."""

    @property
    def name(self) -> str:
        """As metrics and logs call it."""
        ...

    def client_address(self, headers: ReceivedHeaders) -> str:
        """The address of the client as the proxy says it; empty where it does not."""
        ...

    def read(self, method: str, target: str, headers: ReceivedHeaders) -> Question | None:
        """The question of a request; None where the proxy's headers do not say what is asked."""
        ...

    def asked(self, method: str, target: str, headers: ReceivedHeaders) -> Asked | None:
        """The part of a request's question that decides where it leads; None as for `read`."""
        ...

    def asked_in(self, *, hosts: bool) -> Sequence[str]:
        """The headers that, with the request line, say which method and path are asked for, and which host if `hosts`.

        Of paths, what stands behind the first `?` says nothing of that.
        """
        ...

    def render(self, decision: Decision) -> Answer:
        """The decision as this proxy can carry it."""
        ...


def only(headers: ReceivedHeaders, name: str) -> str:
    """The value of a header that stands once; empty where it is absent or repeated."""
    values = headers.getall(name, [])
    return values[0] if len(values) == 1 else ""


def asked_method(headers: ReceivedHeaders, name: str) -> str:
    """The method that a header names; empty where it is absent, repeated, or no method (RFC 9110 §9.1: a token)."""
    method = only(headers, name)
    return method if METHOD.fullmatch(method) else ""


def last_address(headers: ReceivedHeaders, name: str) -> str:
    """The last address of a list such as `X-Forwarded-For`: the one that our own proxy added."""
    values = headers.getall(name, [])
    return values[-1].rpartition(",")[2].strip() if values else ""
