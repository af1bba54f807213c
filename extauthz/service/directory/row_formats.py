"""Formats of packed rows: numbers by `struct`, ids as sixteen bytes, shared values by their numbers."""

import hashlib
from collections.abc import Hashable, Sequence
from math import isnan, nan
from struct import Struct
from typing import NamedTuple

from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits
from extauthz.core.permissions import Permissions
from extauthz.core.tenants import Tenant, TenantTerms
from extauthz.service.directory.entry import Asked, Entry, Record
from extauthz.service.directory.packed_rows import CODE
from extauthz.service.directory.shared_values import SHARED_VALUES_MAX, SharedValues

_TIMES = "4d"  # ends, read_at, taken_at, renew_at
_ANY_EPOCH = -1  # equals no epoch, so that an entry is held against all changes
_UUID, _LONG = 36, 255  # lengths of ids that do not stand as they are: one as its bytes, one by number


class Ids:
    """Ids as a length and sixteen bytes."""

    def __init__(self, *, at_most: int) -> None:
        self._long: SharedValues[str] = SharedValues(at_most=at_most)

    def pack(self, id_: str) -> tuple[int, bytes] | None:
        """Return the length and bytes of an id; None where there is no room for a long one."""
        if len(id_) == _UUID:
            raw = _uuid(id_)
            if raw is not None:
                return _UUID, raw
        if len(id_) <= CODE and id_.isascii():
            return len(id_), id_.encode()
        number = self._long.count_in(id_, id_)
        return None if number is None else (_LONG, number.to_bytes(CODE, "little"))

    def unpack(self, length: int, raw: bytes) -> str:
        """Return the id of a length and bytes."""
        if length == _UUID:
            return _dashed(raw.hex())
        return self._long[int.from_bytes(raw, "little")] if length == _LONG else raw[:length].decode()

    def release(self, length: int, raw: bytes) -> None:
        """Remove a reference to an id."""
        if length == _LONG:
            self._long.count_out(int.from_bytes(raw, "little"))


class _Rights(NamedTuple):
    """What many keys have in common; few keys are revoked or disabled."""

    permissions: Permissions
    revoked_at: float | None
    disabled_at: float | None


class _Read(NamedTuple):
    """The organization of a key; `read` is its `loaded_at` and `version` where it was not read with the key."""

    terms: TenantTerms
    read: tuple[float, int] | None


