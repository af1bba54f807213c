"""The format of keys, and how a request's `Authorization` headers are read."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.credentials import (
    BASE62,
    Credential,
    KeyFormat,
    NoCredential,
    Pepper,
    bearer_token,
    check_characters,
)
from extauthz.core.reason import Reason
from tests.refusals import refusal

NEW, OLD = Pepper("new", b"new-pepper-new-pepper-new-pepper"), Pepper("old", b"old-pepper-old-pepper-old-pepper")
FORMAT = KeyFormat(prefix="xa", env="live", peppers=[NEW, OLD])
KEY = FORMAT.issue(bytes(range(20)))
NONE, MALFORMED, INVALID = Reason.NO_CREDENTIALS, Reason.MALFORMED_CREDENTIALS, Reason.INVALID_CREDENTIALS

entropies = st.binary(min_size=20, max_size=20)
# As aiohttp hands headers over: bytes that are not UTF-8 stand as lone surrogates.
header_values = st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def test_shape_of_a_new_key() -> None:
    """A key is `<prefix>_<env>_`, 27 base62 characters and six check characters, whatever the random bytes were."""
    for entropy in (b"\x00" * 20, b"\xff" * 20, bytes(range(20))):
        assert re.fullmatch(r"xa_live_[0-9A-Za-z]{27}[0-9A-Za-z]{6}", FORMAT.issue(entropy))
    assert KeyFormat(prefix="acme", env="test", peppers=[NEW]).issue(b"\x00" * 20).startswith("acme_test_000")


def test_key_takes_all_its_random_bytes() -> None:
    """Fewer or more than 160 bits are rejected, not padded or cut."""
    for size in (0, 19, 21):
        assert "20 random bytes" in refusal(FORMAT.issue, b"x" * size)


@given(entropies, entropies)
def test_no_random_bit_is_lost(one: bytes, other: bytes) -> None:
    """Two keys are the same only if all their random bytes are; each is found by the digests made at its issue."""
    first, second = FORMAT.issue(one), FORMAT.issue(other)
    assert (first == second) == (one == other)
    assert credential_of([f"Bearer {first}"]) == FORMAT.digest(first)


def test_check_characters_are_crc32() -> None:
    """Six base62 digits, most significant first, of CRC-32; its published check value is 0xCBF43926 for 123456789."""
    number = 0
    for character in check_characters("123456789"):
        number = number * 62 + BASE62.index(character)
    assert number == 0xCBF43926
    assert check_characters("") == "000000"


@given(st.integers(0, len(KEY) - 1), st.sampled_from(BASE62 + "-._~+/="))
def test_a_mistyped_character_is_noticed(position: int, character: str) -> None:
    """A key of this service with one wrong character is refused without a look-up."""
    wrong = KEY[:position] + character + KEY[position + 1 :]
    if wrong != KEY and wrong.startswith("xa_"):
        assert not FORMAT.plausible(wrong)


def test_swapped_and_missing_characters_are_noticed() -> None:
    """Neighbours swapped, one left out, one doubled: refused without any look-up."""
    for position in range(8, len(KEY) - 1):
        swapped = KEY[:position] + KEY[position + 1] + KEY[position] + KEY[position + 2 :]
        shorter, longer = KEY[:position] + KEY[position + 1 :], KEY[:position] + KEY[position] + KEY[position:]
        assert not any(map(FORMAT.plausible, {swapped, shorter, longer} - {KEY}))


def credential_of(authorization: Sequence[str]) -> Credential | NoCredential:
    """The credential of a request's headers, or why it is missing."""
    token = bearer_token(authorization)
    return token if isinstance(token, NoCredential) else FORMAT.read(token)


def reason_of(authorization: list[str]) -> Reason | None:
    """Why a request's headers have no credential; None where they have one."""
    found = credential_of(authorization)
    return None if isinstance(found, Credential) else found.reason


OTHER_ENV = KeyFormat(prefix="xa", env="test", peppers=[NEW]).issue(b"x" * 20)


FLAWS: list[tuple[list[str], str]] = [
    ([f"Bearer {KEY}"], ""),
    ([f"Bearer {KEY[:-1]}{'0' if KEY[-1] != '0' else '1'}"], "wrong_check_characters"),
    ([f"Bearer {OTHER_ENV}"], "wrong_environment"),
    ([f"Bearer {OTHER_ENV[:-1]}{'0' if OTHER_ENV[-1] != '0' else '1'}"], "wrong_check_characters"),
    (["Bearer xa_live_"], "wrong_form"),
    (["Bearer xa_" + "k" * 40], "wrong_form"),
    (["Bearer " + "k" * 15], "wrong_form"),
    (["Bearer " + "k" * 16], ""),
    ([], ""),
    (["Basic eA=="], ""),
    ([f"Bearer {OTHER_ENV}"] * 2, ""),
]


