"""The usage listener: what it shows the holder of a key, and what it hides."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from extauthz.core.calendar import Calendar
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.reason import OUTCOMES, Reason
from extauthz.core.spend import NotApplied, Spend, Spent
from tests.unit.service.fakes import KEY, TENANT
from tests.unit.transports.usage_listener import GOOD, STRANGER, Usage, check_problem, usage

__all__ = ["usage"]

HOUR, DAY = 3600, 86_400


async def test_answer_to_a_caller(usage: Usage) -> None:
    """Every limit of the organization and of the key: its size, window, use, remainder and reset."""
    tenant = replace(TENANT, limits=Limits(Rate(10, 1), 20, 1000, 30_000), calendar=Calendar("Europe/Berlin"))
    usage.fake_service.store(replace(KEY, tenant=tenant, limits=Limits(Rate(1, 60), 5, None, 50)))
    await usage.fake_service.ask()
    month, rest = 31 * DAY, 31 * DAY - 14 * DAY - 9 * HOUR  # nine o'clock in Berlin, on the 15th
    assert await usage.told() == {
        "organization_id": "org-1",
        "api_key_id": "key-1",
        "plan": "pro",
        "enforced": True,
        "limits": [
            {"name": "burst", "limit": 20, "window": 2, "used": 1, "remaining": 19, "reset": 1},
            {"name": "daily", "limit": 1000, "window": DAY, "used": 1, "remaining": 999, "reset": 15 * HOUR},
            {"name": "monthly", "limit": 30_000, "window": month, "used": 1, "remaining": 29_999, "reset": rest},
            {"name": "key-burst", "limit": 5, "window": 300, "used": 1, "remaining": 4, "reset": 60},
            {"name": "key-monthly", "limit": 50, "window": month, "used": 1, "remaining": 49, "reset": rest},
        ],
    }


async def test_an_hour_is_shown_where_it_is_limited(usage: Usage) -> None:
    """Beside day and month, which are counted without a quota, too."""
    usage.fake_service.store(replace(KEY, tenant=replace(TENANT, limits=Limits(hourly_quota=5))))
    await usage.fake_service.ask()
    assert [
        (limit["name"], limit["limit"], limit["used"], limit["reset"]) for limit in (await usage.told())["limits"]
    ] == [
        ("daily", None, 1, 16 * HOUR),
        ("monthly", None, 1, 16 * DAY + 16 * HOUR),
        ("hourly", 5, 1, HOUR),
    ]


async def test_request_is_not_charged_or_counted(usage: Usage) -> None:
    """However often: nothing is taken, counted or decided, and the key's last use does not change."""
    first = await usage.told()
    assert [await usage.told() for _ in range(5)] == [first] * 5
    assert [limit["remaining"] for limit in first["limits"]] == [20, 1000, None]
    assert (usage.fake_service.watch.decisions, usage.fake_service.meter.noted) == ([], [])
    assert len(usage.fake_service.last_used) == 0


async def test_caller_without_remainder(usage: Usage) -> None:
    """Where every check is refused, the remainder is 0, with the time of the reset."""
    usage.fake_service.store(replace(KEY, tenant=replace(TENANT, limits=Limits(Rate(1, 60), 1, 1))))
    assert [(await usage.fake_service.ask()).reason for _ in range(2)] == [Reason.ALLOW, Reason.DAILY_QUOTA_EXCEEDED]
    assert [(limit["name"], limit["remaining"], limit["reset"]) for limit in (await usage.told())["limits"]] == [
        ("burst", 0, 60),
        ("daily", 0, 16 * HOUR),
        ("monthly", None, 16 * DAY + 16 * HOUR),
    ]


async def test_a_quota_below_what_was_used(usage: Usage) -> None:
    """The remainder is 0, not less."""
    for _ in range(3):
        await usage.fake_service.ask()
    tenant = replace(TENANT, limits=Limits(None, None, 2))
    usage.fake_service.change(replace(KEY, tenant=tenant), *KEY.made_of, *TENANT.made_of)
    told = (await usage.told())["limits"]
    assert [(limit["limit"], limit["used"], limit["remaining"]) for limit in told] == [(2, 3, 0), (None, 3, None)]


