"""HTTP as bytes: a test sends exactly its bytes, and answers are parsed strictly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

PATIENCE = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as it stood on the wire. Header names are in lower case; `answer[name]` is a header's value."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """The value of a header; fails where it stands more than once, empty where it is absent."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} stands {len(values)} times"
        return values[0] if values else ""

    @property
    def decision(self) -> str:
        """The decision of the answer."""
        return self["x-extauthz-decision"]


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._writer.write(data)

    def half_close(self) -> None:
        """Closes the sending side."""
        self._writer.write_eof()

    async def answer(self, *, to_head: bool = False) -> Answer:
        """The next answer. Fails where it is not HTTP, has no exact length, or does not come in time."""
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
            version, status, _ = line.split(" ", 2)
            assert version.startswith("HTTP/")
            headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            answer = Answer(int(status), headers, b"")
            if answer.status == 304:
                return answer  # which has no body, and so no length
            length = answer["content-length"]
            assert length.isdigit(), f"no exact length: {headers}"
            assert not answer["transfer-encoding"]
            body = b"" if to_head else await self._reader.readexactly(int(length))
        return replace(answer, body=body)

    async def ended(self) -> bytes:
        """What else comes until the other side closes; fails where it does not close in time."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def ask(self, data: bytes) -> Answer:
        """Sends bytes and returns the answer."""
        self.send(data)
        return await self.answer()


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def ask(port: int, data: bytes) -> Answer:
    """The answer to bytes on a connection of their own."""
    async with wire(port) as connection:
        return await connection.ask(data)
