"""Records of the local cache, for checks that are answered without asking a store."""

from collections.abc import Hashable

from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.core.tenants import Tenant
from extauthz.service.directory.entry import Entry
from extauthz.service.directory.lookup import Lookup

KeyEntry = Entry[Credential, ApiKey]
TenantEntry = Entry[str, Tenant]
Names = tuple[Hashable, Hashable]


class KnownRecords:
    """A key and its organization as they are held; `tenant_entry` None where the organization has no record of its own.

    They may be used without asking further before `until` (Unix seconds) and `ends` (monotonic seconds).
    """

    __slots__ = (
        "ends", "epoch", "key", "key_entry", "key_name", "taken_at",
        "tenant", "tenant_entry", "tenant_name", "until", "used", "used_at",
    )  # fmt: skip

    def __init__(self, names: Names, key_entry: KeyEntry, tenant_entry: TenantEntry | None, *, epoch: int) -> None:
        """`names` are those of the two records in their caches."""
        self.key_name, self.tenant_name = names
        self.key_entry = key_entry
        self.tenant_entry = tenant_entry
        self.epoch = epoch  # of changes, in which both were admitted
        self.key = key_entry.record
        self.tenant = self.key.tenant if tenant_entry is None else tenant_entry.record
        self.used, self.used_at = 0, 0.0  # how often since then, which is not counted yet
        self.until = key_entry.good_until
        self.ends = key_entry.ends
        self.taken_at = key_entry.taken_at
        if tenant_entry is not None:
            self.until = min(self.until, tenant_entry.good_until)
            self.ends = min(self.ends, tenant_entry.ends)
            self.taken_at = min(self.taken_at, tenant_entry.taken_at)


class Known:
    """Finds records that may be used without asking further, and checks whether they still may."""

    def __init__(self, lookup: Lookup) -> None:
        context = lookup.cache_context
        self._observer = context.observer
        self._used: list[KnownRecords] = []  # in the second that ends then
        self._second_ends = 0.0
        self._invalidations, self._freshness = context.invalidations, context.freshness
        self._last_used = lookup.last_used
        self._keys = lookup.keys.local if lookup.caches_keys else None
        self._tenants = None if lookup.tenants is None else lookup.tenants.local
        self._key_entry = lookup.keys.local.held.get
        self._tenant_entry = None if self._tenants is None else self._tenants.held.get

    def find(self, credential: Credential, now: float) -> KnownRecords | None:
        """Return the records of a key in force at `now` (Unix seconds); None where a store has to be asked."""
        keys, tenants = self._keys, self._tenants
        key_entry = None if keys is None else keys.find(credential, now)
        if keys is None or key_entry is None:
            return None
        tenant_entry: TenantEntry | None = None
        tenant_name: Hashable = ""
        if tenants is not None:
            tenant_id = key_entry.record.tenant.id
            tenant_entry, tenant_name = tenants.find(tenant_id, now), tenants.name(tenant_id)
            if tenant_entry is None:
                return None
        return KnownRecords(
            (keys.name(credential), tenant_name), key_entry, tenant_entry, epoch=self._invalidations.epoch
        )

    def use(self, known: KnownRecords, now: float, started: float) -> bool:
        """Note a use of records; return False, and note nothing, where they have ended, changed or been evicted.

        `now` in Unix seconds, `started` in monotonic ones.
        """
        key_entry, tenant_entry = known.key_entry, known.tenant_entry
        if (
            now >= known.until
            or started >= known.ends
            or self._key_entry(known.key_name) is not key_entry
            or known.taken_at < self._freshness.since
        ):
            return False
        if tenant_entry is not None:
            if self._tenant_entry is None or self._tenant_entry(known.tenant_name) is not tenant_entry:
                return False
            tenant_entry.used_at = now
        if known.epoch != self._invalidations.epoch and not self._admit(known):
            return False
        key_entry.used_at = now
        self._last_used.note(known.key.id, now)
        if now >= self._second_ends or now < self._second_ends - 1:
            self.count()
            self._second_ends = now + 1
        if not known.used:
            known.used_at = now
            self._used.append(known)
        known.used += 1
        return True

    def take_back(self, known: KnownRecords) -> None:
        """Take back a use that was noted just now: its check asks for the records elsewhere."""
        known.used -= 1

    def count(self) -> None:
        """Tell the observer of all uses; it is called at least once a second while there are any."""
        used, self._used = self._used, []
        for known in used:
            self._observer.cache_read("api_key", "process", known.used_at - known.key.loaded_at, known.used)
            if known.tenant_entry is not None:
                self._observer.cache_read("tenant_quota", "process", known.used_at - known.tenant.loaded_at, known.used)
            known.used = 0

    def _admit(self, known: KnownRecords) -> bool:
        """Whether the records include every change that has arrived since."""
        if self._keys is None or not self._keys.is_current(known.key_entry):
            return False
        tenant_entry = known.tenant_entry
        if tenant_entry is not None and (self._tenants is None or not self._tenants.is_current(tenant_entry)):
            return False
        known.epoch = self._invalidations.epoch
        return True
