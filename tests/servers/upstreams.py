"""Small upstreams behind nginx, one for each protocol: each answers with what it saw, as JSON, or as the query says.

`?status=403` answers with that status, `?X-Any=thing` with that header; `seen` keeps every request.
"""

import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from urllib.parse import parse_qs

Pairs = list[tuple[str, str]]
FCGI_END_REQUEST, FCGI_PARAMS, FCGI_STDIN, FCGI_STDOUT = 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as an upstream got it: header names as they came over HTTP, parameter names else."""

    protocol: str
    pairs: Pairs

    def text(self) -> str:
        """Everything that came, to look for words in."""
        return repr(self.pairs)

    def values(self, name: str) -> list[str]:
        """What an application finds under a header's name; `_` and `-`, upper and lower case are the same to it."""
        wanted = name.upper().replace("-", "_")
        return [value for known, value in self.pairs if _plain(known) == wanted]


def _plain(name: str) -> str:
    return name.upper().replace("-", "_").removeprefix("HTTP_")


@dataclass(slots=True)
class Upstreams:
    """Running upstreams: their ports by protocol, and what they have seen."""

    ports: dict[str, int] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def answer(self, protocol: str, pairs: Pairs, query: str) -> bytes:
        """Status line, headers and body; CGI protocols read the status line as a header."""
        self.seen.append(Seen(protocol, pairs))
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        status = asked.get("status", "200")
        lines = [f"HTTP/1.1 {status} X" if protocol in {"http", "uwsgi"} else f"Status: {status} X"]
        body = json.dumps({"protocol": protocol, "pairs": pairs}).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in asked.items() if name[0].isupper()]
        return "\r\n".join([*lines, "", ""]).encode() + body


def _http(reader: BufferedIOBase) -> tuple[Pairs, str]:
    target = reader.readline().decode("latin-1").split()[1]
    pairs = []
    while line := reader.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        pairs.append((name, value.strip()))
    reader.read(sum(int(value) for name, value in pairs if name.lower() == "content-length"))
    return [(":target", target), *pairs], target.partition("?")[2]


def _scgi(reader: BufferedIOBase) -> tuple[Pairs, str]:
    size = b""
    while (byte := reader.read(1)) != b":":
        size += byte
    words = reader.read(int(size)).decode("latin-1").split("\0")
    pairs = list(zip(words[::2], words[1::2], strict=False))
    reader.read(1 + int(dict(pairs)["CONTENT_LENGTH"] or 0))
    return pairs, dict(pairs).get("QUERY_STRING", "")


def _uwsgi(reader: BufferedIOBase) -> tuple[Pairs, str]:
    _, size, _ = struct.unpack("<BHB", reader.read(4))
    data, words = reader.read(size), []
    while data:
        end = 2 + struct.unpack_from("<H", data)[0]
        words.append(data[2:end].decode("latin-1"))
        data = data[end:]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    reader.read(int(dict(pairs).get("CONTENT_LENGTH") or 0))
    return pairs, dict(pairs).get("QUERY_STRING", "")


def _fastcgi(reader: BufferedIOBase) -> tuple[Pairs, str]:
    params = b""
    while True:
        _, kind, _, size, padding, _ = struct.unpack(">BBHHBB", reader.read(8))
        data = reader.read(size + padding)[:size]
        params += data if kind == FCGI_PARAMS else b""
        if kind == FCGI_STDIN and not data:
            break
    pairs = []
    while params:
        lengths = []
        for _ in range(2):
            wide = params[0] >> 7
            lengths.append(struct.unpack_from(">I", params)[0] & 0x7FFFFFFF if wide else params[0])
            params = params[4 if wide else 1 :]
        name, value = params[: lengths[0]], params[lengths[0] : sum(lengths)]
        pairs.append((name.decode("latin-1"), value.decode("latin-1")))
        params = params[sum(lengths) :]
    return pairs, dict(pairs).get("QUERY_STRING", "")


def _record(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBHHBB", 1, kind, 1, len(data), 0, 0) + data


READERS = {"http": _http, "scgi": _scgi, "uwsgi": _uwsgi, "fastcgi": _fastcgi}


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def upstreams() -> Iterator[Upstreams]:
    """All of them, on free ports."""
    running = Upstreams()

    def serve(protocol: str) -> type[socketserver.StreamRequestHandler]:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                if not self.rfile.peek(1):  # type: ignore[attr-defined]  # a buffered reader
                    return
                answer = running.answer(protocol, *READERS[protocol](self.rfile))
                if protocol == "fastcgi":
                    answer = (
                        _record(FCGI_STDOUT, answer) + _record(FCGI_STDOUT, b"") + _record(FCGI_END_REQUEST, bytes(8))
                    )
                self.wfile.write(answer)

        return Handler

    with ExitStack() as stack:
        for protocol in READERS:
            server = stack.enter_context(_Server(("127.0.0.1", 0), serve(protocol)))
            running.ports[protocol] = server.server_address[1]
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.shutdown)
        yield running
