"""CheckRequest: the one neutral form of the question "may this request pass?"."""

from dataclasses import dataclass

from extauthz.core.trace import Trace


@dataclass(slots=True)
class CheckRequest:
    """What a proxy asked, freed of the proxy's dialect.

    `path` is the raw target with its query; bytes above 0x7F stand in it as lone surrogates. `host` is as it was sent,
    empty where it is missing or repeated. `authorization` holds every `Authorization` header in order. `now` is the
    wall clock in Unix seconds and `started` the monotonic clock in seconds, both read once, when the request arrived;
    `deadline` is the monotonic second at which the answer is due. `traceparent` is as it was sent, empty where it is
    missing, repeated, or of no use to this process; `trace` is None where the check is not recorded.
    """

    dialect: str
    method: str
    path: str
    host: str
    authorization: tuple[str, ...]
    request_id: str
    client_address: str
    now: float
    started: float
    deadline: float
    traceparent: str = ""
    trace: Trace | None = None
