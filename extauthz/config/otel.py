"""The settings of OpenTelemetry, under its own names (opentelemetry.io, "Environment Variable Specification")."""

import re
from typing import Annotated, Literal, get_args
from urllib.parse import unquote

from pydantic import BaseModel, PlainValidator, SecretStr

from extauthz.config import urls, values
from extauthz.config.fields import Boolean, setting
from extauthz.config.values import NamedSecret

Signal = Literal["traces", "metrics", "logs"]
Sampler = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]
PROTOCOL = "http/protobuf"
Exporter = Literal["otlp", "none"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VALUE = re.compile(r"[\t -~]*")

Url = Annotated[SecretStr, PlainValidator(urls.web_url("http://host:4318 or https://…"))]
WholeUrl = Annotated[SecretStr, PlainValidator(urls.web_url("http://host:4318/path or https://…"))]
ExporterName = Annotated[Exporter, PlainValidator(values.one_of(*get_args(Exporter)))]


def headers(text: str) -> tuple[NamedSecret, ...]:
    """`name=value,name=value`, the values percent-encoded; each value is a secret."""
    found = [(name, value.encode("ascii")) for name, value in _pairs(text) if _VALUE.fullmatch(value)]
    if len(found) != text.count(",") + 1 or not all(_NAME.fullmatch(name) for name, _ in found):
        raise ValueError("must be name=value[,name=value], with a comma, a blank or a % in a value written %2C %20 %25")
    return tuple(NamedSecret(name.lower(), value) for name, value in found)


def attributes(text: str) -> str:
    """The same for attributes, which are not secret; the text as it is, for `resource_attributes` to take apart."""
    names = [name for name, _ in _pairs(text)]
    if len(names) != text.count(",") + 1 or not all(_NAME.fullmatch(name) for name in names):
        raise ValueError("must be name=value[,name=value], with a comma or a % in a value written %2C %25")
    return text


def protocol(text: str) -> str:
    """OTLP over HTTP, with protobuf."""
    if text != PROTOCOL:
        raise ValueError(f"must be {PROTOCOL}, whose port is usually 4318")
    return text


def _pairs(text: str) -> list[tuple[str, str]]:
    """The pairs of a list, as far as they are some; blanks around names and values do not count."""
    parts = [part.partition("=") for part in text.split(",")]
    return [(name.strip(), unquote(value.strip())) for name, equals, value in parts if equals]


class OtelSettings(BaseModel):
    """What is told of checks to OpenTelemetry, and where it is sent."""

    otel_exporter_otlp_endpoint: Url = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", SecretStr(""), "where spans are sent; unset: no tracing", secret=True
    )
    otel_exporter_otlp_traces_endpoint: WholeUrl = setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", SecretStr(""), "the same for spans alone, as a whole URL", secret=True
    )
    otel_exporter_otlp_metrics_endpoint: WholeUrl = setting(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", SecretStr(""), "the same for metrics alone", secret=True
    )
    otel_exporter_otlp_headers: Annotated[tuple[NamedSecret, ...], PlainValidator(headers)] = setting(
        "OTEL_EXPORTER_OTLP_HEADERS", (), "headers of every export, such as its credential", secret=True
    )
    otel_exporter_otlp_protocol: Annotated[str, PlainValidator(protocol)] = setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOL, "how it is sent; there is no other way"
    )
    otel_traces_exporter: ExporterName = setting("OTEL_TRACES_EXPORTER", "otlp", "`none`: no tracing")
    otel_metrics_exporter: ExporterName = setting(
        "OTEL_METRICS_EXPORTER", "none", "`otlp`: metrics are sent, too, from the numbers of /metrics"
    )
    otel_metric_export_interval: Annotated[int, PlainValidator(values.whole(100, 3_600_000))] = setting(
        "OTEL_METRIC_EXPORT_INTERVAL", "60000", "milliseconds between two sendings of metrics"
    )
    otel_service_name: Annotated[
        str, PlainValidator(values.matching(r"[^\x00-\x1f\x7f]{1,255}", "must be 1 to 255 visible characters"))
    ] = setting("OTEL_SERVICE_NAME", "", "the service's name in spans; unset: extauthz")
    otel_resource_attributes: Annotated[str, PlainValidator(attributes)] = setting(
        "OTEL_RESOURCE_ATTRIBUTES", "", "what further describes this service, name=value[,name=value]"
    )
    otel_traces_sampler: Annotated[Sampler, PlainValidator(values.one_of(*get_args(Sampler)))] = setting(
        "OTEL_TRACES_SAMPLER", "parentbased_always_on", "which traces are kept"
    )
    otel_traces_sampler_arg: Annotated[float, PlainValidator(values.share)] = setting(
        "OTEL_TRACES_SAMPLER_ARG", "1.0", "share of the traces that are kept"
    )
    otel_sdk_disabled: Boolean = setting("OTEL_SDK_DISABLED", "false", "`true`: no tracing, no metrics by OTLP")

    def otlp_url(self, signal: Signal) -> str:
        """Where a signal is sent: its own endpoint, else its place under the common one; empty where it is not sent.

        `logs` have neither an endpoint nor an exporter of their own.
        """
        own = getattr(self, f"otel_exporter_otlp_{signal}_endpoint", SecretStr("")).get_secret_value()
        common = self.otel_exporter_otlp_endpoint.get_secret_value()
        if self.otel_sdk_disabled or getattr(self, f"otel_{signal}_exporter", "otlp") == "none":
            return ""
        return own or (common and f"{common.rstrip('/')}/v1/{signal}")

    @property
    def otlp_headers(self) -> dict[str, str]:
        """The headers of every export. They hold credentials."""
        return {name: value.decode("ascii") for name, value in self.otel_exporter_otlp_headers}

    @property
    def resource_attributes(self) -> dict[str, str]:
        """What describes this service. OTEL_SERVICE_NAME wins over a `service.name` among the attributes."""
        found = dict(_pairs(self.otel_resource_attributes))
        return (
            {"service.name": "extauthz"} | found | ({"service.name": name} if (name := self.otel_service_name) else {})
        )