def test_a_flaw_has_a_name() -> None:
    """Where the form of a key alone refuses it, the flaw has a name for operators."""
    for authorization, flaw in FLAWS:
        found = credential_of(authorization)
        assert ("" if isinstance(found, Credential) else found.flaw) == flaw


def test_which_keys_are_looked_up() -> None:
    """Own keys only of this environment and with right check characters; others from 16 characters, but no JWT."""
    other_prefix = KeyFormat(prefix="xb", env="live", peppers=[NEW]).issue(b"x" * 20)
    longer_env = KeyFormat(prefix="xa", env="lively", peppers=[NEW]).issue(b"x" * 20)
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"
    plausible = [KEY, other_prefix, "k" * 16, "XA_LIVE_" + "k" * 33, "." * 16]
    plausible += ["aaaa.bbbb.cccc.dddd", "aaaaaaaa.bbbbbbbb", "aaaaaa.bbbbbb.cccccc="]
    for key in (*plausible, OTHER_ENV, longer_env, "xa_" + "k" * 40, "xa_live_", "k" * 15, jwt):
        assert FORMAT.plausible(key) is (key in plausible)
        assert reason_of([f"Bearer {key}"]) is (None if key in plausible else INVALID)


def test_digest_is_hmac_sha256() -> None:
    """The digest is HMAC-SHA256 keyed by the pepper, in lower-case hex (RFC 4231, test case 2)."""
    format_ = KeyFormat(prefix="xa", env="live", peppers=[Pepper("rfc", b"Jefe")])
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert format_.digest("what do ya want for nothing?").digests == (expected,)


def test_digest_is_hmac_for_peppers_of_every_length() -> None:
    """A pepper longer than a block of SHA-256, 64 bytes, is hashed first (RFC 2104 §2), as in the standard library."""
    for size in (1, 63, 64, 65, 200):
        pepper = bytes(range(1, size + 1))
        format_ = KeyFormat(prefix="xa", env="live", peppers=[Pepper("long", pepper)])
        assert format_.digest(KEY).digests == (hmac.new(pepper, KEY.encode(), "sha256").hexdigest(),)


def test_sha256_is_made_only_where_it_is_asked_for() -> None:
    """Tables of other applications find keys by SHA-256; without them no unkeyed digest is computed."""
    both = KeyFormat(prefix="xa", env="live", peppers=[NEW], sha256=True)
    assert both.digest(KEY).sha256 == hashlib.sha256(KEY.encode()).hexdigest()
    assert FORMAT.digest(KEY).sha256 == ""


def test_secrets_of_the_service_are_reserved() -> None:
    """A pepper or token must not be imported as a key."""
    format_ = KeyFormat(prefix="xa", env="live", peppers=[NEW], reserved=[b"secret of the service"])
    assert format_.is_reserved("secret of the service")
    assert not format_.is_reserved(KEY)
    assert not FORMAT.is_reserved("secret of the service")


def test_keys_are_hidden_in_texts() -> None:
    """Whole, up to the end of the key, in every encoding; the rest of the text stays."""
    fresh = KeyFormat(prefix="xa", env="live", peppers=[NEW, OLD])
    assert (fresh.hide("a xb_1 100%"), fresh.hide(f"({KEY})")) == ("a xb_1 100%", "(xa_…)")
    for encoded in (KEY, KEY.replace("x", "%78"), KEY.replace("_", "%5f"), KEY.replace("a_", "%2561%255F")):
        assert fresh.hide(f"/a/{encoded}?b=100%") == "/a/xa_…?b=100%"


def test_key_in_its_own_secret_is_of_another_form() -> None:
    """The environment ends at the first underscore after the prefix, so that no longer text passes for a secret."""
    assert FORMAT.flaw(f"xa_live_live_{KEY.removeprefix('xa_live_')}") == "wrong_form"


