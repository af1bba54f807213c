import re
import unicodedata
from urllib.parse import unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.paths import why_ambiguous
from extauthz.core.routes import is_ambiguous

NEEDLESS = set(b"-._~/\\%") | {byte for byte in range(128) if chr(byte).isalnum() or byte < 32 or byte == 127}


def two_readings(path: str) -> bool:
    """The slow list of the contract, word for word."""
    segments = path.split("/")
    escapes = re.findall(r"%([0-9A-Fa-f]{2})", path)
    if not path.startswith("/") or "." in segments or ".." in segments or "//" in path:
        return True
    if any(character in ";\\#" or not " " <= character <= "~" for character in path):
        return True
    if len(escapes) != path.count("%") or any(int(escape, 16) in NEEDLESS for escape in escapes):
        return True
    try:
        return any(unicodedata.category(character) == "Cc" for character in unquote_to_bytes(path).decode())
    except UnicodeDecodeError:
        return True


PLAIN = ["/", "/a", "/a/", "/a/b.c/...", "/.a/a.", "/a%20b", "/%C3%A9/%e2%82%ac", "/a:b@c!$&'()*+,=", "/%3B%3F%23"]
AMBIGUOUS = [
    *["", "*", "a", "?", "http://h/a", "h:443", "//", "/a//b", "/a//", "/.", "/..", "/a/../b", "/a/.", "/./", "/../?x"],
    *["/a;b", "/a\\b", "/a#b", "/a\x00", "/a\n", "/a\x7f", "/é", "/\udcc3\udca9", "/%", "/%2", "/%zz", "/%2?0"],
    *["/%2e", "/%2E%2e", "/%2f", "/%5c", "/%25", "/%41", "/%7a", "/%30", "/%5F", "/%7E", "/%2D", "/%00", "/%7f"],
    *["/%ff", "/%c3", "/%c0%af", "/%ed%a0%80", "/%c2%85", "/%C3%A", "/\u0663", "/%\u0664\u0661"],
]


def test_plain_paths() -> None:
    """A path that all readers read alike passes, and nothing behind the `?` is judged."""
    assert [path for path in (*PLAIN, "/a?//../%zz;#") if is_ambiguous(path)] == []


def test_ambiguous_paths() -> None:
    """A path that two readers could read differently is rejected."""
    assert [path for path in AMBIGUOUS if not is_ambiguous(path)] == []


def test_every_byte_encoded_and_raw() -> None:
    """Every character and every encoding of a byte is judged as the contract lists them."""
    paths = [f"/a{character}b" for character in map(chr, range(0x180)) if character != "?"]
    paths += [f"/a%{byte:{form}}b" for byte in range(256) for form in ("02x", "02X")]
    paths += [f"/%C2%{byte:02X}" for byte in range(0x80, 0xC0)]
    assert [path for path in paths if is_ambiguous(path) != two_readings(path)] == []


# fmt: off
PIECES = st.sampled_from([
    "/", "/", ".", "..", "%", "%2e", "%2F", "%20", "%C3", "%A9", "%c2%85", "a", "7", ";", "\\", "#", "\x7f",
    "é", "\udc80", " ",
])
# fmt: on


@given(st.lists(PIECES, max_size=8).map("".join) | st.text(st.characters(exclude_characters="?")))
def test_rule_for_paths(tail: str) -> None:
    """The quick rule agrees with the slow list on any text."""
    for path in (tail, f"/{tail}"):
        assert is_ambiguous(path) == two_readings(path)
        assert is_ambiguous(f"{path}?{tail}") == two_readings(path)


@given(st.text().map("/{}".format) | st.binary().map(lambda raw: raw.decode("ascii", "surrogateescape")))
def test_every_ambiguous_path_has_a_cause(path: str) -> None:
    """And of no other; in printable characters."""
    why = why_ambiguous(path)
    assert bool(why) == is_ambiguous(path)
    assert why.isprintable()


CAUSES = {
    "a": "the path does not begin with a slash",
    "/a//b?c": "the path has an empty segment: two slashes in a row",
    "/a/../b": "the path has a segment `..`",
    "/a/.?c": "the path has a segment `.`",
    "/%2Fb": "the path has %2F, the encoding of a character that must not be encoded in a path",
    "/%2f": "the path has %2f, the encoding of a character that must not be encoded in a path",
    "/%4": "the path has a `%` without two hexadecimal digits",
    "/a;b": "the path has the character `;`",
    "/\t": "the path has the character `U+0009`",
    "/%ff": "the path has encoded bytes that are not UTF-8, or a control character",
    "/a?//": "",
}


def test_why_names_what_is_wrong() -> None:
    """The first thing in a path that two readers could understand differently."""
    assert {path: why_ambiguous(path) for path in CAUSES} == CAUSES
