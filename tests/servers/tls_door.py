"""A door with TLS in front of a server that has none."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

TLS = Path(__file__).parent / "tls"  # a certificate for `localhost`, and its key


@asynccontextmanager
async def tls_before(port: int) -> AsyncIterator[int]:
    """The port of a door with TLS in front of another port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")

    joined: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        joined.add(task)
        await join(reader, writer, port)

    server = await asyncio.start_server(pipe, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in joined:
            task.cancel()
        await asyncio.gather(*joined, return_exceptions=True)


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Hands on what comes, both ways, until either side ends."""
    there, back = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            sink.close()

    try:
        await asyncio.gather(copy(reader, back), copy(there, writer))
    finally:
        for sink in (back, writer):
            sink.transport.abort()
            with suppress(OSError, asyncio.CancelledError):
                await sink.wait_closed()
