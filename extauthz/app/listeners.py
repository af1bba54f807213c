"""The dialects that are served: one row for each, from which its listener and its metrics follow."""

from collections.abc import Callable
from dataclasses import dataclass

from extauthz.config import Settings
from extauthz.transports.http.dialect import Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx


@dataclass(frozen=True, slots=True)
class DialectRow:
    """A dialect. Its address is the setting `<name>_listen`; `build` makes it of the settings."""

    name: str
    build: Callable[[Wording, Settings], Dialect]


DIALECTS: tuple[DialectRow, ...] = (
    DialectRow("envoy", lambda wording, settings: Envoy(wording, path_prefix=settings.envoy_path_prefix)),
    DialectRow("nginx", lambda wording, settings: Nginx(wording, question=settings.nginx_question)),
    DialectRow("forward", lambda wording, _: Forward(wording)),
)


def dialect_names() -> tuple[str, ...]:
    """The values of the metrics' label `dialect`."""
    return tuple(row.name for row in DIALECTS)


def dialects(settings: Settings) -> dict[str, Dialect]:
    """How each check listener reads and answers, by its name."""
    wording = Wording(strip_credential=settings.strip_credential, families=settings.rate_limit_headers)
    return {row.name: row.build(wording, settings) for row in DIALECTS}
