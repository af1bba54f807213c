"""Explains a decision by making it: the steps of a check on parts that charge, note and keep nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol

from extauthz.core.check_result import CheckResult
from extauthz.core.credentials import Credential, KeyFormat
from extauthz.core.decision import Decision, Deny
from extauthz.core.errors import InvalidInput, NotFound, StoreUnavailable
from extauthz.core.explanation import ExplainQuestion, Explanation, NamedKey, Step, StepName, StepOutcome
from extauthz.core.failure import OnRedisDown
from extauthz.core.masking import shown
from extauthz.core.ports import CounterReader, LimitStore, UsageStore
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import RouteTable
from extauthz.core.spend import Row, Spend
from extauthz.service.check.authenticate import ApiKeys, Authentication, Presented
from extauthz.service.check.explain.findings import Findings, LookupParts, RecordedLookup
from extauthz.service.check.explain.identity_steps import key_step, organization_step, permission_step
from extauthz.service.check.explain.limits_step import limits_step
from extauthz.service.check.explain.peek import Peek
from extauthz.service.check.explain.request_steps import credential_step, host_step, path_step, route_step
from extauthz.service.check.explain.seen import STEPS, Seen
from extauthz.service.check.pipeline import CheckService
from extauthz.service.check.rate_limit import RateLimit
from extauthz.service.directory.lookup import Lookup

TIMEOUT_SECONDS = 5.0  # for a store; a person waits longer than a check
SECRET_MIN = 8  # characters of a key from which it is taken out of what is told
NO_DIGEST = "0" * 64  # the digest of no key

_TOLD: Mapping[StepName, Callable[[Seen, StepOutcome], Step]] = {
    "path": path_step,
    "host": host_step,
    "route": route_step,
    "credential": credential_step,
    "key": key_step,
    "organization": organization_step,
    "permission": permission_step,
    "limits": limits_step,
}
_WITHOUT_KEY: tuple[StepName, ...] = ("credential", "key", "organization", "permission")


class KeyNames(Protocol):
    """Finds keys with their names by their ids. Raises StoreUnavailable."""

    async def find(self, key_id: str) -> NamedKey | None:
        """The key with that id; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Ground:
    """What a check stands on, to be read only.

    `authentication` makes what proves credentials on a lookup. `names` None: keys are in external tables, which have no
    names for them. `peppers` are the ids of those that are set. `statuses` says for each dialect what its listener
    answers to a decision. `usage` None: no usage is kept.
    """

    routes: RouteTable
    key_format: KeyFormat
    authentication: Callable[[Lookup], Authentication]
    peppers: frozenset[str]
    lookup: LookupParts
    limits: LimitStore
    counters: CounterReader
    usage: UsageStore | None
    names: KeyNames | None
    on_redis_down: OnRedisDown
    statuses: Mapping[str, Callable[[Decision], int]]


class _OfNamedKey(Authentication):
    """Authenticates a request of a key that was named by its id: its credential is the one that its client presents."""

    def __init__(self, authenticator: ApiKeys, credential: Credential) -> None:
        super().__init__([authenticator])
        self._presented = Presented(authenticator, credential)

    def read(self, authorization: Sequence[str]) -> Presented[Any]:  # noqa: ARG002 - the key was named
        return self._presented


class _NotMetered:
    """A Meter that counts nothing."""

    def note(self, asked: Spend, row: Row, reason: Reason) -> None:
        """Nothing was spent."""


