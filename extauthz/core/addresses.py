"""Client addresses as limits know them."""

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

UNKNOWN = "-"  # all clients without an address share one bucket
TEXT_MAX = 80  # characters: an IPv6 address in brackets, with a zone and a port
_NETWORK = 64  # bits: what one subscriber of IPv6 has is at least a network of this size (RFC 6177)


def address_group(address: str) -> str:
    """Whose bucket a client at `address` uses: an IPv4 address, or an IPv6 network of 64 bits. A port is left out."""
    text = address.strip()
    if len(text) > TEXT_MAX:
        return UNKNOWN
    try:
        return _group(text)
    except ValueError:
        return UNKNOWN


@lru_cache(maxsize=4096)  # of at most 80 characters each, and only what is an address: the text is a client's
def _group(text: str) -> str:
    """Raises ValueError where it is not an address."""
    host, colon, port = text.rpartition(":")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif colon and port.isdigit() and ":" not in host:
        text = host
    found = ip_address(text.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(IPv6Network((found, _NETWORK), strict=False).network_address)
        return str(found.ipv4_mapped)
    return str(found)
