"""What scripts read: the JSON form of everything that management and reports show, field by field."""

from dataclasses import replace
from datetime import UTC, date, datetime

from extauthz.core.credits import Credits
from extauthz.core.explanation import Explanation, Step
from extauthz.core.limits import Limits, Rate
from extauthz.core.management import AuditEntry, KeyDetails, Listing, Organization, PepperUse, Plan
from extauthz.core.reason import Reason
from extauthz.core.rejections import Rejection
from extauthz.core.usage import Tally
from extauthz.core.usage_range import Period
from extauthz.core.usage_report import Usage, UsageRow

LIMITS = Limits(Rate(5, 1), 10, 1000)
TIMES = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 7)]
TEXTS = [f"2026-01-0{day}T00:00:00+00:00" for day in range(1, 7)]

KEY = KeyDetails(
    id="1",
    organization_id="2",
    name="ci",
    handle="xa_live_…abcd",
    permissions={"customer": frozenset({"write", "read"})},
    metadata={"team": "a"},
    limits=LIMITS,
    pepper_id="p1",
    created_at=TIMES[0],
    updated_at=TIMES[1],
    expires_at=None,
    revoked_at=None,
    disabled_at=None,
    last_used_at=None,
    rotated_to="7",
    row_version=3,
)
KEY_JSON = {
    "id": "1",
    "organization_id": "2",
    "name": "ci",
    "handle": "xa_live_…abcd",
    "permissions": {"customer": ["read", "write"]},
    "status": "active",
    "metadata": {"team": "a"},
    **LIMITS.to_record(),
    "created_at": TEXTS[0],
    "updated_at": TEXTS[1],
    "expires_at": None,
    "revoked_at": None,
    "disabled_at": None,
    "last_used_at": None,
    "rotated_to": "7",
    "version": 3,
}
ACME = Organization(
    id="2",
    name="acme",
    plan="gold",
    status="active",
    overrides={"burst": 7, "daily_quota": None},
    until=TIMES[0],
    limits_mode="shadow",
    timezone="Europe/Berlin",
    anchor=31,
    created_at=TIMES[1],
    updated_at=TIMES[2],
    row_version=1,
    timezone_from=TIMES[3],
    anchor_from=TIMES[4],
)
ACME_JSON = {
    "id": "2",
    "name": "acme",
    "plan": "gold",
    "status": "active",
    "burst": 7,
    "daily_quota": None,
    "until": TEXTS[0],
    "limits_mode": "shadow",
    "timezone": "Europe/Berlin",
    "timezone_from": TEXTS[3],
    "anchor": 31,
    "anchor_from": TEXTS[4],
    "created_at": TEXTS[1],
    "updated_at": TEXTS[2],
    "version": 1,
}


def test_a_key() -> None:
    """Times in ISO 8601 or null; the status is that of the moment, and the pepper is not shown."""
    assert KEY.to_json(TIMES[0]) == KEY_JSON
    names = ("expires_at", "revoked_at", "disabled_at", "last_used_at")
    ended = replace(KEY, expires_at=TIMES[2], revoked_at=TIMES[3], disabled_at=TIMES[4], last_used_at=TIMES[5])
    assert ended.to_json(TIMES[0]) == KEY_JSON | dict(zip(names, TEXTS[2:], strict=True)) | {"status": "revoked"}


def test_an_organization() -> None:
    """Overrides stand beside the other fields, null where the plan's limit holds."""
    assert ACME.to_json() == ACME_JSON
    nulls = dict.fromkeys(("until", "timezone_from", "anchor_from"))
    assert replace(ACME, until=None, timezone_from=None, anchor_from=None).to_json() == ACME_JSON | nulls


def test_a_plan() -> None:
    """The row's version is called `version`."""
    assert Plan("3", "gold", LIMITS, TIMES[0], TIMES[1], 4).to_json() == {
        "id": "3",
        "name": "gold",
        **LIMITS.to_record(),
        "created_at": TEXTS[0],
        "updated_at": TEXTS[1],
        "version": 4,
    }


