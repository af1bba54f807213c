"""The listeners that are served: one row for each, from which its socket, its metrics and its examination follow."""

from collections.abc import Callable
from socket import socket
from typing import NamedTuple

from extauthz.config import Listen, Settings
from extauthz.transports.http.dialect import Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx
from extauthz.transports.http.listen import AddressTaken, SocketFiles, bind
from extauthz.transports.http.passed import PassedSockets


class Listener(NamedTuple):
    """One listener. `address` is its setting; `dialect` makes how it reads and answers checks, None where it has none.

    `name` is also the value of the metrics' label `dialect`, and what a socket is passed by.
    """

    name: str
    address: Callable[[Settings], Listen | None]
    dialect: Callable[[Wording, Settings], Dialect] | None


USAGE = Listener("usage", lambda settings: settings.usage_listen, None)
ADMIN = Listener("admin", lambda settings: settings.admin_listen, None)
LISTENERS: tuple[Listener, ...] = (
    Listener(
        "envoy",
        lambda settings: settings.envoy_listen,
        lambda wording, settings: Envoy(wording, path_prefix=settings.envoy_path_prefix),
    ),
    Listener(
        "nginx",
        lambda settings: settings.nginx_listen,
        lambda wording, settings: Nginx(wording, question=settings.nginx_question),
    ),
    Listener("forward", lambda settings: settings.forward_listen, lambda wording, _: Forward(wording)),
    USAGE,
    ADMIN,
)


def addresses_of(settings: Settings) -> dict[str, Listen]:
    """The address of every listener that is on, by its name."""
    return {row.name: at for row in LISTENERS if (at := row.address(settings)) is not None}


def dialect_names() -> tuple[str, ...]:
    """The values of the metrics' label `dialect`."""
    return tuple(row.name for row in LISTENERS if row.dialect is not None)


def dialects(settings: Settings) -> dict[str, Dialect]:
    """How each check listener reads and answers, by its name."""
    wording = Wording(strip_credential=settings.strip_credential, families=settings.rate_limit_headers)
    return {row.name: row.dialect(wording, settings) for row in LISTENERS if row.dialect is not None}


def bind_all(settings: Settings, passed: PassedSockets | None = None) -> tuple[dict[str, socket], SocketFiles]:
    """The sockets of every listener that is on, by its name, and the files that were made for them.

    A socket that was passed and has the address of a listener is that listener's. Raises AddressTaken.
    """
    on = addresses_of(settings)
    taken = {name: sock for name, at in on.items() if passed and (sock := passed.take(at.host, at.port, at.path))}
    if passed is not None:
        passed.check_all_taken()
    mode = int(settings.socket_mode, 8) if settings.socket_mode else None
    bound: dict[str, socket] = {}
    try:
        for name, at in on.items():
            if name not in taken:
                bound[name] = bind(at.host, at.port, at.path, mode=mode, group=settings.socket_group)
    except AddressTaken:
        SocketFiles(bound.values()).remove()
        raise
    return {name: taken.get(name) or bound[name] for name in on}, SocketFiles(bound.values())
