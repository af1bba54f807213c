"""How much of the headers of a trace is kept until its spans are sent."""

import pytest
from multidict import CIMultiDict

from extauthz.core.failure import OnRedisDown
from extauthz.core.trace import STATE_LONGEST, Trace
from extauthz.service.health import Health
from extauthz.transports.http.dialect import Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.handler import CheckHandler
from tests.unit.service.fakes import FakeService


class Recording:
    """A Tracing that records every check as a part of the proxy's trace."""

    def begin(self, traceparent: str) -> Trace:  # noqa: ARG002 - there is a parent
        return Trace("1" * 32, "2" * 16, "3" * 16)


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (["a=b"], "a=b"),
        (["a=b", "c=d"], "a=b,c=d"),
        (["a=" + "b" * (STATE_LONGEST - 2)], "a=" + "b" * (STATE_LONGEST - 2)),
        (["a=" + "b" * (STATE_LONGEST - 1)], ""),
        (["a=" + "b" * 60_000], ""),
        ([f"a{number}=b" for number in range(STATE_LONGEST)], ""),
    ],
)
def test_a_long_tracestate_does_not_wait_with_its_check(states: list[str], kept: str) -> None:
    """It is dropped, because thousands of checks may wait for a hung receiver, each with a header of 60 KiB."""
    fake_service = FakeService()
    health = Health(postgresql=fake_service.postgresql, redis=fake_service.redis, on_redis_down=OnRedisDown.OPEN)
    handler = CheckHandler(fake_service.service, Envoy(Wording()), deadline=5, health=health, tracing=Recording())
    trace = handler.begin_trace(CIMultiDict(("tracestate", state) for state in states))
    assert trace is not None
    assert trace.state == kept