def test_credits() -> None:
    """What is left is never below zero, and null where there is no such limit."""
    held = {"id": "2", "name": "ci", "granted": 9, "used": 4, "left": 5, "version": 3}
    assert Credits("2", "ci", "1", 9, 4, 3).to_json() == held
    assert [Credits("2", "ci", "1", granted, 4, 3).left for granted in (None, 3, 0)] == [None, 0, 0]


def test_a_change() -> None:
    """Each field that changed with its value before and after, and the reason given."""
    diff: dict[str, list[object]] = {"burst": [1, 2]}
    entry = AuditEntry(9, TIMES[0], "cli:ann", "owner", "update", "plan", "3", "gold", None, diff, "more load")
    assert entry.to_json() == {
        "id": 9,
        "at": TEXTS[0],
        "actor": "cli:ann",
        "role": "owner",
        "action": "update",
        "kind": "plan",
        "subject_id": "3",
        "subject_name": "gold",
        "organization_id": None,
        "diff": {"burst": [1, 2]},
        "reason": "more load",
    }


def test_a_pepper() -> None:
    """Its id and how many keys depend on it, never the pepper."""
    assert PepperUse("p1", configured=True, signs=False, keys=5, usable=2).to_json() == {
        "id": "p1",
        "configured": True,
        "signs": False,
        "keys": 5,
        "usable": 2,
    }


def test_a_rejection() -> None:
    """A count of refusals, and the last of them as samples."""
    samples = [{"method": "GET"}]
    row = Rejection(
        TIMES[0], "2", "1", "ci", "203.0.113.7", "/a", "invalid_credentials", "revoked", count=8, samples=samples
    )
    assert row.to_json() == {
        "from": TEXTS[0],
        "decision": "invalid_credentials",
        "reason": "revoked",
        "route": "/a",
        "organization_id": "2",
        "api_key_id": "1",
        "api_key_name": "ci",
        "address": "203.0.113.7",
        "count": 8,
        "samples": samples,
    }


def test_usage() -> None:
    """`day` is set where the period is one day; rows of keys name the key, rows of days do not."""
    day, last = date(2026, 1, 1), date(2026, 1, 2)
    row = UsageRow(Period(day, last), "1", Tally(1, 2, 3, 4), "ci")
    rows = Listing([row, UsageRow(Period(day, day), None, Tally())], "more")
    usage = Usage("2", Period(day, last), "key", Tally(1, 2, 3, 4), {"daily": 5}, rows, complete=False, today=last)
    counts = {"allowed": 1, "cost": 2, "rate_limited": 3, "over_quota": 4}
    assert usage.to_json() == {
        "organization_id": "2",
        "day": None,
        "from": "2026-01-01",
        "to": "2026-01-02",
        **counts,
        "remaining": {"daily": 5},
        "complete": False,
        "by": "key",
        "items": [
            {"from": "2026-01-01", "to": "2026-01-02", "api_key_id": "1", "api_key_name": "ci", **counts},
            {"from": "2026-01-01", "to": "2026-01-01", **dict.fromkeys(counts, 0)},
        ],
        "next": "more",
    }
    assert replace(usage, period=Period(day, day)).to_json()["day"] == "2026-01-01"


def test_an_explanation() -> None:
    """The proxy's status beside the client's, and each step with its facts; nothing is ever charged."""
    step = Step("key", "refused", {"id": "1"}, "it was revoked", "make a new key")
    assert Explanation(Reason.RATE_LIMITED, 403, "rate_limited", [step]).to_json() == {
        "decision": "rate_limited",
        "status": 403,
        "true_status": 429,
        "code": "rate_limited",
        "charged": False,
        "steps": [
            {"step": "key", "outcome": "refused", "id": "1", "why": "it was revoked", "next": "make a new key"},
        ],
    }
