"""Client addresses as limits know them."""

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

UNKNOWN = "-"  # all who come without an address share one bucket
_NETWORK = 64  # bits: what one subscriber of IPv6 has is at least a network of this size (RFC 6177)


@lru_cache(maxsize=4096)
def address_group(address: str) -> str:
    """Whose bucket a client at `address` uses: an IPv4 address, or an IPv6 network of 64 bits. A port is left out."""
    text = address.strip()
    host, colon, port = text.rpartition(":")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif colon and port.isdigit() and ":" not in host:
        text = host
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(IPv6Network((found, _NETWORK), strict=False).network_address)
        return str(found.ipv4_mapped)
    return str(found)
