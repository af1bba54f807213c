"""Which hosts are plain; every other one is ambiguous."""

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.hosts import configured_host, normal_host

PLAIN = {
    "admin.example.org": ["admin.example.org", "ADMIN.Example.ORG", "admin.example.org.", "admin.example.org:80",
                          "admin.example.org.:65535", "admin.example.org:0", "admin.example.org:00443"],
    "localhost": ["localhost", "LocalHost:8080"],
    "a_b.example-1.x--y": ["a_b.example-1.x--y"],
    "1.2.3.4.example": ["1.2.3.4.example"],
    "0xg": ["0xg", "0XG"],
    "1a.0b1": ["1a.0b1"],
    "127.0.0.1": ["127.0.0.1", "127.0.0.1.", "127.0.0.1:80"],
    "255.250.199.9": ["255.250.199.9"],
    "[::1]": ["[::1]", "[::1]:443"],
    "[2001:db8::a:0:0:1]": ["[2001:db8::a:0:0:1]", "[2001:DB8::A:0:0:1]:1"],
    "[2001:db8:0:1:1:1:1:1]": ["[2001:db8:0:1:1:1:1:1]"],
}  # fmt: skip

AMBIGUOUS = [
    *["", " ", ".", "..", ":", ":80", "a b", " a", "a ", "\ta", "a\n"],
    *["admin.example.org:", "admin.example.org:abc", "admin.example.org:80:80", "admin.example.org:+80"],
    *["admin.example.org:-1", "admin.example.org:8 0", "admin.example.org:\u0661", "admin.example.org::80"],
    *["u@admin.example.org", "u:p@admin.example.org", "admin.example.org@x", "[admin.example.org]"],
    *["admin.example.org..", "admin..example.org", ".admin.example.org", "admin.example.org.:80."],
    *["admin.example.org,x", "admin.example.org, admin.example.org", "admin.example.org/x", "admin.example.org?x"],
    *["admin.example.org#x", "admin.example.org\\x", "admin.example.org;x", "admin.example%2Eorg", "admin%00.x"],
    *["http://admin.example.org", "//admin.example.org", "*.example.org", "admin.example.org*", '"admin"'],
    *["\u0430dmin.example.org", "admin\u3002example.org", "\uff41dmin.example.org", "admin.example.\u212aom"],
    *["\udcff", "admin.example.org\x00", "admin.example.org\x7f", "admin\xadexample.org"],
    *["127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F.1", "0177.0.0.1", "127.0.0.01", "1"],
    *["127.0.0.1.1", "256.0.0.1", "127.0.0.1..", "127.0.0.0x1", "127.0.0.0x", "a.1", "a.0x", "example.org.09"],
    *["::1", "[::1", "::1]", "[]", "[:]", "[:::]", "[::1]]", "[[::1]]", "[::1].", "[::1]x", "[::1]:", "[::1]:a"],
    *["[0:0:0:0:0:0:0:1]", "[0000::1]", "[::01]", "[::0001]", "[0::1]", "[::1:0:0]:x", "[1::2::3]", "[12345::]"],
    *["[2001:db8:0:0:a:0:0:1]", "[2001:db8:0:0:a::1]", "[2001:0db8::1]", "[2001:db8::1:1:1:1:1]", "[::1%25eth0]"],
    *["[fe80::1%eth0]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[v1.fe80::a]", "[::1]@x"],
]  # fmt: skip


CONFIGURED = {
    "Api.Example.com.": "api.example.com",
    "127.0.0.1": "127.0.0.1",
    "[2001:DB8:0:0:0:0:0:1]": "[2001:db8::1]",
    "[::1]": "[::1]",
    **dict.fromkeys(("127.1", "a:80", "[::1]:80", "::1", "[::ffff:127.0.0.1]", "[fe80::1%eth0]", "*.a", "a..", "")),
    "b\xfccher.example": None,
}


def test_a_plain_host_has_one_form() -> None:
    """Case, one trailing dot and the port do not matter."""
    assert {normal: {normal_host(text) for text in PLAIN[normal]} for normal in PLAIN} == {
        normal: {normal} for normal in PLAIN
    }


def test_any_other_host_is_ambiguous() -> None:
    """No part of it is taken for a host."""
    assert [text for text in AMBIGUOUS if normal_host(text) is not None] == []


def test_host_of_a_route() -> None:
    """It has the form that hosts of requests are brought into; an address may be written in any form of it."""
    assert {text: configured_host(text) for text in CONFIGURED} == CONFIGURED
    assert [host for host in CONFIGURED.values() if host is not None and normal_host(host) != host] == []


@given(st.integers(0, 2**128 - 1) | st.integers(0, 2**20) | st.integers(0, 255).map(lambda small: small << 120))
def test_an_ipv6_address_has_one_form(number: int) -> None:
    """The canonical one, in any case; the long one only where it is the same."""
    address = IPv6Address(number)
    if address.ipv4_mapped is not None:
        assert normal_host(f"[{address}]") is None
        return
    assert normal_host(f"[{address}]".upper()) == f"[{address}]" == configured_host(f"[{address.exploded}]")
    assert normal_host(f"[{address.exploded}]") in {None, f"[{address}]"}
    assert (normal_host(f"[{address.exploded}]") is None) == (str(address) != address.exploded)


@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9.:\[\]@_-]{0,30}", fullmatch=True))
def test_normal_form_is_stable(text: str) -> None:
    """Any text gives nothing, or a form that is its own normal form, whatever port follows."""
    host = normal_host(text)
    if host is not None:
        assert normal_host(host) == normal_host(host.upper() + ":8443") == configured_host(host) == host


def test_time_is_linear_in_length() -> None:
    """Time grows with the length alone."""
    for text in ("a." * 30_000, "1." * 30_000, "a" * 60_000 + ":", "[" + ":" * 60_000 + "]", "a.." * 20_000):
        assert normal_host(text) is None or text.startswith("a.a")