class Explain:
    """Explains what would be decided of a request now, or at another time."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def explain(self, question: ExplainQuestion) -> Explanation:
        """The decision and its steps. Nothing is charged, counted, noted or kept.

        Raises InvalidInput, NotFound (of a key by its id), and StoreUnavailable where that cannot be looked for.
        """
        ground = self._ground
        if question.dialect not in ground.statuses:
            known = ", ".join(ground.statuses)
            raise InvalidInput(f"dialect must be one of {known} (got {shown(question.dialect)})")
        named = None if question.key_id is None else await self._named(question.key_id)
        seen = await self._seen(question, named)
        decision = seen.result.decision
        hide = self._hider(question)
        steps = [_hidden(step, hide) for step in _steps(seen)]
        code = hide(decision.code) if isinstance(decision, Deny) else None
        return Explanation(decision.reason, ground.statuses[question.dialect](decision), code, steps)

    async def _seen(self, question: ExplainQuestion, named: NamedKey | None) -> Seen:
        ground, clock = self._ground, self._ground.lookup.cache_context.clock
        now = clock()
        request = _request(question, now if question.at is None else question.at)
        findings = Findings()
        around = replace(ground.lookup.cache_context, observer=findings)
        lookup = RecordedLookup(replace(ground.lookup, cache_context=around), findings)
        peek = Peek(
            ground.limits,
            ground.counters,
            ground.usage,
            redis=around.redis,
            postgresql=around.postgresql,
            clock=clock,
        )
        try:
            result = await self._check(self._authentication(lookup, named), peek, findings).check(request)
        finally:
            await lookup.close()
        return Seen(
            table=ground.routes,
            request=request,
            result=result,
            key=lookup.found_key,
            tenant=lookup.found_tenant,
            peek=peek,
            would=findings.would,
            named=named or await self._name(result),
            by_id=named is not None,
            pepper_missing=named is not None and named.pepper_id not in ground.peppers,
            kept_elsewhere=ground.names is None,
            layers=lookup.layers,
            on_redis_down=ground.on_redis_down,
            troubles={guard.name: guard.detail for guard in (around.postgresql, around.redis)},
            path=request.path.partition("?")[0],
            now=now,
            moved=question.at is not None,
        )

    def _check(self, authentication: Authentication, peek: Peek, findings: Findings) -> CheckService:
        """The service that answers checks, on parts of this one explanation, observed by nothing."""
        limiting = RateLimit(
            peek, _NotMetered(), on_redis_down=self._ground.on_redis_down, charge_once=False, observer=findings
        )
        return CheckService(routes=self._ground.routes, authentication=authentication, limiting=limiting, observers=())

    def _authentication(self, lookup: RecordedLookup, named: NamedKey | None) -> Authentication:
        """What proves the credential; a named key whose pepper is not set any more is one that no digest leads to."""
        if named is None:
            return self._ground.authentication(lookup)
        digest = named.digest if named.pepper_id in self._ground.peppers else NO_DIGEST
        return _OfNamedKey(ApiKeys(self._ground.key_format, lookup), Credential((digest,)))

    async def _named(self, key_id: str) -> NamedKey:
        if self._ground.names is None:
            raise InvalidInput(
                "key_id: keys come from [keys] lookup_sql, which finds a key by itself alone; give the key"
            )
        named = await self._ground.names.find(key_id)
        if named is None:
            raise NotFound(f"there is no key with the id {shown(key_id)}; extauthz keys list ORG shows ids")
        return named

    async def _name(self, result: CheckResult) -> NamedKey | None:
        """What the key that was found is called, as far as PostgreSQL is there to say it."""
        if self._ground.names is None or result.subject is None or not self._ground.lookup.stores.postgresql.up:
            return None
        try:
            return await self._ground.names.find(result.subject.id)
        except StoreUnavailable:
            return None

    def _hider(self, question: ExplainQuestion) -> Callable[[str], str]:
        """What takes keys out of a text: those of our form, and the one that was given."""
        key, own = question.key or "", self._ground.key_format.hide
        if len(key) < SECRET_MIN:
            return own
        return lambda text: own(text.replace(key, "…"))


def _request(question: ExplainQuestion, at: float) -> CheckRequest:
    started = monotonic()
    return CheckRequest(
        dialect=question.dialect,
        method=question.method,
        path=_as_sent(question.path),
        host=_as_sent(question.host),
        authorization=() if question.key is None else (f"Bearer {question.key}",),
        request_id="",
        client_address=question.address,
        now=at,
        started=started,
        deadline=started + TIMEOUT_SECONDS,
    )


def _as_sent(text: str) -> str:
    """A text as a request carries it: what is not ASCII are the bytes of UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape")


def _steps(seen: Seen) -> list[Step]:
    """All steps in their order: what comes behind a refusal, or is not asked on a public route, is skipped."""
    public = seen.route is not None and seen.route.public
    unlimited = public and seen.peek.asked is None
    told: list[Step] = []
    outcome: StepOutcome = "ok"
    for name in STEPS:
        if outcome == "refused":
            outcome = "skipped"
        elif outcome == "ok" and name == seen.refused_at:
            outcome = "refused"
        off = (public and name in _WITHOUT_KEY) or (name == "limits" and unlimited)
        off = off or (name == "host" and not seen.table.names_hosts) or (name == "credential" and seen.by_id)
        told.append(_TOLD[name](seen, "skipped" if off else outcome))
    return told


def _hidden(step: Step, hide: Callable[[str], str]) -> Step:
    return Step(step.name, step.outcome, _without_keys(dict(step.facts), hide), hide(step.why), hide(step.next))


def _without_keys(value: Any, hide: Callable[[str], str]) -> Any:
    """A JSON value without keys in its texts; bytes of a request that are not text become escapes."""
    if isinstance(value, str):
        return hide(value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    if isinstance(value, dict):
        return {name: _without_keys(each, hide) for name, each in value.items()}
    return [_without_keys(each, hide) for each in value] if isinstance(value, list) else value
