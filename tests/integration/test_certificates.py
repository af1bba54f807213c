"""When the certificate of a store ends, as TLS clients see it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from extauthz.backends.certificates import certificate_end, not_after
from extauthz.backends.postgres.connection import tls_address
from extauthz.demo.postgres import Postgres
from tests.servers.serving import PATIENT, serving

TLS = Path(__file__).parents[1] / "servers" / "tls"
PEM = (TLS / "cert.pem").read_text()
END = datetime(2126, 10, 29, 4, 8, 43, tzinfo=UTC).timestamp()  # of that file
ENDS = 'extauthz_store_certificate_expiry_seconds{store="%s"}'
SSL_REQUEST = bytes.fromhex("00000008 04d2162f")

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return made


@asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _as_postgresql(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.readexactly(8) == SSL_REQUEST
    writer.write(b"S")
    await writer.start_tls(context())
    await reader.read()
    writer.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def der(tag: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes([length]) if length < 0x80 else bytes([0x82]) + length.to_bytes(2)
    return bytes([tag]) + size + content


def certificate(*times: bytes, version: bool = True) -> bytes:
    """The parts of a certificate up to its validity."""
    fields = [der(0xA0, b"v3")] * version + [der(2, b"\x01"), der(0x30, b"alg"), der(0x30, b"i" * 300)]
    return der(0x30, der(0x30, b"".join([*fields, der(0x30, b"".join(times)), der(0x30, b"s")])) + der(0x30, b""))


async def test_of_redis_and_of_postgresql() -> None:
    """Redis speaks TLS at once, PostgreSQL after a request for it. The issuer of the certificate does not matter."""
    async with listening(_silent, context()) as port:
        assert await certificate_end("127.0.0.1", port) == END
    async with listening(_as_postgresql) as port:
        assert await certificate_end("localhost", port, postgresql=True) == END


async def test_servers_without_a_certificate(postgres_server: Postgres) -> None:
    """A server that speaks no TLS, or is not there, shows none."""
    address = tls_address(postgres_server.dsn) or ("127.0.0.1", 1)
    assert await certificate_end(*address, postgresql=True) is None
    assert await certificate_end("127.0.0.1", 1) is None


async def test_expiry_is_a_metric(database: str) -> None:
    """A store that is reached by TLS has a sample; a store without a certificate has none."""
    async with listening(_silent, context()) as port:
        more = PATIENT | {"EXTAUTHZ_DRAIN_SECONDS": "0"}
        async with serving(
            database, f"rediss://localhost:{port}/0?ssl_ca_certs={quote(str(TLS / 'cert.pem'))}", **more
        ) as service:
            metrics = await service.scraped_until(lambda found: ENDS % "redis" in found)
    assert metrics[ENDS % "redis"] == END
    assert ENDS % "postgresql" not in metrics


@pytest.mark.parametrize(
    ("times", "end"),
    [
        ((der(0x17, b"200101000000Z"), der(0x17, b"491231235959Z")), datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ((der(0x17, b"500101000000Z"), der(0x17, b"991231235959Z")), datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ((der(0x17, b"200101000000Z"), der(0x18, b"20500101000000Z")), datetime(2050, 1, 1, tzinfo=UTC)),
    ],
)
def test_both_forms_of_a_time(times: tuple[bytes, bytes], end: datetime) -> None:
    """RFC 5280 §4.1.2.5: two digits of a year up to 2049, four from then on."""
    for version in (True, False):
        assert not_after(certificate(*times, version=version)) == end.timestamp()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"\x30",
        b"\x30\x82\xff",
        ssl.PEM_cert_to_DER_cert(PEM)[:100],
        certificate(),
        certificate(der(0x17, b"200101000000Z"), der(0x04, b"491231235959Z")),
        certificate(der(0x17, b"200101000000Z"), der(0x17, b"soon")),
        certificate(der(0x17, b"200101000000Z"), der(0x17, b"\xff\xfe")),
    ],
)
def test_bytes_that_are_not_a_certificate(nonsense: bytes) -> None:
    """Other bytes are refused with a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - of the parser or of the time
        not_after(nonsense)


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("postgresql://user:secret@db.example:6432/x", ("db.example", 6432)),
        ("postgresql://db.example/x?sslmode=verify-full", ("db.example", 5432)),
        ("postgresql://a:1,b:2/x", ("a", 1)),
        ("host=db.example hostaddr=192.0.2.1", ("192.0.2.1", 5432)),
        ("postgresql://db.example/x?sslmode=disable", None),
        ("postgresql:///x", None),
        ("postgresql:///x?host=/run/postgresql", None),
    ],
)
def test_where_postgresql_speaks_tls(dsn: str, address: tuple[str, int] | None) -> None:
    """The first server by TCP, unless TLS is turned off."""
    assert tls_address(dsn) == address
