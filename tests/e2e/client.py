"""A client that sends exactly the bytes it is told to, and reads answers one by one from the same connection."""

import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import parse_headers
from typing import Any, Self

from extauthz.demo.stack import Proxy

PATIENCE = 10.0  # seconds that an answer may take
Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: headers in lower case, in order, as often as they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for known, value in self.headers if known == name]

    def get(self, name: str) -> str | None:
        """The value of a header that stands at most once."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        assert value is not None, f"no {name} in {self}"
        return value

    @property
    def names(self) -> set[str]:
        """The names of all headers."""
        return {name for name, _ in self.headers}

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def decision(self) -> str | None:
        """The decision as the proxy handed it on; None where extauthz was not asked."""
        return self.get("x-extauthz-decision")

    @property
    def seen(self) -> dict[str, str]:
        """The headers that the upstream saw; fails where it was not the upstream that answered."""
        assert self.status == 200, f"not from the upstream: {self}"
        return dict(self.json["headers"])


class Client:
    """One connection to a port of loopback, from an address of this machine ("": any)."""

    def __init__(self, port: int, source: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0))
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._socket.sendall(data)

    def read(self, method: str = "GET") -> Answer:
        """The next answer; `method` is what it answers, since one to HEAD has no body."""
        line = self._stream.readline()
        assert line, "the connection was closed without an answer"
        status = int(line.split()[1])
        headers = tuple((name.lower(), value) for name, value in parse_headers(self._stream).items())
        length = dict(headers).get("content-length")
        if method == "HEAD" or status in {204, 304}:
            return Answer(status, headers, b"")
        return Answer(status, headers, self._stream.read() if length is None else self._stream.read(int(length)))

    def at_end(self) -> bool:
        """Whether nothing more came until the other side closed."""
        return self._stream.read() == b""

    def ask(
        self,
        path: str = "/api/v1/customers/42",
        headers: Mapping[str, str] | Pairs = (),
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Answer:
        """Sends a request and reads its answer; the connection stays open."""
        self.write(request(path, headers, method=method, body=body))
        return self.read(method)


def request(
    path: str, headers: Mapping[str, str] | Pairs = (), *, method: str = "GET", body: bytes | None = None
) -> bytes:
    """The bytes of a request; text is written as Latin-1, so that any byte can stand in it."""
    pairs = [("Host", "api.example.com"), *(headers.items() if isinstance(headers, Mapping) else headers)]
    if body is not None:
        pairs.append(("Content-Length", str(len(body))))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


def ask(
    proxy: Proxy,
    path: str = "/api/v1/customers/42",
    headers: Mapping[str, str] | Pairs = (),
    *,
    method: str = "GET",
    body: bytes | None = None,
    source: str = "",
) -> Answer:
    """One request on a connection of its own, from the address `source` of this machine."""
    with Client(proxy.port, source) as client:
        return client.ask(path, headers, method=method, body=body)


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}
