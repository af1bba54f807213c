"""The rule for hosts: one that two readers could understand differently is refused, never judged as another host.

RFC 9110 §7.2 (`Host`), RFC 5952 (IPv6 in text), https://url.spec.whatwg.org/#ipv4 (what else is read as IPv4).
"""

import re
from ipaddress import AddressValueError, IPv6Address

_NAME = re.compile(r"([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?(?::[0-9]+)?", re.ASCII)
_V6 = re.compile(r"\[([0-9A-Fa-f:]{2,39})\](?::[0-9]+)?", re.ASCII)
# A name whose last label is a number is an IPv4 address to URL parsers: 127.1 and 0x7f.0.0.1 are 127.0.0.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}", re.ASCII)


def normal_host(text: str) -> str | None:
    """The host of a request without port and trailing dot, in lower case; None where it is missing or ambiguous.

    Plain is `name[:digits]`, or `[v6][:digits]` with the address in its canonical form.
    """
    found = _NAME.fullmatch(text)
    if found is not None:
        name = found[1].lower()
        is_number = _NUMBER.fullmatch(name, name.rfind(".") + 1) is not None
        return None if is_number and not _V4.fullmatch(name) else name
    found = _V6.fullmatch(text)
    if found is None:
        return None
    canonical = _canonical_v6(found[1])
    return f"[{canonical}]" if canonical == found[1].lower() else None


def configured_host(text: str) -> str | None:
    """The same for the host of a route, which has no port; any form of an IPv6 address is brought into the one."""
    if text.startswith("[") and text.endswith("]"):
        canonical = _canonical_v6(text[1:-1])
        return None if canonical is None else f"[{canonical}]"
    return None if ":" in text else normal_host(text)


def _canonical_v6(text: str) -> str | None:
    """RFC 5952; None where it is not an address, has a zone, or is an IPv4 address in another form."""
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return None
    return None if address.scope_id is not None or address.ipv4_mapped is not None else str(address)
