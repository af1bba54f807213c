"""What follows from a credential at a route, worked out once and used as long as the same records hold.

Of a check that comes again, everything before its limits is a look-up here: no task, no coroutine, no raw key. What
cannot be told from records in this process is not remembered, and takes the pipeline.
"""

import os
from collections.abc import Hashable
from hashlib import blake2s
from typing import Any, Generic, TypeVar

from extauthz.core.addresses import address_group
from extauthz.core.credentials import Credential, NoCredential
from extauthz.core.decision import Allow, Decision, Deny, deny
from extauthz.core.reason import Reason
from extauthz.core.routes import Match
from extauthz.core.spend import Spend
from extauthz.core.subject import Identity, Subject
from extauthz.service.check.authenticate import Authentication
from extauthz.service.check.pipeline import CheckService, public_spend
from extauthz.service.directory.known_records import KeyEntry, Known, KnownRecords

PLACES_MAX = 1_024  # methods with paths, at each door; more of them cost more than to find their routes again
REMEMBERED_MAX = 20_000  # some 1,500 bytes each, and none is kept longer than its key is in use
DENIED_MAX = ADDRESSES_MAX = 5_000  # fewer of what clients can make as many of as they like
OF_ONE_KEY_MAX = 256  # with all of them, none stays when one more comes

Name = TypeVar("Name", bound=Hashable)
Kept = TypeVar("Kept")