async def test_without_limits_and_in_shadow(usage: Usage) -> None:
    """Without a quota, day and month show the use; in shadow mode figures are unchanged and not enforced."""
    usage.fake_service.store(replace(KEY, tenant=replace(TENANT, limits=UNLIMITED)))
    await usage.fake_service.ask()
    told = await usage.told()
    names = [limit["name"] for limit in told["limits"]]
    assert (names, told["enforced"]) == (["daily", "monthly"], True)
    assert [(limit["limit"], limit["used"], limit["remaining"]) for limit in told["limits"]] == [(None, 1, None)] * 2
    shadow = replace(TENANT, shadow=True)
    usage.fake_service.change(replace(KEY, tenant=shadow), *KEY.made_of, *TENANT.made_of)
    told = await usage.told()
    assert ([limit["name"] for limit in told["limits"]], told["enforced"]) == (["burst", "daily", "monthly"], False)


@pytest.mark.parametrize(
    ("sent", "key", "reason"),
    [
        ("", KEY, Reason.NO_CREDENTIALS),
        ("Authorization: Basic dTpw\r\n", KEY, Reason.NO_CREDENTIALS),
        ("Authorization: Bearer unheard-of x\r\n", KEY, Reason.MALFORMED_CREDENTIALS),
        (GOOD + GOOD, KEY, Reason.MALFORMED_CREDENTIALS),
        ("Authorization: Bearer unheard-of\r\n", KEY, Reason.INVALID_CREDENTIALS),
        (STRANGER, KEY, Reason.INVALID_CREDENTIALS),
        (GOOD, replace(KEY, revoked_at=1.0), Reason.INVALID_CREDENTIALS),
        (GOOD, replace(KEY, disabled_at=1.0), Reason.INVALID_CREDENTIALS),
        (GOOD, replace(KEY, expires_at=1.0), Reason.INVALID_CREDENTIALS),
        (GOOD, replace(KEY, tenant=replace(TENANT, status="suspended")), Reason.ORGANIZATION_SUSPENDED),
    ],
)
async def test_refusals_are_those_of_a_check(usage: Usage, sent: str, key: ApiKey, reason: Reason) -> None:
    """Status, code and challenge are the same, and no limit is read."""
    usage.fake_service.store(key)
    answer = await usage.ask(sent)
    outcome = OUTCOMES[reason]
    check_problem(answer, outcome.status, reason.value)
    assert (answer.decision, answer["x-extauthz-code"]) == (reason.value, reason.value)
    assert answer["www-authenticate"].startswith("Bearer ") == (outcome.status == 401)
    assert usage.fake_service.limits.calls == 0


async def test_provisional_counters_are_not_shown(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    """They began at zero while PostgreSQL was away: the remainder would be wrong, and is not shown."""
    results = usage.fake_service.limits._results

    def provisional(asked: Sequence[Spend]) -> list[Spent | NotApplied | StoreUnavailable]:
        return [one.as_provisional() if isinstance(one, Spent) else one for one in results(asked)]

    with monkeypatch.context() as patch:
        patch.setattr(usage.fake_service.limits, "_results", provisional)
        answer = await usage.ask()
        check_problem(answer, 503, "limits_unavailable")
        assert answer["retry-after"] == "1"
    assert [limit["remaining"] for limit in (await usage.told())["limits"]] == [20, 1000, None]


async def test_stores_that_are_away(usage: Usage) -> None:
    """503 with Retry-After and the name of the store, instead of wrong figures."""
    await usage.told()
    await usage.fake_service.lose(usage.fake_service.redis)
    answer = await usage.ask()
    check_problem(answer, 503, "limits_unavailable")
    assert answer["retry-after"] == "1"
    await usage.fake_service.lose(usage.fake_service.postgresql)
    answer = await usage.ask(STRANGER)
    check_problem(answer, 503, "authentication_unavailable")
    assert answer["retry-after"] == "1"
