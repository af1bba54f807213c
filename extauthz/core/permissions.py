"""May this identity do that? Permission maps: resource -> modes, with `*` for every resource."""

import re
from collections.abc import Collection, Mapping

from extauthz.core.masking import shown

READ, WRITE = "read", "write"
MODES = (READ, WRITE)
ANY_RESOURCE = "*"
FULL_ACCESS: Mapping[str, frozenset[str]] = {ANY_RESOURCE: frozenset(MODES)}

RESOURCE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

Permissions = Mapping[str, frozenset[str]]


def permitted(permissions: Permissions, resource: str, mode: str) -> bool:
    """Whether `mode` on `resource` is granted, by its own name or by `*`. An empty list grants nothing."""
    modes = permissions.get(resource)
    if modes is not None and mode in modes:
        return True
    wildcard = permissions.get(ANY_RESOURCE)
    return wildcard is not None and mode in wildcard


def refusal_code(resource: str, mode: str) -> str:
    """The error code that API clients see, for example `read_action_not_allowed_for_customer`."""
    return f"{mode}_action_not_allowed_for_{resource}"


def parse_permissions(value: object) -> Permissions:
    """A stored map `{"customer": ["read", "write"]}` as a value; ValueError says what is wrong in it."""
    if not isinstance(value, dict):
        raise ValueError("permissions must be an object")
    parsed: dict[str, frozenset[str]] = {}
    for resource, modes in value.items():
        if resource != ANY_RESOURCE and not RESOURCE_NAME.fullmatch(resource):
            raise ValueError("permissions must not name a malformed resource")
        if not isinstance(modes, list) or any(mode not in MODES for mode in modes):
            raise ValueError("permissions hold modes other than read and write")
        parsed[resource] = frozenset(modes)
    return parsed


def mistakes(permissions: Permissions) -> list[str]:
    """What is wrong with the resources and modes of a map, one sentence for each."""
    names = [repr(shown(name)) for name in permissions if name != ANY_RESOURCE and not RESOURCE_NAME.fullmatch(name)]
    modes = {repr(shown(mode)) for granted in permissions.values() for mode in granted if mode not in MODES}
    return [
        *(f"a resource must be 1 to 64 of A-Z a-z 0-9 _ -, or * for all (got {name})" for name in names),
        *(f"a mode must be {' or '.join(MODES)} (got {mode})" for mode in sorted(modes)),
    ]


def unknown_resources(permissions: Permissions, known: Collection[str] | None) -> list[str]:
    """The resources of a map that no route has; `known` None means that a route takes any name from the path."""
    if known is None:
        return []
    return sorted(name for name in permissions if name != ANY_RESOURCE and name not in known)


def storable(permissions: Permissions) -> dict[str, list[str]]:
    """The map as it is stored and shown in JSON: resources by name, modes in the order read, write."""
    return {resource: [mode for mode in MODES if mode in permissions[resource]] for resource in sorted(permissions)}