class Bounded(Generic[Name, Kept]):
    """The last things that were put in, each let go when as many others have come."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._kept: dict[Name, Kept] = {}
        self._order: list[Name] = []
        self._oldest = 0
        self.get = self._kept.get

    def put(self, name: Name, thing: Kept) -> None:
        """Keeps a thing in place of the one of that name, or of the oldest."""
        if name not in self._kept:
            if len(self._order) < self._at_most:
                self._order.append(name)
            else:
                self._kept.pop(self._order[self._oldest], None)
                self._order[self._oldest] = name
                self._oldest = (self._oldest + 1) % self._at_most
        self._kept[name] = thing

    def drop(self, name: Name) -> None:
        """Lets a thing go now."""
        self._kept.pop(name, None)


class Remembered:
    """What follows from a credential, or a client's address, at a route.

    `decision` where limits are not asked; else they decide, by `spend`, for `identity`. `subject` is the one that was
    found. It holds as long as `records` do. `kept` is for the door that answers.
    """

    __slots__ = ("decision", "identity", "kept", "records", "route", "shadow", "spend", "subject", "why")

    def __init__(self, route: Match | None, decision: Decision | None = None, *, why: str = "") -> None:
        self.route = route
        self.decision = decision
        self.why = why
        self.identity: Identity | None = None
        self.spend: Spend | None = None
        self.shadow = False
        self.subject: Subject | None = None
        self.records: KnownRecords | None = None
        self.kept: Any = None


class RememberedKeys:
    """What follows from keys: kept as long as their entries are in use, because it holds records as objects."""

    def __init__(self) -> None:
        self.checks: Bounded[bytes, Remembered] = Bounded(REMEMBERED_MAX)

    def note(self, name: bytes, entry: KeyEntry) -> None:
        """Note that a check of this name follows from an entry."""
        if name not in entry.remembered:
            if len(entry.remembered) >= OF_ONE_KEY_MAX:
                self.drop(entry)
            entry.remembered += (name,)

    def drop(self, entry: KeyEntry) -> None:
        """Drop what follows from an entry that is in use no longer."""
        for name in entry.remembered:
            self.checks.drop(name)
        entry.remembered = ()


class Place:
    """Where requests of a method, a path and a host lead. `always`: the same for every request there.

    What is remembered is of one `door`, which keeps answers in its own words with it.
    """

    __slots__ = ("always", "anonymous", "digest", "match", "public")

    def __init__(self, found: Match | Deny, *, door: str) -> None:
        self.match = found if isinstance(found, Match) else None
        self.public = self.match is not None and self.match.public
        self.always: Remembered | None = None
        self.anonymous = Remembered(self.match, deny(Reason.NO_CREDENTIALS))
        if isinstance(found, Deny):
            self.always = Remembered(None, found)
        elif found.public and found.bucket is None:
            self.always = Remembered(found, Allow())
        self.digest = blake2s(repr((door, self.match)).encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Memory:
    """Remembers what follows from credentials at places. All of it is bounded, whatever clients ask."""

    def __init__(
        self, service: CheckService, authentication: Authentication, known: Known, *, of_keys: RememberedKeys
    ) -> None:
        self._service = service
        self._authentication = authentication
        self._known = known
        self._secret = os.urandom(32)
        self._of_keys = of_keys
        self._remembered = of_keys.checks
        self._denied: Bounded[bytes, Remembered] = Bounded(DENIED_MAX)
        self._public: Bounded[tuple[Place, str], Remembered] = Bounded(ADDRESSES_MAX)

    def find(self, place: Place, authorization: bytes | None, now: float, started: float) -> Remembered | None:
        """What follows from a credential at a place; None where only the pipeline can tell. Its records are then used.

        `authorization` None: there is no such header. `now` in Unix seconds, `started` in monotonic ones.
        """
        if authorization is None:
            return place.anonymous
        name = blake2s(authorization, key=self._secret, digest_size=16).digest() + place.digest
        found = self._remembered.get(name)
        if found is None:
            found = self._denied.get(name) or self._add(name, place, authorization, now)
        if found is None:
            return None
        if found.records is None or self._known.use(found.records, now, started):
            return found
        again = self._add(name, place, authorization, now)
        if again is None or again.records is None or self._known.use(again.records, now, started):
            return again
        return None

    def leave(self, found: Remembered) -> None:
        """What was found is not used after all: the pipeline answers, and counts the use of records itself."""
        if found.records is not None:
            self._known.take_back(found.records)

    def public(self, place: Place, address: str) -> Remembered:
        """What a client at `address` asks of the bucket of a public place."""
        name = place, address_group(address)
        found = self._public.get(name)
        if found is None:
            match = place.match
            assert match is not None and match.bucket is not None  # noqa: S101, PT018 - others have an `always`
            found = Remembered(match)
            found.spend = public_spend(match.bucket, address)
            found.shadow = match.shadow
            self._public.put(name, found)
        return found

    def _add(self, name: bytes, place: Place, authorization: bytes, now: float) -> Remembered | None:
        match = place.match
        if match is None:
            return None
        presented = self._authentication.read((authorization.decode("ascii"),))
        if isinstance(presented, NoCredential):
            found = Remembered(match, deny(presented.reason), why=presented.flaw)
            self._denied.put(name, found)
            return found
        credential = presented.credential
        of_key = match.cache and isinstance(credential, Credential)
        records = self._known.find(credential, now) if of_key else None
        if records is None:
            return None
        granted = self._granted(match, records, now)
        if granted is not None:
            among, other = (self._remembered, self._denied) if granted.spend else (self._denied, self._remembered)
            other.drop(name)
            among.put(name, granted)
            if among is self._remembered:
                self._of_keys.note(name, records.key_entry)
        return granted

    def _granted(self, match: Match, records: KnownRecords, now: float) -> Remembered | None:
        """What follows from records; None where limits in shadow refuse it, which is counted each time."""
        key, tenant = records.key, records.tenant
        found = Remembered(match)
        found.subject, found.records = key, records
        if tenant.suspended:
            found.decision = deny(Reason.ORGANIZATION_SUSPENDED)
            return found
        authorized = self._service.authorizations.of(key, tenant, match, now)
        found.shadow = tenant.shadow or match.shadow
        if isinstance(authorized.identity, Deny):
            found.decision = authorized.identity
            return found
        records.until = min(records.until, authorized.until)
        if isinstance(authorized.asked, Reason):
            if found.shadow:
                return None
            found.decision = deny(authorized.asked)
        else:
            found.identity, found.spend = authorized.identity, authorized.asked
        return found
