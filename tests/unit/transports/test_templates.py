"""Answers of the fast path are templates with numbers, equal to the general rendering, byte for byte."""

from dataclasses import replace
from functools import cache
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.balance import balance
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import conclude
from extauthz.core.failure import OnRedisDown
from extauthz.core.spend import ROW_SIZE, Row, Spend, Spent, result_of
from extauthz.core.subject import Identity
from extauthz.service.check import rate_limit
from extauthz.service.check.remembered import Remembered
from extauthz.service.health import Health
from extauthz.transports.http import templates
from extauthz.transports.http.answers import NO_LENGTH, Answers
from extauthz.transports.http.dialect import Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx
from extauthz.transports.http.handler import CheckHandler, head_of
from tests.generated import examples
from tests.unit.core.test_limit_numbers import outcomes
from tests.unit.service.fakes import KEY, FakeService

DIALECTS = {"envoy": Envoy, "nginx": Nginx, "forward": Forward}
FAMILIES = ((), ("ietf",), ("x",), ("ietf", "x"))
# Texts of records, also those that look like a placeholder for a number, or nearly like its mark.
_PIECES = ["%", "%d", "%%s", "{0}", "\\", "1" * 19, "9" * 22, f"{templates._BEGIN + 1}000", "a", ":", ";r=", " "]
texts = st.lists(st.sampled_from(_PIECES), max_size=5).map(lambda parts: f"x{''.join(parts)}x")
identities = st.builds(Identity, texts, texts, texts, texts)
handlers = st.tuples(st.sampled_from(list(DIALECTS)), st.sampled_from(FAMILIES), st.booleans())


@cache
def handler_of(dialect: str, families: tuple[str, ...], strip_credential: bool) -> CheckHandler:
    """The handler of a dialect."""
    fake_service = FakeService()
    health = Health(postgresql=fake_service.postgresql, redis=fake_service.redis, on_redis_down=OnRedisDown.OPEN)
    built: Dialect = DIALECTS[dialect](Wording(strip_credential, families))
    return CheckHandler(fake_service.service, built, deadline=5, health=health)


def fast(handler: CheckHandler, found: Remembered, outcome: tuple[Spend, int, Row]) -> tuple[bytes, bytes]:
    """The answer of the fast path."""
    asked, now, row = outcome
    kept = Answers(handler).kept(found, asked)
    if not row[0]:
        return kept.allowed + kept.shape.fill(kept.shape.left(now, row)) + NO_LENGTH, b""
    with patch.object(rate_limit, "JITTER", 0):
        refusal, head = kept.shape.refuse(now, row)
    return head + kept.log(found.subject) + refusal.length, refusal.body


def general(handler: CheckHandler, found: Remembered, outcome: tuple[Spend, int, Row]) -> tuple[bytes, bytes]:
    """The answer of the pipeline."""
    asked, now, row = outcome
    spent = result_of(now, row)
    assert isinstance(spent, Spent)
    decision = conclude(found.identity, balance(asked, spent), asked.cost)
    answer = handler.render(CheckResult(handler.dialect.name, None, 0.0, decision, subject=found.subject))
    return head_of(answer).encode("latin-1"), answer.body


@examples(30, 20_000)
@given(handlers, outcomes(), st.none() | identities)
def test_template_equals_general_rendering(
    which: tuple[str, tuple[str, ...], bool], outcome: tuple[Spend, int, Row], who: Identity | None
) -> None:
    """For any limits, caller and outcome, in every dialect with all sets of headers."""
    handler, (asked, now, row) = handler_of(*which), outcome
    middle = 1 if asked.windows is None else 2
    further = (middle, *row[13:]) if len(row) > ROW_SIZE else ()
    outcome = asked, now, (*row[:2], middle, middle, *row[4:ROW_SIZE], *further)
    found = Remembered(None)
    found.identity = who
    found.subject = None if who is None else replace(KEY, id=who.subject_id, organization_id=who.organization_id)
    assert fast(handler, found, outcome) == general(handler, found, outcome)
