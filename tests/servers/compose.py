"""The Compose files as a container engine would read them: variables filled in, overlays merged, mounts by service."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "compose"
BASE = "compose.yaml"
OVERLAYS = ("sentinel.yaml", "cluster.yaml")
COMBINATIONS = ((BASE,), *((BASE, overlay) for overlay in OVERLAYS))
SECRETS = "/run/secrets"

_VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::?-(?P<default>[^}]*))?\}")
_REPLACED = {"command", "entrypoint", "test"}  # lists that an overlay replaces; it adds to all others

Service = dict[str, Any]


class Mount(NamedTuple):
    """A file or folder of this repository in a container."""

    source: Path
    target: str


def read(*files: str) -> dict[str, Any]:
    """The merged files, valid by the Compose specification. Raises ValueError where they are not."""
    merged: dict[str, Any] = {}
    for file in files:
        text = (FOLDER / file).read_text("utf-8")
        PyCompose.from_yaml(text)
        merged = _merged(merged, yaml.safe_load(_filled(text)))
    PyCompose.from_yaml(yaml.safe_dump(merged)).validate()
    return merged


def services(*files: str) -> dict[str, Service]:
    """The services of the merged files by name."""
    found: dict[str, Service] = read(*files)["services"]
    return found


def variables(*files: str) -> set[str]:
    """The names of the variables that a user may set."""
    texts = [(FOLDER / file).read_text("utf-8") for file in files]
    return {match["name"] for text in texts for match in _VARIABLE.finditer(text)}


def mounts(service: Service) -> Iterator[Mount]:
    """The files and folders of this repository that a service has mounted."""
    for volume in service.get("volumes", ()):
        if isinstance(volume, str) and volume.startswith("."):
            source, target, mode = volume.split(":")
            assert mode == "ro"
            yield Mount((FOLDER / source).resolve(), target)


def environment(service: Service) -> Mapping[str, str]:
    """The environment of a service."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def words(service: Service, key: str) -> list[str]:
    """A command as the container gets it: `$$` is one `$`."""
    return [str(word).replace("$$", "$") for word in service.get(key, ())]


def _filled(text: str) -> str:
    return _VARIABLE.sub(lambda match: match["default"] or "", text)


def _merged(under: Any, over: Any, key: str = "") -> Any:
    """As the Compose specification merges: maps by their keys, lists one after the other but for commands."""
    if isinstance(under, dict) and isinstance(over, dict):
        both = under.keys() & over.keys()
        return under | over | {name: _merged(under[name], over[name], name) for name in both}
    if isinstance(under, list) and isinstance(over, list) and key not in _REPLACED:
        return under + [item for item in over if item not in under]
    return over
