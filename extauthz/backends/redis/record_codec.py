"""The JSON texts of records in Redis. What many of them have in common is written once, and read and checked once.

A text as this release writes it is taken apart by a pattern, and its parts are looked up. Any other one, of another
release or of no sense, is read as the JSON that it is.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits
from extauthz.core.permissions import Permissions, parse_permissions, storable
from extauthz.core.tenants import Tenant, TenantTerms, read_version, seconds

PARTS_MAX = 4096  # of one kind that are remembered
SHORT = 1024  # bytes of one that is

Part = TypeVar("Part")

_ID = rb'"([!#-\[\]-~](?:[ !#-\[\]-~]{0,253}[!#-\[\]-~])?)"'  # fit for a header, and with nothing escaped
_NUMBER = rb"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_VERSION = rb"(0|[1-9][0-9]{0,18})"
_FLAT = rb"(\{[^{}]*\})"
_TENANT = rb'\{"id":' + _ID + rb',"loaded_at":(' + _NUMBER + rb'),"version":' + _VERSION + rb",(.*)\}"
_ENDS = b"".join(rb',"%s":(null|%s)' % (name, _NUMBER) for name in (b"expires_at", b"revoked_at", b"disabled_at"))
_KEY = (
    rb'\{"id":' + _ID + rb',"organization_id":' + _ID + rb',"permissions":' + _FLAT + _ENDS
    + rb',"loaded_at":(' + _NUMBER + rb'),"version":' + _VERSION + rb',"hash":"([0-9a-f]{64})","limits":' + _FLAT
    + rb',"tenant":' + _TENANT + rb"\}"
)  # fmt: skip
_TENANT_TEXT, _KEY_TEXT = re.compile(_TENANT, re.DOTALL), re.compile(_KEY, re.DOTALL)
_TENANT_OWN = ("id", "loaded_at", "version")


def key_text(key: ApiKey) -> str:
    """The JSON object of a key, as `to_record` has it."""
    ends = f'"expires_at":{_time(key.expires_at)},"revoked_at":{_time(key.revoked_at)}'
    return (
        f'{{"id":{json.dumps(key.id)},"organization_id":{json.dumps(key.organization_id)}'
        f',"permissions":{_permissions_text(tuple(key.permissions.items()))}'
        f',{ends},"disabled_at":{_time(key.disabled_at)},"loaded_at":{key.loaded_at!r},"version":{key.version}'
        f',"hash":"{key.digest}","limits":{_limits_text(key.limits)},"tenant":{tenant_text(key.tenant)}}}'
    )


def tenant_text(tenant: Tenant) -> str:
    """The JSON object of an organization, as `to_record` has it."""
    read = f'"loaded_at":{tenant.loaded_at!r},"version":{tenant.version}'
    return f'{{"id":{json.dumps(tenant.id)},{read},{_terms_text(tenant.terms)}}}'


def read_key(text: bytes, digest: str) -> ApiKey:
    """The key of a text that says itself whose it is: a stray answer must not pass for another key's.

    ValueError says what is wrong in it, never the value.
    """
    key = _known(_KEY_TEXT, text, _key_of)
    if key is None:
        record = _object(text)
        if record.get("hash") != digest:
            raise ValueError("another key's record")
        return ApiKey.from_record(record)
    if key.digest != digest:
        raise ValueError("another key's record")
    return key


def read_tenant(text: bytes, tenant_id: str) -> Tenant:
    """The organization of a text that says itself whose it is. ValueError as for `read_key`."""
    tenant = _known(_TENANT_TEXT, text, _tenant_of) or Tenant.from_record(_object(text))
    if tenant.id != tenant_id:
        raise ValueError("another organization's record")
    return tenant


def _known(pattern: re.Pattern[bytes], text: bytes, read: Callable[[Sequence[bytes]], Part]) -> Part | None:
    """What a text as we write it means; None for any other one, and for what may be wrong with it."""
    match = pattern.fullmatch(text)
    try:
        return None if match is None else read(match.groups())
    except (ValueError, RecursionError):
        return None


def _key_of(groups: Sequence[bytes]) -> ApiKey:
    id_, organization_id, permissions, expires_at, revoked_at, disabled_at, loaded_at, version, digest, limits = groups[
        :10
    ]
    record: dict[str, object] = {
        "id": id_.decode(),
        "organization_id": organization_id.decode(),
        "expires_at": None if expires_at == b"null" else float(expires_at),
        "revoked_at": None if revoked_at == b"null" else float(revoked_at),
        "disabled_at": None if disabled_at == b"null" else float(disabled_at),
        "loaded_at": float(loaded_at),
        "version": int(version),
        "hash": digest.decode(),
    }
    return ApiKey.of(
        record,
        permissions=_short(permissions, _permissions, _read_permissions),
        limits=_short(limits, _limits, _read_limits),
        tenant=_tenant_of(groups[10:]),
    )


def _tenant_of(groups: Sequence[bytes]) -> Tenant:
    id_, loaded_at, version, terms = groups
    read: dict[str, object] = {"loaded_at": float(loaded_at), "version": int(version)}
    return Tenant.of(id_.decode(), _short(terms, _terms, _read_terms), seconds(read, "loaded_at"), read_version(read))


def _short(text: bytes, remembered: Callable[[bytes], Part], read: Callable[[bytes], Part]) -> Part:
    return remembered(text) if len(text) <= SHORT else read(text)


def _read_permissions(text: bytes) -> Permissions:
    return parse_permissions(json.loads(text))


def _read_limits(text: bytes) -> Limits:
    return Limits.from_record(json.loads(text))


def _read_terms(text: bytes) -> TenantTerms:
    record = json.loads(b"{" + text + b"}")
    if any(name in record for name in _TENANT_OWN):
        raise ValueError("a name stands twice")
    return Tenant.from_record(record | {"id": ".", "loaded_at": 0, "version": 0}).terms


_permissions = lru_cache(maxsize=PARTS_MAX)(_read_permissions)
_limits = lru_cache(maxsize=PARTS_MAX)(_read_limits)
_terms = lru_cache(maxsize=PARTS_MAX)(_read_terms)


def _object(text: bytes) -> Mapping[str, object]:
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return record


def _time(value: float | None) -> str:
    return "null" if value is None else repr(value)


@lru_cache(maxsize=PARTS_MAX)
def _permissions_text(items: tuple[tuple[str, frozenset[str]], ...]) -> str:
    return json.dumps(storable(dict(items)), separators=(",", ":"))


@lru_cache(maxsize=PARTS_MAX)
def _limits_text(limits: Limits) -> str:
    return json.dumps(limits.to_cache(), separators=(",", ":"))


@lru_cache(maxsize=PARTS_MAX)
def _terms_text(terms: TenantTerms) -> str:
    """The members of an organization's object that do not tell it from others with the same terms."""
    record = Tenant.of(".", terms, 0, 0).to_record()
    shared = {name: value for name, value in record.items() if name not in _TENANT_OWN}
    return json.dumps(shared, separators=(",", ":"))[1:-1]
