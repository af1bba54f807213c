"""An explanation agrees with the decision of a check, for any request, key, limits and states of stores."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.decision import Decision, Deny
from extauthz.core.errors import StoreCorrupt
from extauthz.core.explanation import Explanation
from extauthz.core.failure import OnRedisDown
from extauthz.core.keys import ApiKey
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.permissions import Permissions
from extauthz.core.ports import POSTGRESQL
from extauthz.core.reason import OUTCOMES
from extauthz.core.routes import Route
from extauthz.service.check.explain.seen import STEPS
from extauthz.transports.http.dialect import Dialect
from tests.generated import examples
from tests.unit.service.explaining import DIALECTS, explain_of, traces
from tests.unit.service.explaining import asked as question
from tests.unit.service.fakes import KEY, KEY_FORMAT, NOW, ROUTES, SECRET, TENANT, open_house

FAR = 30 * 86_400.0
POST = frozenset({"POST"})
TABLES = (
    ROUTES,
    (
        *ROUTES,
        Route("/api/{resource}/**", host="api.example.com", methods=POST, limits="shadow"),
        Route("/api/customers/*", methods=frozenset({"GET"}), resource="customer", cost=3),
        Route("/api/a%20b/**", resource="customer", mode="write"),
    ),
)
PATHS = (
    "/",
    "/api/customers/7",
    "/api/customers/7?key=1",
    "/api/customer/7",
    "/api/beta/x",
    "/api/reports/1",
    "/api/vault/1",
    "/api/a%20b/1",
    "/api/a b/1",
    "/api/no.name/1",
    "/public/x",
    "/public/search",
    "/public//x",
    "/api/../x",
    "/api/%41",
    "/nowhere",
    "nowhere",
    "/\udcff",
)
HOSTS = ("api.example.com", "API.example.com:443", "other.example", "", "a..b", "127.1")
WRONG = SECRET[:-1] + ("a" if SECRET[-1] != "a" else "b")
KEYS = (
    SECRET,
    SECRET,
    SECRET,
    None,
    "",
    "two words",
    "short",
    "aaaaa.bbbbb.ccccc",
    WRONG,
    SECRET.replace("live", "test"),
    KEY_FORMAT.issue(bytes(20)),
    "an-imported-key-of-another-system",
    "\u00fc" * 20,
)
LIMITS = (UNLIMITED, Limits(Rate(1, 1), 2, None, None), Limits(None, None, 3, 5), Limits(None, None, 0, None))
TIMES = (None, NOW - 60, NOW + 60)


ANYTHING = st.text(max_size=12).map("/{}".format)
MAPS: tuple[Permissions, ...] = (
    {"customer": frozenset({"read"})},
    {"customers": frozenset({"read", "write"})},
    {},
)
# The usual value of each part of a case, and others.
PARTS: Mapping[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "method": ("GET", st.sampled_from(("POST", "HEAD", "get", "PURGE"))),
    "path": ("/api/customers/7", st.sampled_from(PATHS) | st.sampled_from(PATHS) | ANYTHING),
    "host": ("api.example.com", st.sampled_from(HOSTS)),
    "key": (SECRET, st.sampled_from(KEYS)),
    "address": ("", st.sampled_from(("192.0.2.1", "2001:db8::1", "nonsense"))),
    "status": ("active", st.just("suspended")),
    "limits": (UNLIMITED, st.sampled_from(LIMITS)),
    "plan_limits": (UNLIMITED, st.sampled_from(LIMITS)),
    "overrides_until": (None, st.sampled_from(TIMES)),
    "shadow": (False, st.just(True)),
    "permissions": ({"*": frozenset({"read", "write"})}, st.sampled_from(MAPS)),
    "expires_at": (None, st.sampled_from(TIMES)),
    "revoked_at": (None, st.sampled_from(TIMES)),
    "disabled_at": (None, st.sampled_from(TIMES)),
    "own_limits": (UNLIMITED, st.sampled_from(LIMITS)),
    "routes": (ROUTES, st.just(TABLES[1])),
    "on_redis_down": (OnRedisDown.OPEN, st.just(OnRedisDown.CLOSED)),
    "cache_keys": (True, st.just(False)),
    "asked_before": (0, st.sampled_from((1, 2, 4))),
    "lost": ((), st.sampled_from((("postgresql",), ("redis",), ("postgresql", "redis")))),
    "corrupt": (False, st.just(True)),
    "live": (True, st.just(False)),
}


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A request that passes, but for some parts."""
    other = draw(st.sets(st.sampled_from(sorted(PARTS)), max_size=5))
    return {name: draw(values) if name in other else usual for name, (usual, values) in PARTS.items()}


