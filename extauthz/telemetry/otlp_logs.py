"""The decision log as OTLP logs over HTTP. Only this module imports the SDK for it, so it is imported only when asked.

Attributes have the names of OpenTelemetry's semantic conventions where there are any; ATTRIBUTES is the whole list.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import TraceFlags

from extauthz.telemetry.otlp import OtlpSession

EVENT = "extauthz.decision"
EXPORT_SECONDS = 10.0  # that one batch may take with all its tries
BATCH_BYTES = 1 << 18  # of lines, which are about 500 records

# The fields of a line by the names of their attributes. `time` and `trace_id` have places of their own in a record.
ATTRIBUTES = {
    "decision": "extauthz.decision",
    "reason": "extauthz.reason",
    "status": "http.response.status_code",
    "dialect": "extauthz.dialect",
    "method": "http.request.method",
    "path": "url.path",
    "host": "server.address",
    "route": "http.route",
    "organization_id": "extauthz.organization_id",
    "api_key_id": "extauthz.api_key_id",
    "subject": "user.id",
    "cost": "extauthz.cost",
    "request_id": "http.request.header.x-request-id",
    "duration_us": "extauthz.duration_us",
    "degraded": "extauthz.degraded",
    "worker": "extauthz.worker",
}
_SCOPE = InstrumentationScope("extauthz")


class OtlpSink:
    """Sends lines of the decision log to a collector, a batch in one request."""

    batch_bytes = BATCH_BYTES

    def __init__(self, url: str, *, headers: Mapping[str, str], resource: Mapping[str, str]) -> None:
        """`url` is where logs are sent, with its path; `resource` describes the service."""
        self._session = OtlpSession()
        self._exporter = OTLPLogExporter(url, headers=dict(headers), timeout=EXPORT_SECONDS, session=self._session)
        self._resource = Resource.create(dict(resource))

    def write(self, lines: bytes) -> bool:
        """Sends whole lines; False where the collector did not take them."""
        batch = [
            ReadableLogRecord(record(json.loads(line)), self._resource, _SCOPE) for line in lines.splitlines() if line
        ]
        return self._exporter.export(batch) is LogRecordExportResult.SUCCESS and not self._session.failure


def record(fields: Mapping[str, Any]) -> LogRecord:
    """The record of a line. What is null or empty has no attribute."""
    attributes = {name: fields[field] for field, name in ATTRIBUTES.items() if fields[field] not in (None, "")}
    if host := fields["host"]:
        attributes |= _server(host)
    if id_ := fields["request_id"]:
        attributes[ATTRIBUTES["request_id"]] = [id_]
    moment = int(datetime.fromisoformat(fields["time"]).timestamp() * 1e6) * 1000
    allowed = fields["decision"] == "allow"
    made = LogRecord(
        timestamp=moment,
        observed_timestamp=moment,
        severity_text="INFO" if allowed else "WARN",
        severity_number=SeverityNumber.INFO if allowed else SeverityNumber.WARN,
        body=f"{fields['method']} {fields['path']}: {fields['decision']}".strip(),
        attributes=attributes,
        event_name=EVENT,
    )
    made.trace_id = int(fields["trace_id"] or "0", 16)
    made.trace_flags = TraceFlags(0)
    return made


def _server(host: str) -> dict[str, object]:
    """A host of HTTP in two attributes: its port is one of its own."""
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit() and len(port) <= 5 and (":" not in name or name.endswith("]")):
        return {"server.address": name.strip("[]"), "server.port": int(port)}
    return {"server.address": host.strip("[]")}
