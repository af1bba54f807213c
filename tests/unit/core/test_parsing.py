"""Names: texts that look the same are equal, and invisible characters are rejected."""

import unicodedata

from extauthz.core.parsing import normal_name, unfit, visible

STORED = {
    "acme": "acme",
    "cafe\u0301": "caf\u00e9",
    "A\u030angstro\u0308m": "\u00c5ngstr\u00f6m",
    "\u212b": "\u00c5",
    "\u1112\u1161\u11ab": "\ud55c",
    "a\u00a0b\u3000c\u2009d\u202fe": "a b c d e",
    "\u682a\u5f0f\u4f1a\u793e": "\u682a\u5f0f\u4f1a\u793e",
    "\U0001f98a": "\U0001f98a",
}


def test_one_form() -> None:
    """Composed and decomposed characters and all blanks have one form, which stays as it is."""
    for name, stored in STORED.items():
        assert normal_name(name) == normal_name(stored) == stored
        assert unfit(stored) == ""
        assert visible(stored) == stored


def test_characters_that_names_must_not_contain() -> None:
    """Every control, line, format and private character that cannot be seen, by the tables of Python's Unicode."""
    seen = {0x0600, 0x0601, 0x0602, 0x0603, 0x0604, 0x0605, 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD}
    seen |= {*range(0x13430, 0x13440)}  # signs that are drawn though their category is that of format characters
    ends_of_private_planes = (0xF0000, 0xFFFFD, 0x100000, 0x10FFFD)
    # Planes 2 to 13 have letters alone.
    for code in (*range(0x20000), *range(0xE0000, 0xE1000), *ends_of_private_planes):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Co", "Zl", "Zp") and code not in seen:
            assert unfit(chr(code)) == f"U+{code:04X}"
    for filler in "\u034f\u115f\u1160\u17b4\u180b\u2800\u3164\ufe0f\uffa0\U000e0100\ufffe":
        assert unfit(f"a{filler}b")
