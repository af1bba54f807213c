"""What each step of an explanation says, and that it has no effect."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from extauthz.cli import explain_texts
from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.core.errors import InvalidInput, NotFound, StoreUnavailable
from extauthz.core.explanation import Explanation
from extauthz.core.failure import OnRedisDown
from extauthz.core.limits import Limits, Rate
from extauthz.core.ports import REDIS
from extauthz.core.routes import Route
from extauthz.core.spend import MICRO, NotApplied, Spend, Spent, unchecked_spend
from extauthz.core.token_bucket import State
from extauthz.core.usage import Seed
from extauthz.service.check.explain.peek import Peek
from tests.unit.service.explaining import Names, asked, explain_of, step
from tests.unit.service.fakes import KEY, KEY_FORMAT, NOW, SECRET, TENANT, FakeService, open_house

OF_TEST = KeyFormat(prefix="xa", env="test", peppers=[Pepper("new", b"n" * 32)]).issue(bytes(20))
HOSTED = (Route("/api/{resource}/**", host="api.example.com"), Route("/search", public=True, rate="1/s", burst=1))


def facts(explanation: Explanation, name: str) -> dict[str, Any]:
    """What one step saw."""
    return dict(step(explanation, name).facts)


def said(explanation: Explanation) -> str:
    """Why a request is denied, and the advice."""
    refused = next(each for each in explanation.steps if each.outcome == "refused")
    return f"{refused.name}: {refused.why} -> {refused.next}"


def changed(fake_service: FakeService, **changes: Any) -> None:
    """The stored key is another from now on; `tenant` holds changes of its organization."""
    tenant = replace(TENANT, **changes.pop("tenant", {}))
    fake_service.store(replace(KEY, tenant=tenant, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"revoked_at": NOW - 60}, "key: the key was revoked: 2027-01-15T07:59:00Z -> revoked is for good"),
        ({"disabled_at": NOW}, "-> extauthz keys enable key-1"),
        ({"expires_at": NOW}, "the key has expired: 2027-01-15T08:00:00Z -> extauthz keys update key-1"),
        ({"tenant": {"status": "suspended"}}, "is suspended -> extauthz orgs update acme --status active"),
        (
            {"permissions": {"customers": frozenset({"read", "write"})}},
            "-> extauthz keys update key-1 --permission customer:read --permission customer:write",
        ),
        ({"permissions": {}}, "which the key does not hold -> extauthz keys update key-1 --permission customer:read"),
        (
            {"permissions": {"*": frozenset({"write"})}},
            "-> extauthz keys update key-1 --permission '*:write' --permission customer:read",
        ),
        (
            {"tenant": {"limits": Limits(daily_quota=0)}},
            "limits: the cost is above what a limit can ever hold: daily 0",
        ),
        ({"limits": Limits(credits=0)}, "left of key-credits; no wait helps -> extauthz keys credits key-1 add N"),
        ({"tenant": {"limits": Limits(credits=0)}}, "no wait helps -> extauthz orgs credits acme add N"),
        ({"limits": Limits(monthly_quota=0)}, "key-monthly 0 -> extauthz keys update key-1 --monthly-quota N"),
    ],
)
async def test_denial_has_cause_and_advice(changes: dict[str, Any], words: str) -> None:
    """In the words of the step that denied, with the command that changes it."""
    async with open_house() as fake_service:
        changed(fake_service, **changes)
        told = await explain_of(fake_service, names=Names()).explain(asked(key=SECRET))
        assert words in said(told)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"key": OF_TEST}, "EXTAUTHZ_KEY_ENV"),
        ({"key": SECRET[:-1] + ("a" if SECRET[-1] != "a" else "b")}, "check characters"),
        ({"key": "short"}, "fewer than 16 characters"),
        ({"key": "two words here"}, "no bearer token"),
        ({"key": KEY_FORMAT.issue(bytes(20))}, "no such key"),
        ({}, "no key was sent -> send Authorization: Bearer KEY"),
        ({"method": "get", "path": "/search"}, "ask with GET"),
        ({"host": ""}, "the host is missing, and a route names a host -> name it: an absolute URL, or --host"),
        ({"host": "a..b"}, "host: the host is not a plain name"),
        ({"path": "/api/a/../b"}, "path: the path has a segment `..`"),
        ({"path": "/nowhere"}, "route: no route takes the request"),
    ],
)
async def test_denials_independent_of_the_key(question: dict[str, Any], words: str) -> None:
    """What is wrong with the request itself."""
    routes = (*HOSTED, Route("/search", methods=frozenset({"GET"}), host="api.example.com", public=True))
    async with open_house(routes=routes) as fake_service:
        told = await explain_of(fake_service, routes=routes).explain(asked(**question))
        assert words in said(told)


async def test_which_layer_had_the_records_and_how_old_they_are() -> None:
    """PostgreSQL first, then the process, then Redis for a process without a local cache."""
    async with open_house() as fake_service:
        live, alone = explain_of(fake_service), explain_of(fake_service, live=False)
        question = asked(key=SECRET)
        assert facts(await live.explain(question), "key")["layer"] == "postgresql"
        await fake_service.ask()
        await fake_service.lookup.keys.shared()
        fake_service.now += 10
        told = await live.explain(question)
        assert (facts(told, "key")["layer"], facts(told, "key")["age_seconds"]) == ("process", 10.0)
        assert (facts(told, "organization")["layer"], facts(told, "organization")["age_seconds"]) == ("process", 10.0)
        told = await alone.explain(question)
        assert (facts(told, "key")["layer"], facts(told, "key")["layers"]) == ("redis", ["redis", "postgresql"])
        told = await live.explain(asked("/api/vault/1", key=SECRET))
        assert (facts(told, "key")["layer"], facts(told, "key")["layers"]) == ("postgresql", ["postgresql"])


async def test_at_another_time() -> None:
    """Expiry, limits that end and the calendar are judged at that time; what is left is the present value."""
    async with open_house() as fake_service:
        later = NOW + 40 * 86_400
        changed(
            fake_service,
            expires_at=later,
            tenant={
                "limits": Limits(daily_quota=5),
                "overrides_until": NOW + 3600,
                "plan_limits": Limits(daily_quota=9),
            },
        )
        explain = explain_of(fake_service)
        sizes = {}
        for at in (None, NOW + 7200, later):
            told = await explain.explain(asked(key=SECRET, at=at))
            sizes[at] = told.reason.value, [limit["limit"] for limit in facts(told, "limits")["limits"]]
        assert sizes == {None: ("allow", [5]), NOW + 7200: ("allow", [9]), later: ("invalid_credentials", [])}
        told = await explain.explain(asked(key=SECRET, at=NOW + 86_400))
        assert facts(told, "limits")["day"] == "2027-01-16"
        assert "is of now" in step(told, "limits").why


async def test_limits_that_are_used_up_open_and_closed() -> None:
    """A wait with its seconds; shadow mode says what would be; without Redis the setting decides."""
    async with open_house() as fake_service:
        changed(fake_service, tenant={"limits": Limits(Rate(1, 10), 1, 1, None)})
        await fake_service.ask(now=fake_service.now)
        told = await explain_of(fake_service, names=Names()).explain(asked(key=SECRET, dialect="nginx"))
        assert (told.reason.value, told.status, told.true_status) == ("daily_quota_exceeded", 403, 429)
        limits = facts(told, "limits")
        assert [(limit["name"], limit["remaining"], limit["refused"]) for limit in limits["limits"]] == [
            ("burst", 0, True),
            ("daily", 0, True),
        ]
        assert limits["retry_after"] == 16 * 3600
        assert "extauthz orgs update acme --daily-quota N" in said(told)
        told = await explain_of(fake_service).explain(asked("/api/beta/1", key=SECRET))
        assert (told.reason.value, facts(told, "limits")["would"]) == ("allow", "daily_quota_exceeded")
        assert "shadow" in step(told, "limits").why
        await fake_service.lose(fake_service.redis)
        told = await explain_of(fake_service, on_redis_down=OnRedisDown.CLOSED).explain(asked(key=SECRET))
        assert told.reason.value == "limits_unavailable"
        assert "RATE_LIMIT_ON_REDIS_DOWN=closed" in said(told)
        told = await explain_of(fake_service).explain(asked(key=SECRET))
        assert (told.reason.value, facts(told, "limits")["degraded"]) == ("allow", True)


async def test_a_key_by_its_id() -> None:
    """It is explained as for its client; a key whose pepper was removed is denied, as for its client."""
    async with open_house() as fake_service:
        names = Names()
        explain = explain_of(fake_service, names=names)
        told = await explain.explain(asked(key_id=KEY.id))
        assert told.reason.value == "allow"
        assert [each.outcome for each in told.steps][3:5] == ["skipped", "ok"]
        assert facts(told, "organization")["name"] == "acme"
        names.known[KEY.id] = names.known[KEY.id]._replace(pepper_id="lost")
        told = await explain.explain(asked(key_id=KEY.id))
        assert told.reason.value == "invalid_credentials"
        assert "the pepper lost" in said(told)
        with pytest.raises(NotFound):
            await explain.explain(asked(key_id="11111111-1111-4111-8111-111111111111"))
        with pytest.raises(InvalidInput, match=r"^key_id: keys come from"):
            await explain_of(fake_service).explain(asked(key_id=KEY.id))
        with pytest.raises(InvalidInput, match=r"^dialect must be one of envoy, nginx, forward"):
            await explain.explain(asked(dialect="apache"))


async def test_no_explanation_contains_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Not in a path, a resource or a code, imported keys included; neither in JSON nor in text of 80 columns."""
    imported = "an-imported-key-of-another-system"
    async with open_house() as fake_service:
        for key in (SECRET, imported):
            fake_service.store(replace(KEY, digest=KEY_FORMAT.digest(key).digests[0]))
            told = await explain_of(fake_service, names=Names()).explain(asked(f"/api/{key}/{key}?{key}", key=key))
            assert told.reason.value == "permission_denied"
            explain_texts.print_explanation(told, "GET", "envoy")
            printed = capsys.readouterr().out
            assert max(map(len, printed.splitlines())) <= 80
            for text in (str(told.to_json()), printed, repr(asked(key=key))):
                assert key not in text
                assert key[8:] not in text


class _Unseeded:
    """A LimitStore that has no counters of anything."""

    async def spend(self, asked: Sequence[Spend]) -> list[Spent | NotApplied | StoreUnavailable]:
        return [NotApplied("unseeded", int(NOW) * MICRO)] * len(asked)

    async def seed(self, tenant_id: str, seeds: Sequence[Seed] | None) -> None:  # noqa: ARG002 - as it says
        raise AssertionError("nothing may be begun")


class _Late:
    """A CounterReader of an organization with so many keys that it takes too long."""

    async def beginning(self, asked: Spend, seeds: Sequence[Seed]) -> State:  # noqa: ARG002 - it does not come to that
        raise StoreUnavailable(REDIS, "timeout")


async def test_counters_that_come_too_late_do_not_make_redis_away() -> None:
    """Their read does not open the circuit breaker, because checks never read all keys of an organization."""
    async with open_house() as fake_service:
        peek = Peek(
            _Unseeded(), _Late(), None, redis=fake_service.redis, postgresql=fake_service.postgresql, clock=lambda: NOW
        )
        with pytest.raises(StoreUnavailable):
            await peek.spend(unchecked_spend(TENANT, KEY, 1, NOW))
        assert fake_service.redis.up
        assert not fake_service.watch.failures
