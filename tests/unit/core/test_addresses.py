"""Client addresses as limits use them: which addresses share a bucket."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.addresses import UNKNOWN, address_group

GROUPS = {
    "203.0.113.7": "203.0.113.7",
    " 203.0.113.7 ": "203.0.113.7",
    "203.0.113.7:4711": "203.0.113.7",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
    "2001:DB8:1:2::9": "2001:db8:1:2::",
    "[2001:db8:1:2::9]:443": "2001:db8:1:2::",
    "fe80::1%eth0": "fe80::",
    "::ffff:203.0.113.7": "203.0.113.7",
    "": UNKNOWN,
    "unknown": UNKNOWN,
    "203.0.113.007": UNKNOWN,
    "203.0.113.7, 10.0.0.1": UNKNOWN,
    "203.0.113.7:" + "9" * 68: "203.0.113.7",
    "203.0.113.7:" + "9" * 69: UNKNOWN,
    "fe80::1%" + "z" * 60_000: UNKNOWN,
    " " * 60_000 + "203.0.113.7": "203.0.113.7",
}


def test_addresses_that_share_a_bucket() -> None:
    """One IPv4 address or one IPv6 network of 64 bits, in any spelling; requests without an address share one."""
    assert {address: address_group(address) for address in GROUPS} == GROUPS


def test_long_texts_are_not_remembered() -> None:
    """A text of a client in place of an address uses no memory."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200):
            address_group(f"{number}" + "x" * 60_000)
            address_group(f"2001:db8::1%{number}" + "x" * 60_000)
            address_group(f"not-an-address-{number}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 60_000  # less than one of them


@given(st.text(max_size=60))
def test_any_text_is_a_group(address: str) -> None:
    """Any text of a proxy gives a short printable name, never an exception."""
    group = address_group(address)
    assert group.isascii()
    assert group.isprintable()
    assert len(group) <= 45
