"""From a proxy's question to a spend: what is asked, how long it may take, and what is charged once."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.calendar import UTC_CALENDAR, Calendar
from extauthz.core.limits import Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest, Question, RequestBuilder
from extauthz.core.routes import Match
from extauthz.core.spend import Owner, Spend, build_spend, once_name, unchecked_spend
from tests.unit.service.fakes import KEY, NOW, TENANT

ROUTE = Match("customer", "read", 3, False, True, path="/**")
REQUEST = CheckRequest("envoy", "GET", "/a?b", "h", ("Bearer x",), "id-1", "203.0.113.7", NOW, 5.0, 6.0)


@given(st.none() | st.floats(0, 9))
def test_a_request_is_the_question(time_left: float | None) -> None:
    """Unchanged, with the listener's name; it is due when our own time or the proxy's is over."""
    question = Question("GET", "/a?b", "h", ("Bearer x",), "id-1", "203.0.113.7", time_left)
    built = RequestBuilder("envoy", deadline=2.0).build(question, now=NOW, started=5.0, traceparent="00-ab")
    due = 5.0 + (2.0 if time_left is None else min(2.0, time_left))
    assert built == replace(REQUEST, deadline=due, traceparent="00-ab")


def test_a_spend_is_of_key_and_organization() -> None:
    """By the limits and the calendar of the moment; hours are counted where either has an hourly quota."""
    own, plan, calendar = Limits(Rate(1, 1), 5), Limits(daily_quota=9), Calendar("Asia/Kolkata")
    tenant = replace(TENANT, limits=own, plan_limits=plan, overrides_until=NOW, calendar=calendar)
    for limits, hours in ((Limits(daily_quota=4), False), (Limits(hourly_quota=4), True)):
        key = replace(KEY, limits=limits)
        expected = Spend(Owner("tenant", TENANT.id), 3, plan, calendar, key_id=KEY.id, key_limits=limits)
        assert unchecked_spend(tenant, key, 3, NOW) == replace(expected, windows=calendar.round(NOW, hours=hours))
        assert unchecked_spend(tenant, key, 3, NOW - 1).limits == own
    hourly = replace(TENANT, limits=Limits(hourly_quota=4))
    assert unchecked_spend(hourly, KEY, 1, NOW).windows == UTC_CALENDAR.round(NOW, hours=True)


def test_a_cost_that_no_wait_makes_fit() -> None:
    """It is above a limit of the key or of the organization; equal to it, it can fit."""
    tenant, key = replace(TENANT, limits=Limits(Rate(1, 1), 5, 9)), replace(KEY, limits=Limits(monthly_quota=4))
    assert build_spend(tenant, key, 4, NOW) == unchecked_spend(tenant, key, 4, NOW)
    assert build_spend(tenant, key, 5, NOW) is Reason.COST_EXCEEDS_LIMIT
    assert build_spend(tenant, KEY, 5, NOW) == unchecked_spend(tenant, KEY, 5, NOW)
    assert build_spend(tenant, KEY, 6, NOW) is Reason.COST_EXCEEDS_LIMIT
    assert Limits(Rate(1, 1), 5, 0, 9).below(6) == {"burst": 5, "daily_quota": 0}


def test_a_request_that_comes_again_has_the_same_name() -> None:
    """Everything that its price depends on is part of the name; a request without an id has none."""
    name = once_name(REQUEST, KEY, ROUTE)
    assert name == once_name(replace(REQUEST, host="H:80", now=NOW + 1, authorization=()), KEY, ROUTE)
    assert set(name) <= set("0123456789abcdef")
    assert len(name) == 32
    requests = [replace(REQUEST, request_id="x"), replace(REQUEST, method="x"), replace(REQUEST, path="x")]
    requests += [replace(REQUEST, host="x"), replace(REQUEST, host="a..b"), replace(REQUEST, path="/\udcff")]
    requests.append(replace(REQUEST, request_id="id-", method="1GET"))  # the same letters in a row
    keys = [replace(KEY, id="x"), replace(KEY, organization_id="x")]
    routes = [ROUTE._replace(resource="x"), ROUTE._replace(mode="write"), ROUTE._replace(cost=4)]
    others = [once_name(request, KEY, ROUTE) for request in requests]
    others += [once_name(REQUEST, key, ROUTE) for key in keys]
    others += [once_name(REQUEST, KEY, route) for route in routes]
    assert len({name, *others}) == len(others) + 1
    assert once_name(replace(REQUEST, request_id=""), KEY, ROUTE) == ""
