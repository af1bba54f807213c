"""Records that this process holds, for checks that are to ask nothing else."""

from collections.abc import Callable, Hashable

from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.core.tenants import Tenant
from extauthz.service.directory.entry import Entry
from extauthz.service.directory.lookup import Lookup

KeyEntry = Entry[Credential, ApiKey]
TenantEntry = Entry[str, Tenant]
Names = tuple[Hashable, Hashable]


class KnownRecords:
    """A key and its organization as they are held: `tenant_entry` None where it has no record of its own.

    They answer by themselves before `until` (Unix seconds) and `ends` (monotonic seconds).
    """

    __slots__ = (
        "ends", "epoch", "key", "key_entry", "key_name", "taken_at",
        "tenant", "tenant_entry", "tenant_name", "until", "used", "used_at",
    )  # fmt: skip

    def __init__(self, names: Names, key_entry: KeyEntry, tenant_entry: TenantEntry | None, *, epoch: int) -> None:
        """`names` are those that both are held under."""
        self.key_name, self.tenant_name = names
        self.key_entry = key_entry
        self.tenant_entry = tenant_entry
        self.epoch = epoch  # of changes, in which both were admitted
        self.key = key_entry.record
        self.tenant = self.key.tenant if tenant_entry is None else tenant_entry.record
        self.used, self.used_at = 0, 0.0  # how often since that moment, which is not counted yet
        self.until = key_entry.good_until
        self.ends = key_entry.ends
        self.taken_at = key_entry.taken_at
        if tenant_entry is not None:
            self.until = min(self.until, tenant_entry.good_until)
            self.ends = min(self.ends, tenant_entry.ends)
            self.taken_at = min(self.taken_at, tenant_entry.taken_at)


class Known:
    """Finds records that answer by themselves, and tells as long as they do."""

    def __init__(self, lookup: Lookup) -> None:
        around = lookup.cache_context
        self._observer = around.observer
        self._used: list[KnownRecords] = []  # in the second that ends then
        self._second_ends = 0.0
        self._fences, self._belief, self._last_used = around.invalidations, around.freshness, lookup.last_used
        self._keys = lookup.keys.local if lookup.caches_keys else None
        self._tenants = None if lookup.tenants is None else lookup.tenants.local
        self._key_entry = lookup.keys.local.held.get
        self._tenant_entry = None if self._tenants is None else self._tenants.held.get

    def tell_left(self, left: Callable[[KeyEntry], None]) -> None:
        """Has `left` told of each key that is in use no longer."""
        if self._keys is not None:
            self._keys.held.left = left

    def find(self, credential: Credential, now: float) -> KnownRecords | None:
        """The records of a key in force at `now` (Unix seconds); None where a layer below has to be asked."""
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
        return KnownRecords((keys.name(credential), tenant_name), key_entry, tenant_entry, epoch=self._fences.epoch)

    def use(self, known: KnownRecords, now: float, started: float) -> bool:
        """Notes a use of records, where they still answer by themselves and are held unchanged; whether that is so.

        `now` in Unix seconds, `started` in monotonic ones.
        """
        key_entry, tenant_entry = known.key_entry, known.tenant_entry
        if (
            now >= known.until
            or started >= known.ends
            or self._key_entry(known.key_name) is not key_entry
            or known.taken_at < self._belief.since
        ):
            return False
        if tenant_entry is not None:
            if self._tenant_entry is None or self._tenant_entry(known.tenant_name) is not tenant_entry:
                return False
            tenant_entry.used_at = now
        if known.epoch != self._fences.epoch and not self._admit(known):
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
        """A use that was noted just now is not counted: its check asks for the records elsewhere."""
        known.used -= 1

    def count(self) -> None:
        """Tells the observer of all uses; it is called at least once a second while there are any."""
        used, self._used = self._used, []
        for known in used:
            self._observer.cache_read("api_key", "process", known.used_at - known.key.loaded_at, known.used)
            if known.tenant_entry is not None:
                self._observer.cache_read("tenant_quota", "process", known.used_at - known.tenant.loaded_at, known.used)
            known.used = 0

    def _admit(self, known: KnownRecords) -> bool:
        """Whether the records know of every change that was heard since."""
        if self._keys is None or not self._keys.believes(known.key_entry):
            return False
        tenant_entry = known.tenant_entry
        if tenant_entry is not None and (self._tenants is None or not self._tenants.believes(tenant_entry)):
            return False
        known.epoch = self._fences.epoch
        return True
