"""Collect the settings from the environment and the file, check them together, report every mistake at once."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from extauthz.config import decision_log, document, files, secrets
from extauthz.config.document import plain, suggestion
from extauthz.config.settings import Settings, parser
from extauthz.core.errors import ConfigError

# Setting by name in the environment -> its name in the file.
KEYS = {field.alias: key for key, field in Settings.model_fields.items() if field.alias}
_NAMES = {key: name for name, key in KEYS.items()}
REQUIRED = {
    "DATABASE_URL": "postgresql://user:password@host:5432/database",
    "REDIS_URL": "redis://host:6379/0",
    "EXTAUTHZ_KEY_PEPPER": "id:value, the value at least 32 random bytes",
}
_WEBHOOK = ("EXTAUTHZ_WEBHOOK_URL", "EXTAUTHZ_WEBHOOK_SECRET")
# Those that may come from a file; the values of the last are merely never repeated.
SECRETS = (
    "DATABASE_URL",
    "EXTAUTHZ_NOTIFY_DATABASE_URL",
    "REDIS_URL",
    "EXTAUTHZ_KEY_PEPPER",
    "EXTAUTHZ_ADMIN_TOKEN",
    *_WEBHOOK,
    "OTEL_EXPORTER_OTLP_HEADERS",
)
_OTLP = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
_UNSPOKEN = (*SECRETS, *_OTLP)
_EXPOSED = "can be read by every user of this machine: chmod o-r"
_KUBERNETES = re.compile(r"\w+_(?:SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_\w+)")


@dataclass(frozen=True, slots=True)
class _Given:
    """A setting as a person wrote it, and where. `text` None: it stands in a file that could not be read."""

    label: str
    source: str
    text: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    """The environment or the configuration file: how settings are called there and where their files are."""

    source: str
    keys: Mapping[str, str]  # by name in the environment
    in_file: str  # what is put after the key when the value is the name of a file
    prefix: str = ""
    folder: Path = Path()

    def known(self) -> set[str]:
        return {*self.keys.values(), *(self.keys[name] + self.in_file for name in SECRETS)}

    def collect(
        self, entries: Mapping[str, str], mistakes: list[str], notes: list[str]
    ) -> Iterator[tuple[str, _Given]]:
        """Every setting that is there, by its name in the environment. An empty text counts as not set."""
        for name, key in self.keys.items():
            label, text = self.prefix + key, entries.get(key)
            file_label = label + self.in_file
            file = entries.get(key + self.in_file) if name in SECRETS else None
            if text and file:
                mistakes.append(f"{file_label}: must not be set together with {label}")
            if text:
                yield name, _Given(label, self.source, text)
            elif file:
                path = self.folder / file
                yield name, _Given(file_label, self.source, _read_secret(path, file_label, mistakes))
                if files.is_exposed(path):
                    notes.append(f"{file_label}: {_shown(path)} {_EXPOSED}")


def load(
    environ: Mapping[str, str],
    config_file: Path | None,
    *,
    needs: Collection[str] | None = None,
    serves: bool = True,
    options: Mapping[str, str] = MappingProxyType({}),
) -> Settings:
    """The settings of the environment and of `config_file` (else of the file that EXTAUTHZ_CONFIG names), checked.

    `needs` names the required settings that must be there, None all of them; `serves`: whether what `serve` alone needs
    must fit together, too. `options` are settings by name that options of the command give; they win.
    Raises ConfigError with one line per mistake, each named as the person wrote it; no line holds a secret.
    """
    mistakes: list[str] = []
    notes: list[str] = []
    named = environ.get("EXTAUTHZ_CONFIG")
    path = config_file or (Path(named) if named else None)
    file = document.read(path, mistakes)
    places = [
        _from_file(file.settings, path, mistakes, notes),
        _from_environment(environ, mistakes, notes),
        {name: _Given(f"--{KEYS[name].replace('_', '-')}", "option", text) for name, text in options.items()},
    ]
    given: dict[str, _Given] = {}
    for place in places:
        mistakes += _hidden((name, given[name]) for name in place if name in given)
        given |= place
    if not file.failed:
        mistakes += _missing(given, REQUIRED if needs is None else needs)
        mistakes += _halves(given) if serves and needs is None else ()
    texts = {name: entry.text for name, entry in given.items() if entry.text is not None}
    extras = {
        "texts": texts,
        "notes": tuple(notes),
        "sources": {name: given[name].source for name in texts},
        "routes": file.routes,
        "lookup_sql": file.lookup_sql,
    }
    try:
        settings = Settings.model_validate({**texts, **extras}, context={"serves": serves})
    except ValidationError as error:
        mistakes += _lines(error, given)
    else:
        mistakes += (f"{given[name].label}: {line}" for name, line in secrets.clashes(settings) if needs is None)
        if serves and needs is None:
            mistakes += (f"{_label(name, given)}: {line}" for name, line in decision_log.flaws(settings))
    if mistakes:
        raise ConfigError(mistakes)
    return settings


def _from_environment(environ: Mapping[str, str], mistakes: list[str], notes: list[str]) -> dict[str, _Given]:
    place = _Place("environment", {name: name for name in KEYS}, "_FILE")
    known = {*place.known(), "EXTAUTHZ_CONFIG"}
    for name in sorted(environ):
        ours = name.startswith(("EXTAUTHZ_", "RATE_LIMIT_"))
        if ours and name not in known and not _KUBERNETES.fullmatch(name):
            mistakes.append(f"{plain(name)}: unknown{suggestion(name, known)}")
    return dict(place.collect(environ, mistakes, notes))


def _from_file(
    entries: Mapping[str, object], path: Path | None, mistakes: list[str], notes: list[str]
) -> dict[str, _Given]:
    if path is None:
        return {}
    place = _Place("file", KEYS, "_file", f"{plain(str(path))} [settings] ", path.parent)
    known = place.known()
    texts = {}
    for key, value in entries.items():
        if key not in known:
            mistakes.append(f"{place.prefix}{plain(key)}: unknown{suggestion(key, known)}")
        elif isinstance(value, str | int | float):
            # TOML has no number of more than 64 bits, its reader does, and Python may refuse to write the digits.
            texts[key] = hex(value) if isinstance(value, int) and value.bit_length() > 64 else str(value)
        else:
            mistakes.append(f"{place.prefix}{key}: must be a string, a number, true or false")
    if any(texts.get(KEYS[name]) for name in SECRETS) and files.is_exposed(path):
        notes.append(f"{plain(str(path))}: holds secrets, and {_EXPOSED}")
    return dict(place.collect(texts, mistakes, notes))


def _read_secret(path: Path, label: str, mistakes: list[str]) -> str | None:
    """What a secret's file holds, without the newline at its end."""
    try:
        text = files.read_text(path, files.SECRET_MAX).rstrip("\r\n")
    except files.UnfitFile as error:
        mistakes.append(f"{label}: {_shown(path)} {error}")
    except ValueError:
        mistakes.append(f"{label}: must be the path of a file")
    else:
        if len(text.splitlines()) == 1:
            return text
        mistakes.append(f"{label}: {_shown(path)} {'must be one line' if text else 'is empty'}")
    return None


