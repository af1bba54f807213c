"""Where signals are sent, and what describes the service: by the OpenTelemetry specification."""

import pytest

from extauthz.config import Settings, load
from tests.unit.config.test_values import GIVEN

BASE, OWN = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


def settings(**environ: str) -> Settings:
    return load({**GIVEN, **environ}, None)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, ""),
        ({BASE: "http://otel:4318"}, "http://otel:4318/v1/traces"),
        ({BASE: "https://otel/otlp/"}, "https://otel/otlp/v1/traces"),
        ({OWN: "http://otel:4318/spans"}, "http://otel:4318/spans"),
        ({BASE: "http://a:4318", OWN: "http://b:4318"}, "http://b:4318"),
        ({BASE: "http://otel:4318", "OTEL_SDK_DISABLED": "true"}, ""),
        ({OWN: "http://otel:4318", "OTEL_TRACES_EXPORTER": "none"}, ""),
    ],
)
def test_where_spans_are_sent(environ: dict[str, str], url: str) -> None:
    """The common endpoint gets the signal's path, the signal's own is used unchanged; each can be switched off."""
    assert settings(**environ).otlp_url("traces") == url


def test_metrics_are_sent_only_when_asked_for() -> None:
    """An endpoint alone enables spans only, because scraped metrics would be stored twice."""
    assert settings(**{BASE: "http://otel:4318"}).otlp_url("metrics") == ""
    asked = settings(**{BASE: "http://otel:4318", "OTEL_METRICS_EXPORTER": "otlp"})
    assert asked.otlp_url("metrics") == "http://otel:4318/v1/metrics"
    assert settings(**{BASE: "http://otel:4318"}).otlp_url("logs") == "http://otel:4318/v1/logs"


def test_resource_attributes() -> None:
    """OTEL_SERVICE_NAME wins over the attribute, which wins over the default name; values are percent-decoded."""
    assert settings().resource_attributes == {"service.name": "extauthz"}
    attributes = settings(OTEL_RESOURCE_ATTRIBUTES="team=a%2Cb , service.name=gate").resource_attributes
    assert attributes == {"service.name": "gate", "team": "a,b"}
    named = settings(OTEL_RESOURCE_ATTRIBUTES="service.name=gate", OTEL_SERVICE_NAME="door")
    assert named.resource_attributes == {"service.name": "door"}


def test_headers() -> None:
    """Values are decoded, and no repr shows them."""
    told = settings(OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20s3cret")
    assert told.otlp_headers == {"authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(told)
