"""Whatever a client sends, a check is one line of JSON of the documented form, bounded and without a credential."""

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, deny
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.core.subject import Identity
from extauthz.telemetry.decision_record import FIELDS, DecisionRecords
from tests.unit.service.fakes import KEY, KEY_FORMAT, NOW

LINE_MAX = 4096  # bytes that a pipe takes at once
REQUEST = CheckRequest("envoy", "GET", "/api/x?secret=1", "api.example.com", (), "id-1", "192.0.2.1", NOW, 0.0, 0.0)
ROUTE = Match("x", "read", 1, public=False, cache=True, path="/api/{resource}/**")
RECORDS = DecisionRecords(hide=KEY_FORMAT.hide, worker=3)
SECRET = KEY_FORMAT.issue(bytes(range(20)))
SCHEMA = Path(__file__).parents[3] / "docs" / "reference" / "decision-log.schema.json"

anything = st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def fields(result: CheckResult) -> dict[str, object]:
    line = RECORDS.line(result)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert len(line) <= LINE_MAX
    found: dict[str, object] = json.loads(line)
    assert tuple(found) == FIELDS
    return found


def test_every_field_of_an_allowed_check() -> None:
    """Request, subject and decision; the path without its query, the time in UTC with microseconds."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    request = replace(REQUEST, traceparent=f"00-{trace}-b7ad6b7169203331-01")
    allow = Allow(Identity("org-1", "key-1", "x:read", "gold"), cost=5, degraded=True)
    result = CheckResult("envoy", request, 1_790_000_000.25, allow, ROUTE, KEY, "", 0.000312)
    assert fields(result) == {
        "time": "2026-09-21T14:13:20.250000Z",
        "decision": "allow",
        "reason": "",
        "status": 200,
        "dialect": "envoy",
        "method": "GET",
        "path": "/api/x",
        "host": "api.example.com",
        "route": "/api/{resource}/**",
        "organization_id": KEY.organization_id,
        "api_key_id": KEY.id,
        "subject": None,
        "cost": 5,
        "request_id": "id-1",
        "trace_id": trace,
        "duration_us": 312,
        "degraded": True,
        "worker": 3,
    }


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.ALLOW])
def test_denials(reason: Reason) -> None:
    """Each has its token, the status that clients get, and a detail where there is one."""
    found = fields(CheckResult("nginx", REQUEST, NOW, deny(reason), None, None, "revoked"))
    assert (found["decision"], found["reason"], found["cost"]) == (reason.value, "revoked", 0)
    assert found["route"] is found["organization_id"] is found["api_key_id"] is found["trace_id"] is None


def test_malformed_question() -> None:
    """Headers of a proxy without a valid question: nothing of them is in the line."""
    found = fields(CheckResult("forward", None, NOW, deny(Reason.BAD_PROXY_REQUEST)))
    assert (found["method"], found["path"], found["host"], found["request_id"]) == ("", "", "", "")


@given(anything, anything, anything, anything)
def test_any_bytes(path: str, host: str, request_id: str, method: str) -> None:
    """One valid line, whose texts any reader of JSON accepts: none holds half a surrogate."""
    request = replace(REQUEST, path=path, host=host, request_id=request_id, method=method)
    found = fields(CheckResult("envoy", request, NOW, Allow(), ROUTE, KEY))
    json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize("letter", ["x", "\0", "é", "😀", "\udcff", chr(0xD800), "%"], ids=ascii)
def test_the_longest_line(letter: str) -> None:
    """However long a client's texts are, a line stays below what a pipe takes at once."""
    long = letter * 70_000
    request = replace(REQUEST, path=long, host=long, request_id=long, method=long, traceparent=long)
    key = replace(KEY, id="k" * 255, organization_id="o" * 255)
    route = ROUTE._replace(path=f"/{letter * 5000}")
    assert str(fields(CheckResult("envoy", request, NOW, Allow(), route, key))["path"]).count("x" * 1536) == (
        letter == "x"
    )


def test_bytes_of_a_path_are_read_as_utf8() -> None:
    """A proxy passes bytes on; valid UTF-8 is written as its characters, the rest as escapes."""
    path = "/käse/".encode().decode("ascii", "surrogateescape") + "\udcff"
    assert fields(CheckResult("envoy", replace(REQUEST, path=path), NOW, Allow()))["path"] == r"/käse/\xff"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET).replace("_", "%5F"),
        "".join(f"%{ord(letter):02x}" for letter in SECRET),
        "".join(f"%25{ord(letter):02X}" for letter in SECRET),
        SECRET[:12] + quote(SECRET[12:14]) + SECRET[14:],
    ],
)
def test_a_key_in_the_wrong_place(form: str) -> None:
    """No part of its secret is left in a path, a host, a method or a request id, also percent-encoded."""
    request = replace(REQUEST, path=f"/a/{form}/b", host=form, method=form, request_id=f"x-{form}")
    line = RECORDS.line(CheckResult("envoy", request, NOW, Allow())).decode()
    for text in (SECRET[8:], form[len(form) // 4 :]):
        assert text not in line


def test_the_schema_that_is_published() -> None:
    """The JSON schema of the documentation names every field and no other, and lines keep it."""
    import jsonschema_rs

    schema = json.loads(SCHEMA.read_text())
    assert tuple(schema["properties"]) == tuple(schema["required"]) == FIELDS
    assert set(schema["properties"]["decision"]["enum"]) == {reason.value for reason in Reason}
    validator = jsonschema_rs.validator_for(schema)
    for result in (
        CheckResult("envoy", REQUEST, NOW, Allow(cost=1), ROUTE, KEY, "", 0.1),
        CheckResult("forward", None, NOW, deny(Reason.BAD_PROXY_REQUEST)),
    ):
        validator.validate(fields(result))


def test_of_long_words_only_what_is_said_is_remembered() -> None:
    """Of a thousand hosts and methods of 60 KiB only the logged part is cached: those that begin alike are one."""
    records = DecisionRecords(hide=str, worker=0)
    for end in "abc":
        long = "x" * 60_000 + end
        records.line(CheckResult("forward", replace(REQUEST, method=long, host=long), NOW, Allow()))
    assert records._word.cache_info().currsize == 2
