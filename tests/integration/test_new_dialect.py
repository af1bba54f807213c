"""A dialect is added as CONTRIBUTING.md says: a class, a row of the registry, and a setting for its listener."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from extauthz.app import listeners, wiring
from extauthz.app.listeners import Listener
from extauthz.config import Listen, Settings, load
from extauthz.config.fields import setting
from extauthz.config.settings import Endpoint
from extauthz.core import headers
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, Decision
from extauthz.core.reason import Reason
from extauthz.core.request import Question
from extauthz.telemetry.exposition import Exposition
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.samples import Sample
from extauthz.transports.http import render
from extauthz.transports.http.dialect import Answer, Asked, ReceivedHeaders, Wording, only
from tests.servers.raw_http import ask
from tests.servers.serving import PEPPER_SETTING

TIMED = "extauthz_decision_duration_seconds"
ROUTES = '[[routes]]\npath = "/public/**"\npublic = true\n[[routes]]\npath = "/**"\nresource = "api"\n'


class Example:
    """Asks for a path in `X-Path`."""

    name = "example"

    def __init__(self, wording: Wording) -> None:
        self._wording = wording

    def read(self, method: str, target: str, received: ReceivedHeaders) -> Question | None:  # noqa: ARG002 - a dialect's
        path = only(received, "x-path")
        credential = tuple(received.getall(headers.AUTHORIZATION, []))
        return Question(method, path, "", credential, "", "") if path else None

    def asked(self, method: str, target: str, received: ReceivedHeaders) -> Asked | None:  # noqa: ARG002 - as above
        path = only(received, "x-path")
        return Asked(method, path, "") if path else None

    def client_address(self, received: ReceivedHeaders) -> str:  # noqa: ARG002 - it is not told
        return ""

    def asked_in(self, *, hosts: bool) -> Sequence[str]:  # noqa: ARG002 - it reads none
        return ("x-path",)

    def render(self, decision: Decision) -> Answer:
        if isinstance(decision, Allow):
            return render.allow(decision, self._wording, render.emptied)
        return render.deny(decision, self._wording)


class WithExample(Settings):
    example_listen: Endpoint = setting("EXTAUTHZ_EXAMPLE_LISTEN", "off", "for the example")


def _listen(settings: Settings) -> Listen | None:
    assert isinstance(settings, WithExample)
    return settings.example_listen


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WithExample:
    """All other listeners off, and stores that do not exist, since the requests need none."""
    row = Listener("example", _listen, lambda wording, _: Example(wording))
    monkeypatch.setattr(listeners, "LISTENERS", (*listeners.LISTENERS, row))
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES)
    nowhere = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}
    off = {f"EXTAUTHZ_{name.upper()}_LISTEN": "off" for name in ("envoy", "nginx", "forward", "usage", "admin")}
    given = load({**nowhere, **off, "EXTAUTHZ_KEY_PEPPER": PEPPER_SETTING}, file)
    parsed = {name: getattr(given, name) for name in Settings.model_fields}
    return WithExample.model_construct(**parsed, example_listen=Listen("127.0.0.1", 0))


async def test_a_new_dialect_is_served_and_counted(settings: WithExample) -> None:
    """Its listener answers checks by its own rules, and every decision is counted under its name."""
    sockets, _ = listeners.bind_all(settings)
    assert list(sockets) == ["example"]
    async with wiring.running(settings, sockets) as service:
        port = sockets["example"].getsockname()[1]
        said = [
            (await ask(port, b"GET /x HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n")).decision
            for line in (b"X-Path: /public/x\r\n", b"X-Path: /x\r\n", b"")
        ]
        assert said == ["allow", "no_credentials", "bad_proxy_request"]
        for decision in Reason:
            labels = {"dialect": "example", "decision": decision.value}
            count = service.metrics.registry.get_sample_value("extauthz_decisions_total", labels)
            assert count == (1 if decision.value in said else 0)
        counted = Sample(TIMED, f"{TIMED}_count", (("dialect", "example"),), 3)
        assert counted in service.metrics.samples()


def test_the_address_of_a_new_dialect_is_compared(settings: WithExample) -> None:
    """It is compared with those of the other listeners, like any."""
    given = dict.fromkeys(("EXTAUTHZ_EXAMPLE_LISTEN", "EXTAUTHZ_NGINX_LISTEN"), "127.0.0.1:9002")
    with pytest.raises(ValidationError, match="must not be the address of EXTAUTHZ_NGINX_LISTEN"):
        WithExample.model_validate({"routes": settings.routes, **given})


def test_workers_count_a_new_dialect_together(settings: WithExample) -> None:
    """The supervisor adds up the samples of all workers."""
    assert settings.example_listen is not None
    worker = Metrics(listeners.dialect_names())
    worker.decided(CheckResult("example", None, 0.0, Allow()))
    total, _ = Exposition(Metrics(listeners.dialect_names()).registry).render([worker.samples(), worker.samples()])
    assert b'extauthz_decisions_total{decision="allow",dialect="example"} 2.0' in total
