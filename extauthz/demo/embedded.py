"""PostgreSQL and a Redis-compatible server in one folder: for trying out, and for small single machines."""

import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from extauthz.demo.folders import ServerFailed, discarded_unless_kept, secret, write_private
from extauthz.demo.ports import free_port
from extauthz.demo.postgres import Postgres
from extauthz.demo.process import Process
from extauthz.demo.redis import Redis

ENV_FILE = "env"
LOOK_INTERVAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Two servers that run: the settings to use them, the names of settings that these replace, and `keep`.

    `keep` is called once the service has started: until then a folder that is new goes with a start that fails.
    """

    environ: Mapping[str, str]
    replaced: Sequence[str]
    keep: Callable[[], None]


@contextmanager
def embedded(folder: Path, environ: Mapping[str, str]) -> Iterator[Embedded]:
    """Runs both servers with their data in `folder`.

    Pepper and admin token are made at the first start and kept, readable by the owner alone; `folder`/env holds the
    same settings for a shell. A server that ends by itself ends us in order, so that a supervisor starts it again.
    Raises ServerFailed.
    """
    with (
        discarded_unless_kept(folder) as keep,
        Postgres(folder / "postgres", _port(folder / "postgres.port"), durable=True) as postgres,
        Redis(folder / "redis", _port(folder / "redis.port"), durable=True) as redis,
        _watched((postgres, redis)),
    ):
        ours = {
            "DATABASE_URL": postgres.dsn,
            "REDIS_URL": redis.redis_url,
            "EXTAUTHZ_KEY_PEPPER": f"embedded:{secret(folder / 'pepper')}",
            "EXTAUTHZ_ADMIN_TOKEN": f"embedded:{secret(folder / 'admin-token')}",
        }
        write_private(folder / "postgres.port", str(postgres.port))
        write_private(folder / "redis.port", str(redis.port))
        write_env(folder / ENV_FILE, ours)
        theirs = {name for name in environ if name.removesuffix("_FILE") in ours}
        replaced = [name for name in sorted(theirs) if environ[name] != ours.get(name)]
        yield Embedded({name: value for name, value in environ.items() if name not in theirs} | ours, replaced, keep)


def write_env(file: Path, settings: Mapping[str, str]) -> None:
    """Writes settings for a shell to read (`. FILE`), readable by the owner alone."""
    write_private(file, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))


def _port(file: Path) -> int:
    """The port of the last time where it is free, so that a shell's settings hold over a restart."""
    known = file.read_text() if file.exists() else ""
    return free_port(int(known) if known.isdigit() else None)


@contextmanager
def _watched(servers: Sequence[Process]) -> Iterator[None]:
    """Sends us SIGTERM when a server ends by itself, and raises ServerFailed at the end."""
    leaving = threading.Event()
    lost: list[str] = []

    def watch() -> None:
        while not leaving.wait(LOOK_INTERVAL_SECONDS):
            lost.extend(server.name for server in servers if not server.alive)
            if lost:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch, name="watch embedded servers", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        leaving.set()
        watcher.join()
    if lost:
        raise ServerFailed(f"the embedded {' and '.join(lost)} ended by itself; its log is in its folder")
