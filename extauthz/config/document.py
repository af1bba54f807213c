"""The configuration file: TOML with `[settings]`, `[[routes]]`, `[resources]` and `[keys]`."""

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from extauthz.config import files
from extauthz.core.errors import ConfigError
from extauthz.core.routes import DEFAULT_ROUTES, Route, RouteTable

_TABLES: dict[str, tuple[type, str]] = {
    "settings": (dict, "must be a table, [settings]"),
    "routes": (list, "must be tables, each under [[routes]]"),
    "resources": (dict, "must be a table, [resources]"),
    "keys": (dict, "must be a table, [keys]"),
}
_PREFIX = re.compile("^(?:EXTAUTHZ|RATE_LIMIT)_")
_PLACEHOLDER = "%(sha256)s"
_PERCENT = re.compile(r"%(?:%|\(sha256\)s)?")  # the driver's rules: a placeholder, %% for a sign of its own, else wrong
_STRING = (str, "must be a string")
_FLAG = (bool, "must be true or false, without quotes")
_WHOLE = (int, "must be a whole number, without quotes")
_ROUTE_KEYS: dict[str, tuple[type, str]] = {
    "path": _STRING,
    "host": _STRING,
    "methods": (list, 'must be a list of strings, like ["GET", "HEAD"]'),
    "resource": _STRING,
    "mode": _STRING,
    "cost": _WHOLE,
    "public": _FLAG,
    "cache": _FLAG,
    "limits": _STRING,
    "rate": (str, 'must be a string, like "60/min"'),
    "burst": _WHOLE,
}


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says; settings as TOML has them, routes compiled or None after mistakes.

    `lookup_sql` is empty where keys come from our own tables. `failed`: the file could not be read at all.
    """

    settings: Mapping[str, object] = field(default_factory=dict)
    routes: RouteTable | None = None
    lookup_sql: str = ""
    failed: bool = False


def plain(name: str) -> str:
    """A name as it stands, unless that would not be one short line."""
    return name if name.isprintable() and 0 < len(name) <= 200 else ascii(name[:200])


def suggestion(name: str, known: Collection[str]) -> str:
    """`; did you mean …?`, or nothing. Case and our prefixes do not count as a difference."""
    bare = {_PREFIX.sub("", other.upper()): other for other in known}
    close = get_close_matches(_PREFIX.sub("", name.upper()), bare, 1, cutoff=0.7)
    return f"; did you mean {bare[close[0]]}?" if close else ""


def read(path: Path | None, mistakes: list[str]) -> Document:
    """Read the file, if there is one, and compile its routes; every mistake becomes a line."""
    if path is None:
        return Document(routes=RouteTable.compile(DEFAULT_ROUTES, {}))
    name = plain(str(path))
    try:
        parsed = tomllib.loads(files.read_text(path, files.CONFIG_MAX))
    except files.UnfitFile as error:
        mistakes.append(f"{name}: {error}")
        return Document(failed=True)
    except (ValueError, RecursionError) as error:
        # Only the place: the parser's own words may hold a piece of the line.
        place = re.search(r"at (line \d+, column \d+|end of document)", str(error))
        mistakes.append(f"{name}: is not valid TOML" + (f" at {place[1]}" if place else ""))
        return Document(failed=True)
    tables = _fitting(parsed, _TABLES, f"{name} ", mistakes)
    return Document(
        tables.get("settings", {}),
        _routes(tables, name, mistakes),
        _lookup_sql(tables.get("keys"), f"{name} [keys] ", mistakes),
    )


def _fitting(
    table: Mapping[str, object], keys: Mapping[str, tuple[type, str]], where: str, mistakes: list[str]
) -> dict[str, Any]:
    """The entries of a table that have a known key and a value of its type."""
    fitting = {}
    for key, value in table.items():
        if key not in keys:
            mistakes.append(f"{where}{plain(key)}: unknown{suggestion(key, keys)}")
        elif type(value) is not keys[key][0]:
            mistakes.append(f"{where}{key}: {keys[key][1]}")
        else:
            fitting[key] = value
    return fitting


def _lookup_sql(table: Mapping[str, object] | None, where: str, mistakes: list[str]) -> str:
    """The statement that finds a key in tables of one's own; empty without `[keys]` and after mistakes."""
    if table is None:
        return ""
    entries = _fitting(table, {"lookup_sql": _STRING}, where, mistakes)
    sql: str = entries.get("lookup_sql", "")
    signs = _PERCENT.findall(sql)
    if "lookup_sql" not in table:
        mistakes.append(f"{where}lookup_sql: required")
    elif "lookup_sql" not in entries:
        return ""
    elif not sql.strip():
        mistakes.append(f"{where}lookup_sql: must not be empty; leave [keys] out for keys in our own tables")
    elif _PLACEHOLDER not in signs:
        mistakes.append(f"{where}lookup_sql: must have {_PLACEHOLDER}, which becomes the hex SHA-256 of the key")
    elif "%" in signs:
        mistakes.append(f"{where}lookup_sql: a percent sign is written %%, unless in {_PLACEHOLDER}")
    return sql


def _routes(tables: Mapping[str, Any], name: str, mistakes: list[str]) -> RouteTable | None:
    routes: dict[int, Route] = {}
    for number, table in enumerate(tables.get("routes", ()), 1):
        route = _route(table, f"{name} [[routes]] {number}", mistakes)
        if route is not None:
            routes[number] = route
    resources = tables.get("resources", {})
    strings = {segment: to for segment, to in resources.items() if isinstance(to, str)}
    mistakes += [
        f"{name} [resources] {plain(segment)}: must be a string" for segment in resources if segment not in strings
    ]
    if "routes" not in tables:
        routes = dict(enumerate(DEFAULT_ROUTES, 1))
    try:
        return RouteTable.compile(list(routes.values()), strings, numbers=list(routes))
    except ConfigError as error:
        mistakes += [f"{name} {mistake}" for mistake in error.mistakes]
        return None


def _route(table: object, where: str, mistakes: list[str]) -> Route | None:
    """A route whose entries all have the right type, or None with the mistakes noted."""
    before = len(mistakes)
    if not isinstance(table, dict):
        mistakes.append(f"{where}: must be a table, under [[routes]]")
        return None
    entries = _fitting(table, _ROUTE_KEYS, f"{where} ", mistakes)
    methods = entries.get("methods")
    if methods is not None and not all(isinstance(method, str) for method in methods):
        mistakes.append(f"{where} methods: {_ROUTE_KEYS['methods'][1]}")
    if "path" not in table:
        mistakes.append(f"{where} path: required")
    if len(mistakes) > before:
        return None
    if methods is not None:
        entries["methods"] = frozenset(methods)
    return Route(**entries)