def key_of(case: Mapping[str, Any]) -> ApiKey:
    """The key of a case, with its organization."""
    of_tenant = ("status", "limits", "plan_limits", "overrides_until", "shadow")
    of_key = ("permissions", "expires_at", "revoked_at", "disabled_at")
    tenant = replace(TENANT, **{name: case[name] for name in of_tenant})
    return replace(KEY, tenant=tenant, limits=case["own_limits"], **{name: case[name] for name in of_key})


def as_sent(case: Mapping[str, Any]) -> dict[str, Any]:
    """The request of a case as FakeService.ask takes it."""
    path = case["path"].encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape")
    return {"path": path, "method": case["method"], "host": case["host"], "client_address": case["address"]}


@given(cases())
@examples(16, 3000)
@pytest.mark.fuzz
async def test_explanation_agrees_with_a_check(case: Mapping[str, Any]) -> None:
    """In every dialect: the same decision, status and code; and it leaves everything as it was."""
    setup = {name: case[name] for name in ("routes", "on_redis_down", "cache_keys")}
    request, header = as_sent(case), "" if case["key"] is None else f"Bearer {case['key']}"
    async with open_house(**setup) as fake_service:
        fake_service.store(key_of(case))
        for _ in range(case["asked_before"]):
            await fake_service.ask(request["path"], header, **without_path(request), now=fake_service.now)
        if case["corrupt"]:
            fake_service.keys.error = StoreCorrupt(POSTGRESQL, "permissions must be an object")
        for store in case["lost"]:
            await fake_service.lose(getattr(fake_service, store))
        before = traces(fake_service)
        # What only this process holds, others cannot see: they are compared where it holds nothing.
        explain = explain_of(fake_service, live=case["live"] or case["asked_before"] > 0, **setup)
        asked = question(**{name: case[name] for name in ("method", "path", "host", "key", "address")})
        told = [await explain.explain(replace(asked, dialect=dialect.name)) for dialect in DIALECTS]
        assert traces(fake_service) == before
        decision = await fake_service.ask(request["path"], header, **without_path(request), now=fake_service.now)
    for dialect, explanation in zip(DIALECTS, told, strict=True):
        check(explanation, decision, dialect)


def without_path(request: Mapping[str, Any]) -> dict[str, Any]:
    """All but the first argument of FakeService.ask."""
    return {name: value for name, value in request.items() if name != "path"}


def check(explanation: Explanation, decision: Decision, dialect: Dialect) -> None:
    """Asserts that an explanation is one of this decision, in this dialect."""
    assert explanation.reason is decision.reason
    assert explanation.status == dialect.render(decision).status
    assert explanation.true_status == OUTCOMES[decision.reason].status
    assert explanation.code == (decision.code if isinstance(decision, Deny) else None)
    outcomes = [step.outcome for step in explanation.steps]
    assert [step.name for step in explanation.steps] == list(STEPS)
    assert outcomes.count("refused") == isinstance(decision, Deny)
    if "refused" in outcomes:
        at = outcomes.index("refused")
        assert set(outcomes[at + 1 :]) <= {"skipped"}
        assert explanation.steps[at].why
