"""From the text of a setting to its value. Each parser raises ValueError that says what would be right.

No message repeats the text: the caller decides whether the text is a secret.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import SecretBytes

from extauthz.core.routes import is_ambiguous

SECRET_BYTES = 32
IN_BASE64 = b"whsec_"
STDOUT, OTLP = "stdout", "otlp"  # where decisions are logged, beside files

_DIFFERENT_MIN = 6  # characters; a random secret of the least length, even of digits alone, has more
_WORD_MAX = 12  # characters of a word that a secret may not merely repeat

_PORT = r"(?P<port>[0-9]{1,5})"
_ADDRESS = re.compile(rf"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):{_PORT}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a listener binds: `host` and `port` (0: any free one), or a Unix socket's `path` when that is not None."""

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.path is None else f"unix:{self.path}"

    def overlaps(self, other: "Listen") -> bool:
        """Whether a connection could reach either of the two."""
        if self.path is not None or other.path is not None:
            return self.path == other.path
        if self.port != other.port or self.port == 0:
            return False
        hosts = {host.lower().replace("localhost", "127.0.0.1") for host in (self.host, other.host)}
        return len(hosts) == 1 or not hosts.isdisjoint(_EVERYWHERE)


class NamedSecret(NamedTuple):
    """A pepper or an admin token: its name and its value. Shown as `name:***`."""

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"{self.name}:***"


def listen(text: str) -> Listen | None:
    """`host:port`, `[::1]:port`, `unix:/path`, or None for `off`."""
    if text == "off":
        return None
    if text.startswith("unix:/") and text.isprintable():
        return Listen(path=text.removeprefix("unix:"))
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("must be host:port, [::1]:port, unix:/path or off")
    return Listen(match["host"], int(match["port"]))


def whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def whole_or_off(low: int, high: int) -> Callable[[str], int | None]:
    """A parser of whole numbers from `low` to `high`, and of `off`, which is None."""

    def parse(text: str) -> int | None:
        if text == "off":
            return None
        try:
            return whole(low, high)(text)
        except ValueError as error:
            raise ValueError(f"{error}, or off") from None

    return parse


def share(text: str) -> float:
    """A number from 0 to 1."""
    if not re.fullmatch(r"[0-9]*\.?[0-9]+(?:e-[0-9]{1,3})?", text) or float(text) > 1:
        raise ValueError("must be a number from 0 to 1")
    return float(text)


@dataclass(frozen=True, slots=True)
class DecisionShare:
    """Which decisions are logged: every denial, and of allowed checks a share from 0 to 1."""

    allowed: float

    def __str__(self) -> str:
        return {0.0: "denials", 1.0: "all"}.get(self.allowed, f"{self.allowed:g}")


def decision_log(text: str) -> DecisionShare | None:
    """`off`, `denials`, `all`, or the share of allowed checks that is logged beside all denials."""
    words = {"off": None, "denials": DecisionShare(0.0), "all": DecisionShare(1.0)}
    if text in words:
        return words[text]
    try:
        return DecisionShare(share(text))
    except ValueError:
        raise ValueError("must be off, denials, all or a share from 0 to 1, such as 0.01") from None


def decision_log_target(text: str) -> str:
    """`stdout`, `otlp`, or the path of a file. One that is a mere word is taken for a mistake."""
    if text not in (STDOUT, OTLP) and not (re.search("[./]", text) and text.isprintable()):
        raise ValueError("must be stdout, otlp or the path of a file, such as /var/log/extauthz/decisions.jsonl")
    return text


def boolean(text: str) -> bool:
    """`true` or `false`, or one of their usual other names, in any case."""
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def one_of(*words: str) -> Callable[[str], str]:
    """A parser of one word out of a few."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    return parse


def matching(pattern: str, right: str) -> Callable[[str], str]:
    """A parser of texts that a pattern describes; `right` says it in words."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(right)
        return text

    return parse


def header_families(text: str) -> frozenset[str]:
    """Which rate-limit headers are sent: `ietf`, `x`, both with a comma, or `off`."""
    families = [part.strip() for part in text.split(",")]
    if text != "off" and not {"ietf", "x"}.issuperset(families):
        raise ValueError("must be ietf,x or one of them, or off")
    return frozenset() if text == "off" else frozenset(families)


def path_prefix(text: str) -> str:
    """What the proxy puts before the client's path: starts with a slash, does not end with one."""
    if text.endswith("/") or "?" in text or is_ambiguous(text):
        raise ValueError("must be a plain path that starts with a slash and does not end with one")
    return text


def peppers(text: str) -> tuple[NamedSecret, ...]:
    """`id:value[,id:value]`, the first one signs."""
    right = "must be id:value, with an id of 1 to 32 of A-Z a-z 0-9 _ - and a value of at least 32 bytes"
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must be one line without control characters; several are separated by commas")
    found = _named([part.partition(":")[::2] for part in text.split(",")], right)
    _refuse_twins(found, "each is random by itself")
    return found


def secret(text: str) -> SecretBytes:
    """`whsec_` and base64 of at least 32 bytes, or any other text of so many."""
    value = text.encode("utf-8", "surrogateescape")
    if value.startswith(IN_BASE64):
        try:
            key = base64.b64decode(value.removeprefix(IN_BASE64), validate=True)
        except ValueError:
            key = b""
        if len(key) < SECRET_BYTES:
            raise ValueError(
                f"begins with whsec_; then base64 of at least {SECRET_BYTES} bytes must follow, with its `=`"
            )
        _random(key)
    elif len(value) < SECRET_BYTES:
        raise ValueError(f"must have at least {SECRET_BYTES} bytes")
    _random(value)
    return SecretBytes(value)


def _random(value: bytes, which: str = "") -> None:
    """Raises ValueError for what is plainly not random: few different characters, or one word again and again."""
    repeats = any(value[size:] == value[:-size] for size in range(1, _WORD_MAX + 1))
    if repeats or len(set(value)) < _DIFFERENT_MIN:
        raise ValueError(f"{which}must be random, as of `openssl rand -hex 32`, not a word or few characters repeated")


def admin_tokens(text: str) -> tuple[NamedSecret, ...]:
    """`value`, which is then called `admin`, or `name:value[,name:value]`."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be visible ASCII, since it travels in a header")
    if not {",", ":"}.intersection(text):
        return _named([("admin", text)], "must have at least 32 bytes")
    right = "must be name:value, with a name of 1 to 32 of A-Z a-z 0-9 _ - and a value of at least 32 bytes"
    tokens = _named([part.partition(":")[::2] for part in text.split(",")], right)
    _refuse_twins(tokens, "the audit log could not tell them apart")
    return tokens


def _refuse_twins(secrets: tuple[NamedSecret, ...], reason: str) -> None:
    owners: dict[bytes, str] = {}
    for each in secrets:
        if (first := owners.setdefault(each.value, each.name)) != each.name:
            raise ValueError(f"gives {first} and {each.name} the same value: {reason}")


def _named(parts: list[tuple[str, str]], right: str) -> tuple[NamedSecret, ...]:
    found: dict[str, NamedSecret] = {}
    for number, (name, text) in enumerate(parts, 1):
        value = text.encode("utf-8", "surrogateescape")
        if not _ID.fullmatch(name) or len(value) < SECRET_BYTES:
            raise ValueError(right if len(parts) == 1 else f"entry {number} {right}")
        if name in found:
            raise ValueError(f"entry {number} has the same name as an earlier one")
        _random(value, "" if len(parts) == 1 else f"entry {number} ")
        found[name] = NamedSecret(name, value)
    return tuple(found.values())
