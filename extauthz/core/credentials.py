"""Find the bearer token, check its shape, digest it at once. The raw key does not leave this file.

RFC 6750 §2.1 (bearer token), RFC 9110 §11.4 (token68).
"""

import hashlib
import hmac
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from extauthz.core.reason import Reason

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_BYTES = 20
SECRET_LENGTH = 27  # 62^27 > 2^160
CHECK_LENGTH = 6  # 62^6 > 2^32
FOREIGN_LENGTH_MIN = 16

_SCHEME = re.compile(r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[ \t]|$)", re.ASCII)
_BEARER = re.compile(r"[ \t]*[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)[ \t]*", re.ASCII)
_JWT = re.compile(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """A presented key, as nothing but its digests: 64 lower-case hex digits for each pepper, the signing one first.

    `sha256` is the hex SHA-256 of the key, empty where keys are not looked up by it.
    """

    digests: tuple[str, ...]
    sha256: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Pepper:
    """A secret that digests keys. `id` names it in records; the value never shows in a repr."""

    id: str
    value: bytes

    def __repr__(self) -> str:
        return f"Pepper(id={self.id!r})"


class NoCredential(NamedTuple):
    """Why a request has no credential that could be looked up.

    `flaw` says why the form of a key alone refuses it, empty where there is no key: `wrong_environment`,
    `wrong_check_characters` or `wrong_form`.
    """

    reason: Reason
    flaw: str = ""


class CredentialReader(Protocol):
    """What digests keys."""

    def read(self, token: str) -> Credential | NoCredential:
        """The credential in a bearer token, or why no look-up could find it."""
        ...


_ABSENT, _MALFORMED = NoCredential(Reason.NO_CREDENTIALS), NoCredential(Reason.MALFORMED_CREDENTIALS)


def bearer_token(authorization: Sequence[str]) -> str | NoCredential:
    """The token in a request's `Authorization` headers, or why there is none. It is not to be kept."""
    if not authorization:
        return _ABSENT
    if len(authorization) > 1:
        return _MALFORMED
    match = _BEARER.fullmatch(authorization[0])
    if match is not None:
        return match[1]
    scheme = _SCHEME.match(authorization[0])
    is_bearer = scheme is not None and scheme[1].lower() == "bearer"
    return _MALFORMED if is_bearer else _ABSENT


class KeyFormat:
    """The shape `<prefix>_<env>_<secret><check>` and the peppers that digest it.

    `peppers`: the first signs new keys, all verify. `sha256`: whether keys are looked up by their SHA-256 too.
    `reserved`: secrets of the service, which no key may be.
    """

    def __init__(
        self,
        *,
        prefix: str,
        env: str,
        peppers: Sequence[Pepper],
        sha256: bool = False,
        reserved: Iterable[bytes] = (),
    ) -> None:
        self._own = f"{prefix}_"
        self._env = env
        self._head = f"{prefix}_{env}_"
        self._looks_own = re.compile("".join(map(_in_any_form, self._own)) + "[0-9A-Za-z_%]+")
        self.signing_pepper = peppers[0].id
        self._sha256 = sha256
        self._macs = tuple(_padded(pepper.value) for pepper in peppers)
        self._reserved = frozenset(hashlib.sha256(each).digest() for each in reserved)

    def read(self, token: str) -> Credential | NoCredential:
        """The credential in a bearer token, or why no look-up could find it."""
        flaw = self.flaw(token)
        return NoCredential(Reason.INVALID_CREDENTIALS, flaw) if flaw else self.digest(token)

    def flaw(self, key: str) -> str:
        """Why no look-up could find `key`, as in NoCredential; empty for our own of the right form, and for foreign
        ones that could have been imported.
        """
        if not key.startswith(self._own):
            return "wrong_form" if len(key) < FOREIGN_LENGTH_MIN or _JWT.fullmatch(key) is not None else ""
        environment, _, secret = key.removeprefix(self._own).partition("_")
        if len(secret) != SECRET_LENGTH + CHECK_LENGTH:
            return "wrong_form"
        if not hmac.compare_digest(check_characters(key[:-CHECK_LENGTH]), key[-CHECK_LENGTH:]):
            return "wrong_check_characters"
        return "" if environment == self._env else "wrong_environment"

    def plausible(self, key: str) -> bool:
        """Whether a look-up could find `key`."""
        return not self.flaw(key)

    def hide(self, text: str) -> str:
        """A text in which whatever looks like one of our keys, percent-encoded or not, is cut off after its prefix."""
        return self._looks_own.sub(f"{self._own}…", text) if self._own in text or "%" in text else text

    def is_reserved(self, key: str) -> bool:
        """Whether `key` is a secret of the service, which would then travel in every request."""
        return hashlib.sha256(key.encode()).digest() in self._reserved

    def digest(self, key: str) -> Credential:
        """HMAC-SHA256(pepper, key) for every pepper (RFC 2104), and its SHA-256 where that is asked for."""
        raw = key.encode("ascii")
        digests = []
        for inner, outer in self._macs:
            within, without = inner.copy(), outer.copy()
            within.update(raw)
            without.update(within.digest())
            digests.append(without.hexdigest())
        return Credential(tuple(digests), hashlib.sha256(raw).hexdigest() if self._sha256 else "")

    def issue(self, entropy: bytes) -> str:
        """A new key from 20 random bytes."""
        if len(entropy) != SECRET_BYTES:
            raise ValueError(f"a key takes {SECRET_BYTES} random bytes")
        stem = self._head + _base62(int.from_bytes(entropy), SECRET_LENGTH)
        return stem + check_characters(stem)

    def handle(self, key: str) -> str:
        """What lists may show of a key: what stands before its secret, and its last four characters."""
        return f"{self._head if key.startswith(self._head) else ''}…{key[-4:]}"


def _in_any_form(letter: str) -> str:
    """A pattern of a letter as itself or percent-encoded, any number of times."""
    return f"(?:{letter}|(?i:%(?:25)*{ord(letter):02x}))"


def _padded(pepper: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """Both hashes of an HMAC (RFC 2104 §2) as far as they do not depend on the message: half the price of `hmac`."""
    block = hashlib.sha256().block_size
    key = (pepper if len(pepper) <= block else hashlib.sha256(pepper).digest()).ljust(block, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in key)) for pad in (0x36, 0x5C))
    return inner, outer


_PAIRS = [first + second for first in BASE62 for second in BASE62]


def check_characters(stem: str) -> str:
    """Six base62 characters of the CRC-32 (ISO 3309) over all that stands before them."""
    rest, last = divmod(zlib.crc32(stem.encode("ascii")), len(_PAIRS))
    first, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))
