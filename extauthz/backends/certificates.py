"""When the TLS certificate of a server ends, as the server shows it to any client."""

import asyncio
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

_TIMEOUT = 5.0  # seconds
_SSL_REQUEST = struct.pack("!II", 8, 80877103)  # PostgreSQL: "Message Formats", SSLRequest
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18  # tags of X.690, as in RFC 5280 §4.1


async def certificate_end(host: str, port: int, *, postgresql: bool = False) -> float | None:
    """Unix seconds at which the certificate of the server at an address ends; None where it shows none.

    `postgresql`: TLS begins after a request for it. Nothing is sent that needs a credential, and nothing is trusted.
    """
    with suppress(OSError, ssl.SSLError, EOFError, TimeoutError, ValueError):
        async with asyncio.timeout(_TIMEOUT):
            return not_after(await _certificate(host, port, postgresql=postgresql))
    return None


async def _certificate(host: str, port: int, *, postgresql: bool) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # an end is wanted, also of one that is wrong
    if postgresql:
        reader, writer = await asyncio.open_connection(host, port)
    else:
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        if postgresql:
            writer.write(_SSL_REQUEST)
            if await reader.readexactly(1) != b"S":
                raise EOFError
            await writer.start_tls(context, server_hostname=host)
        shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return shown.getpeercert(binary_form=True) or b""
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def not_after(certificate: bytes) -> float:
    """The end of a certificate's validity (DER), in Unix seconds. ValueError where it is not a certificate."""
    (_, whole), *_ = _elements(certificate)
    (_, to_be_signed), *_ = _elements(whole)
    fields = [element for element in _elements(to_be_signed) if element[0] != _VERSION]
    tag, validity = fields[3] if len(fields) > 3 else (0, b"")  # serial number, signature, issuer, validity
    times = list(_elements(validity)) if tag == _SEQUENCE else []
    if len(times) != 2 or times[1][0] not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("certificate must have a validity of two times")
    kind, text = times[1]
    digits = text.decode("ascii")
    if kind == _UTC_TIME:  # RFC 5280 §4.1.2.5.1: years of two digits are 1950 to 2049
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element, one after the other."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("certificate must be whole")
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count]), at + count
        if at + length > len(data):
            raise ValueError("certificate must be whole")
        yield tag, data[at : at + length]
        at += length
