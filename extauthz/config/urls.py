"""Addresses that we call, checked so strictly that what may be shown and what may not are never confused."""

import re
from collections.abc import Callable
from urllib.parse import unquote

from pydantic import SecretStr

_HOSTS = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._%-]*)(?::[0-9]{1,5})?"
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z+]*)://(?:(?P<user>[^:/?#@]*)(?P<password>:[^/?#@]*)?@)?"
    rf"(?P<hosts>{_HOSTS}(?:,{_HOSTS})*)(?P<path>/[^?#@]*)?(?:\?(?P<query>[^#@]*))?"
)
_ONE_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._%-]+)(?::(?P<port>[0-9]{1,5}))?")
_WORD = r"(\w+) *= *('(?:[^'\\]|\\.)*'|[^ '\\]*)"
_WORDS = re.compile(rf" *(?:{_WORD}(?: +|\Z))+")
_HARMLESS = re.compile(r"[\w.,:/-]*")
_SHOWN = {"host", "hostaddr", "port", "user", "dbname", "db", "sslmode", "target_session_attrs", "application_name"}
_TAKEN = _SHOWN | {"password", "passfile", "service", "options", "connect_timeout"}
_TAKEN |= {"sslcert", "sslkey", "sslpassword", "sslrootcert"}
POSTGRES, REDIS = ("postgresql", "postgres"), ("redis", "rediss")
WEB = ("http", "https")


def database_url(text: str) -> SecretStr:
    """A `postgresql://` URL or libpq's `key=value` words."""
    right = "postgresql://user:password@host:5432/database"
    if "://" in text or "=" not in text:
        return SecretStr(_checked(text, POSTGRES, right).string)
    # A password alone can look like `key=`, so the keys must be known too.
    keys = {key for key, _ in re.findall(_WORD, text)}
    if not text.isprintable() or not _WORDS.fullmatch(text) or not keys <= _TAKEN:
        raise ValueError(f"must be {right} or key=value words as libpq has them, quoted where they hold a blank")
    return SecretStr(text)


def redis_url(text: str) -> SecretStr:
    """A `redis://` or `rediss://` URL with a host and at most a database number."""
    right = "redis://host:6379/0 or rediss://…"
    match = _checked(text, REDIS, right)
    database = re.fullmatch(r"(?:/[0-9]{0,5})?", match["path"] or "")
    if not (database and _is_one_host(match["hosts"])):
        raise ValueError(f"must be {right}, with one host, its port and at most the number of a database")
    return SecretStr(text)


def web_url(right: str) -> Callable[[str], SecretStr]:
    """A parser of `http://` and `https://` addresses; secrets, because they may hold credentials."""

    def parse(text: str) -> SecretStr:
        if not _is_one_host(_checked(text, WEB, right)["hosts"]):
            raise ValueError(f"must be {right}, with one host and its port")
        return SecretStr(text)

    return parse


def _is_one_host(hosts: str) -> bool:
    match = _ONE_HOST.fullmatch(hosts)
    return match is not None and int(match["port"] or 0) <= 65535


def _checked(text: str, schemes: tuple[str, ...], right: str) -> re.Match[str]:
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] not in schemes:
        raise ValueError(f"must be {right}; `@ : / ? #` and `%` in a password are written %40 %3A %2F %3F %23 %25")
    if not text.isprintable() or " " in text or re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("holds a blank, a control character or a `%` without two hex digits; write %20, %25")
    return match


def password(text: str) -> str:
    """The password of a store's address that passed its parser, empty where it has none."""
    match = _URL.fullmatch(text)
    if match is None:
        words: dict[str, str] = dict(re.findall(_WORD, text))
        return words.get("password", "").strip("'")
    return unquote((match["password"] or ":")[1:])


def masked(text: str) -> str:
    """An address that passed its parser, for messages: no password, and no parameter that could be one."""
    match = _URL.fullmatch(text)
    if match is None:
        return " ".join(_masked_word(key, value) for key, value in re.findall(_WORD, text))
    shown = f"{match['scheme']}://"
    if match["user"] is not None:
        # Redis and the web know passwords and tokens without a user; PostgreSQL does not.
        named = match["password"] is not None or match["scheme"] in POSTGRES
        shown += (match["user"] if named else "***") + (":***" if match["password"] else "") + "@"
    store = match["scheme"] in POSTGRES + REDIS
    shown += match["hosts"] + ((match["path"] or "") if store else "/***" * bool(match["path"]))
    if match["query"]:
        words = (part.partition("=")[::2] for part in match["query"].split("&"))
        shown += "?" + "&".join(_masked_word(key, value) for key, value in words)
    return shown


def _masked_word(key: str, value: str) -> str:
    if key in _SHOWN and _HARMLESS.fullmatch(value):
        return f"{key}={value}"
    return f"{key}=***" if key in _TAKEN else "***"