def test_signing_pepper_is_the_first() -> None:
    """Its id is stored with each new key, and nothing else but its digests is made of a key."""
    fresh = KeyFormat(prefix="xa", env="live", peppers=[NEW, OLD])
    assert fresh.signing_pepper == NEW.id
    assert fresh.digest(KEY) == FORMAT.digest(KEY)
    assert fresh.flaw(OTHER_ENV) == "wrong_environment"
    assert fresh.digest(KEY).sha256 == ""


def test_first_pepper_signs_and_all_verify() -> None:
    """A key digested with yesterday's pepper is still found; new keys are digested with the first one."""
    yesterday = KeyFormat(prefix="xa", env="live", peppers=[OLD])
    found = credential_of([f"Bearer {KEY}"])
    assert isinstance(found, Credential)
    assert FORMAT.signing_pepper == "new"
    assert found.digests[1:] == yesterday.digest(KEY).digests
    assert found.digests[0] == KeyFormat(prefix="xa", env="live", peppers=[NEW]).digest(KEY).digests[0]


def test_nothing_secret_is_shown() -> None:
    """Neither pepper nor key is in a repr or str of objects made from them."""
    for thing in (NEW, [NEW], FORMAT, FORMAT.digest(KEY), (credential_of([f"Bearer {KEY}"]),)):
        for text in (repr(thing), str(thing)):
            assert KEY not in text
            assert "new-pepper" not in text
    assert repr(NEW) == "Pepper(id='new')"


def test_handle_shows_the_end_only() -> None:
    """Lists show the prefix and the last four characters; of a foreign key the four characters."""
    assert FORMAT.handle(KEY) == f"xa_live_…{KEY[-4:]}"
    assert FORMAT.handle("sk_live_0123456789abcdef") == "…cdef"


NO_CREDENTIALS = ["", " \t ", "Basic dXNlcjpwYXNzd29yZA==", "Negotiate", f"Bearerx {KEY}", KEY, f"\udcffBearer {KEY}"]
MALFORMED_HEADERS = [
    *["Bearer", "bEARER", "Bearer ", "Bearer   ", f"Bearer \t{KEY}", f"Bearer\t {KEY}", f"Bearer\t{KEY}"],
    *[f"Bearer \xa0{KEY}", f"Bearer  {KEY}  x", f"Bearer {KEY} x", f"Bearer {KEY},Bearer {KEY}"],
    *[f"Bearer {KEY}\n", f"Bearer {KEY}\x00", "Bearer =0123456789abcdef", "Bearer 0123456789=abcdef"],
    *["Bearer clé-0123456789abcdef", "Bearer \udcff0123456789abcdef", "Bearer ٠١٢٣٤٥٦٧٨٩٠١٢٣٤٥٦"],
]
REPEATED = [[f"Bearer {KEY}", f"Bearer {KEY}"], [f"Bearer {KEY}", ""], ["", ""], ["Basic eDp5", f"Bearer {KEY}"]]


def test_headers_that_carry_no_key() -> None:
    """An absent, empty or foreign scheme means no credential; repeated, or not `Bearer 1*SP token68`: malformed."""
    assert reason_of([]) is NONE
    assert [header for header in NO_CREDENTIALS if reason_of([header]) is not NONE] == []
    assert [header for header in MALFORMED_HEADERS if reason_of([header]) is not MALFORMED] == []
    assert [headers for headers in REPEATED if reason_of(headers) is not MALFORMED] == []


def test_scheme_in_any_case() -> None:
    """The scheme's case, further blanks behind it and white space round the value do not matter (RFC 6750 §2.1)."""
    for scheme in ("Bearer ", "Bearer  ", "BEARER" + " " * 60_000, "bearer ", "BEARER ", " \tBearer "):
        for header in (f"{scheme}{KEY}", f"{scheme}{KEY}\t "):
            assert credential_of([header]) == FORMAT.digest(KEY)


@given(st.lists(header_values | header_values.map("Bearer {}".format), max_size=3))
def test_any_bytes_are_an_answer(headers: list[str]) -> None:
    """Any bytes in headers give a credential or one of three reasons; never an exception."""
    assert reason_of(headers) in (None, NONE, MALFORMED, INVALID)


def test_sixty_kibibytes_take_no_time() -> None:
    """Reading a header as long as Envoy lets through takes linear, not quadratic, time."""
    for piece in (" ", "=", ".", "a=", "a.", " a", "xa_live_"):
        long = piece * (61_440 // len(piece))
        for header in (long, f"Bearer {long}", f"Bearer a{long}!", f"Bearer {' ' * 61_440}!"):
            credential_of([header])