def _shown(path: Path) -> str:
    """The name of a secret's file, unless it could be the secret: a colon is rare in a path and in most secrets."""
    return "the file" if ":" in str(path) else plain(str(path))


def _hidden(entries: Iterable[tuple[str, _Given]]) -> Iterator[str]:
    """One line for each setting that could not be used, although another place overrides it."""
    for name, entry in entries:
        try:
            if entry.text is not None:
                parser(KEYS[name])(entry.text)
        except ValueError as error:
            yield _line(name, entry.label, entry.text or "", error)


def _missing(given: Mapping[str, _Given], needs: Collection[str]) -> Iterator[str]:
    for name, right in REQUIRED.items():
        if name in needs and name not in given:
            yield f"{name}: required; {right}"


def _halves(given: Mapping[str, _Given]) -> Iterator[str]:
    for name, other in permutations(_WEBHOOK):
        if name in given and other not in given:
            yield f"{given[name].label}: must be set together with {other}"


def _lines(error: ValidationError, given: Mapping[str, _Given]) -> Iterator[str]:
    """One line for each setting that did not fit. Pydantic's own words are not used: they repeat the value."""
    for item in error.errors(include_url=False, include_input=False):
        cause = item.get("ctx", {}).get("error")
        if cause is None:
            continue  # routes, or a default taken from another setting, whose mistakes have their lines already
        place = str(item["loc"][0])
        name = _NAMES.get(place, place)
        text = (given[name].text or "") if name in given else str(Settings.model_fields[KEYS[name]].default)
        yield _line(name, _label(name, given), text, cause)


def _label(name: str, given: Mapping[str, _Given]) -> str:
    return given[name].label if name in given else f"{name} (default)"


def _line(name: str, label: str, text: str, cause: Exception) -> str:
    shown = "" if name in _UNSPOKEN else f"{text if len(text) <= 40 else text[:40] + '...'!a} "
    return f"{label}: {shown}{cause}"
