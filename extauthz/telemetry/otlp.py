"""What everything that is sent by OTLP over HTTP shares. It imports the exporter's HTTP library."""

import logging
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import requests
from opentelemetry.sdk.version import __version__ as sdk_version

SCOPE = ("extauthz", version("extauthz"))
ANSWER_BYTES_MAX = 4096  # of what an endpoint answers; the rest, and its connection, is dropped

# Its lines quote addresses, and come once for each request; a failure has an event of extauthz.
logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


def describe(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes of this process's resource; `attributes` are those that were configured."""
    return {
        "service.version": SCOPE[1],
        "service.instance.id": str(uuid4()),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": sdk_version,
        **attributes,
    }


class OtlpSession(requests.Session):
    """The exporter's HTTP session. `failure` is why the last request failed, empty where it did not."""

    def __init__(self) -> None:
        super().__init__()
        self.failure = ""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Sends a request; of the answer only the status matters, and an endless one is not read to its end.

        A redirection is not followed: it would take our headers, of which one may be a credential, to another place.
        """
        try:
            response = super().request(*args, **{**kwargs, "stream": True, "allow_redirects": False})
            response.raw.read(ANSWER_BYTES_MAX, decode_content=False)
            response.close()
        except Exception as error:
            self.failure = type(error).__name__
            raise
        self.failure = "" if response.status_code < 300 else f"HTTP {response.status_code}"
        return response
