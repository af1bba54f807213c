"""An upstream that returns what arrived, to the byte: repeated headers, empty ones, trailers, upgrades."""

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1

CHUNK_END = b"\r\n"
WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


class Arrived:
    """The parts of one request."""

    def __init__(self, head: bytes) -> None:
        line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.method, self.path, _ = line.split(" ", 2)
        pairs = [field.partition(":") for field in fields]
        self.headers = [(name.lower(), value.strip()) for name, _, value in pairs]
        self.body_bytes = 0
        self.trailers = ""

    def value(self, name: str) -> str:
        """The values of a header, joined."""
        return ",".join(value for known, value in self.headers if known == name)

    async def read_body(self, reader: asyncio.StreamReader) -> None:
        """The rest of the request, by its framing."""
        if "chunked" in self.value("transfer-encoding").lower():
            while size := int((await reader.readline()).partition(b";")[0], 16):
                await reader.readexactly(size + len(CHUNK_END))
                self.body_bytes += size
            while (line := await reader.readline()) not in {CHUNK_END, b""}:
                self.trailers += line.decode("latin-1")
        elif length := int(self.value("content-length") or 0):
            self.body_bytes = len(await reader.readexactly(length))

    def told(self) -> bytes:
        """All parts, as the upstream answers."""
        fields = ("method", "path", "headers", "body_bytes", "trailers")
        return json.dumps({name: getattr(self, name) for name in fields}).encode()


class RawUpstream:
    """Serves on a port of loopback in a thread; `requests` counts what arrived, upgrades included.

    `headers` stand on every answer; `last` is what arrived last.
    """

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self.requests = 0
        self.last: Arrived | None = None
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                arrived = Arrived(await reader.readuntil(b"\r\n\r\n"))
                self.requests += 1
                self.last = arrived
                if arrived.value("upgrade") and "upgrade" in arrived.value("connection").lower():
                    await self._echo(arrived, reader, writer)
                    return
                await arrived.read_body(reader)
                body = arrived.told()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}{self._more}\r\n".encode() + (b"" if arrived.method == "HEAD" else body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _echo(arrived: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accept = b64encode(sha1((arrived.value("sec-websocket-key") + WEBSOCKET).encode()).digest()).decode()
        lines = (
            "HTTP/1.1 101 Switching Protocols",
            "Connection: Upgrade",
            f"Upgrade: {arrived.value('upgrade')}",
            f"Sec-WebSocket-Accept: {accept}",
            "\r\n",
        )
        writer.write("\r\n".join(lines).encode() + arrived.told() + b"\n")
        while data := await reader.read(65536):
            writer.write(data)


@contextmanager
def raw_upstream(headers: Mapping[str, str] | None = None) -> Iterator[RawUpstream]:
    """A running one."""
    upstream = RawUpstream(headers)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="raw upstream")
    thread.start()
    try:
        starting = asyncio.start_server(upstream._serve, "127.0.0.1", 0, limit=1 << 20)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        upstream.port = server.sockets[0].getsockname()[1]
        yield upstream
    finally:

        async def end() -> None:
            server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