class KeyRows:
    """Keys by their first digest. A code is half of it, as RFC 2104 §5 allows: 128 bits that no client can aim at."""

    _row = Struct(f"<{_TIMES}dQd3I3B{CODE}s{CODE}s")
    size = _row.size

    def __init__(self, *, parts: int = SHARED_VALUES_MAX) -> None:
        self._rights: SharedValues[_Rights] = SharedValues(at_most=parts)
        self._limits: SharedValues[Limits] = SharedValues(at_most=parts)
        self._tenants: SharedValues[_Read] = SharedValues(at_most=parts)
        self._ids = Ids(at_most=parts)

    def name(self, asked: Credential) -> Hashable:
        """Return the first digest."""
        return asked.digests[0]

    def code(self, name: Hashable) -> bytes:
        """Return half of the digest."""
        return bytes.fromhex(str(name)[-2 * CODE :])

    def pack(self, entry: Entry[Credential, ApiKey]) -> bytes | None:
        """Return a row; None where there are too many shared values, or the organization is not that of the key."""
        key, tenant = entry.record, entry.record.tenant
        if key.digest not in entry.asked.digests or tenant.id != key.organization_id:
            return None
        with_key = (tenant.loaded_at, tenant.version) == (key.loaded_at, key.version)
        read = _Read(tenant.terms, None if with_key else (tenant.loaded_at, tenant.version))
        rights = _Rights(key.permissions, key.revoked_at, key.disabled_at)
        said = (tuple(key.permissions.items()), key.revoked_at, key.disabled_at)
        parts = (
            self._rights.count_in(said, rights),
            self._limits.count_in(key.limits, key.limits),
            self._tenants.count_in(read, read),
        )
        id_, other_id = self._ids.pack(key.id), self._ids.pack(key.organization_id)
        if None in parts or id_ is None or other_id is None:
            self._undo(parts, (id_, other_id))
            return None
        return self._row.pack(
            *_times(entry),
            key.loaded_at,
            key.version,
            nan if key.expires_at is None else key.expires_at,
            *parts,
            entry.asked.digests.index(key.digest),
            id_[0],
            other_id[0],
            id_[1],
            other_id[1],
        )

    def unpack(self, asked: Credential, until: float, row: bytes) -> Entry[Credential, ApiKey]:
        """Return the entry of a row."""
        (*times, loaded_at, version, expires_at, rights, limits, read, digest, length, other_length, id_, other_id) = (
            self._row.unpack(row)
        )
        permissions, revoked_at, disabled_at = self._rights[rights]
        terms, tenant_read = self._tenants[read]
        organization_id = self._ids.unpack(other_length, other_id)
        key = ApiKey(
            id=self._ids.unpack(length, id_),
            organization_id=organization_id,
            permissions=permissions,
            expires_at=None if isnan(expires_at) else expires_at,
            revoked_at=revoked_at,
            disabled_at=disabled_at,
            loaded_at=loaded_at,
            version=version,
            tenant=Tenant.of(organization_id, terms, *(tenant_read or (loaded_at, version))),
            digest=asked.digests[digest],
            limits=self._limits[limits],
        )
        return _entry(asked, key, until, times)

    def release(self, row: bytes) -> None:
        """Remove the references of a row."""
        *_, rights, limits, read, _, length, other_length, id_, other_id = self._row.unpack(row)
        self._rights.count_out(rights)
        self._limits.count_out(limits)
        self._tenants.count_out(read)
        self._ids.release(length, id_)
        self._ids.release(other_length, other_id)

    def _undo(
        self, parts: tuple[int | None, int | None, int | None], ids: tuple[tuple[int, bytes] | None, ...]
    ) -> None:
        """Remove the references of a row that could not be packed."""
        rights, limits, tenant = parts
        if rights is not None:
            self._rights.count_out(rights)
        if limits is not None:
            self._limits.count_out(limits)
        if tenant is not None:
            self._tenants.count_out(tenant)
        for id_ in ids:
            if id_ is not None:
                self._ids.release(*id_)


class TenantRows:
    """Organizations by their ids."""

    _row = Struct(f"<{_TIMES}dQI")
    size = _row.size

    def __init__(self, *, parts: int = SHARED_VALUES_MAX) -> None:
        self._terms: SharedValues[TenantTerms] = SharedValues(at_most=parts)

    def name(self, asked: str) -> Hashable:
        """Return the id itself."""
        return asked

    def code(self, name: Hashable) -> bytes:
        """Return a digest of the id, which may be of any length."""
        return hashlib.blake2b(str(name).encode("utf-8", "surrogatepass"), digest_size=CODE).digest()

    def pack(self, entry: Entry[str, Tenant]) -> bytes | None:
        """Return a row; None where there are too many terms, or the record is not that of the id."""
        tenant = entry.record
        number = self._terms.count_in(tenant.terms, tenant.terms) if tenant.id == entry.asked else None
        if number is None:
            return None
        return self._row.pack(*_times(entry), tenant.loaded_at, tenant.version, number)

    def unpack(self, asked: str, until: float, row: bytes) -> Entry[str, Tenant]:
        """Return the entry of a row."""
        *times, loaded_at, version, number = self._row.unpack(row)
        return _entry(asked, Tenant.of(asked, self._terms[number], loaded_at, version), until, times)

    def release(self, row: bytes) -> None:
        """Remove the reference of a row to its terms."""
        *_, number = self._row.unpack(row)
        self._terms.count_out(number)


def _times(entry: Entry[Asked, Record]) -> tuple[float, float, float, float]:
    return entry.ends, entry.read_at, entry.taken_at, entry.renew_at


def _entry(asked: Asked, record: Record, until: float, times: Sequence[float]) -> Entry[Asked, Record]:
    ends, read_at, taken_at, renew_at = times
    return Entry(
        asked,
        record,
        read_at,
        taken_at,
        _ANY_EPOCH,
        until=until,
        good_until=min(until, record.ends_at),
        ends=ends,
        renew_at=renew_at,
        used_at=0.0,
    )


def _uuid(id_: str) -> bytes | None:
    """Return the bytes of a UUID in its usual form; None for any other text."""
    try:
        raw = bytes.fromhex(id_.replace("-", ""))
    except ValueError:
        return None
    return raw if len(raw) == CODE and _dashed(raw.hex()) == id_ else None


def _dashed(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
