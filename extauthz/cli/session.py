"""What every command that asks PostgreSQL shares: its settings, its loop, and what is said when a store is away."""

import os
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from extauthz.cli.output import complain, progress
from extauthz.core.errors import ExtauthzError, StoreUnavailable
from extauthz.core.ports import POSTGRESQL

if TYPE_CHECKING:
    from extauthz.config import Settings
    from extauthz.management import Management

T = TypeVar("T")


class StoreAway(ExtauthzError):
    """A store did not do what a command needs; the text says where it was looked for and what to do next."""


def read_settings(config: Path | None, *, needs: Collection[str] | None = None) -> "Settings":
    """The settings of this process; `needs` as `config.load` has it. Raises ConfigError."""
    from extauthz.config import load

    return load(os.environ, config, needs=needs)


def manage(settings: "Settings", work: "Callable[[Management], Awaitable[T]]") -> T:
    """What `work` makes of the management of keys and tenants. Raises what it raises, SchemaUnknown, StoreAway."""

    async def managed() -> T:
        from extauthz.backends.postgres import schema

        # A plain connection says at once what is wrong; the pool behind `management` would only be late.
        await schema.status(settings.database_url.get_secret_value())
        from extauthz.management import management

        async with management(settings) as opened:
            return await work(opened)

    return run(managed(), settings, doing="Waiting for PostgreSQL and Redis")


def run(work: Coroutine[Any, Any, T], settings: "Settings", *, doing: str) -> T:
    """The result of `work`; a terminal says `doing` while it takes long. Raises what it raises, StoreAway."""
    import asyncio

    async def watched() -> T:
        async with progress(doing):
            return await work

    try:
        return asyncio.run(watched())
    except StoreUnavailable as error:
        raise StoreAway(_explain(error, settings)) from error


def _explain(error: StoreUnavailable, settings: "Settings") -> str:
    setting, store = ("DATABASE_URL", "PostgreSQL") if error.store == POSTGRESQL else ("REDIS_URL", "Redis")
    masked = {name: value for name, value, _ in settings.effective()}[setting]
    return f"{store} at {masked} cannot be used ({_reason(error)}): see that it runs and that {setting} is right"


def _reason(error: StoreUnavailable) -> str:
    """The words of the server or the network where they say more than ours; of a client's own mistake only its kind.

    Those words never hold a password: libpq names host, port, user and database.
    """
    cause = error.__cause__
    words = str(cause or "").strip().splitlines()[:1]
    if error.reason == "connection" and words:
        return words[0].rpartition("failed: ")[2].removeprefix("FATAL:").strip()
    return f"client: {type(cause).__name__}" if error.reason == "client" else error.reason


def warn_if_late(told: bool, settings: "Settings", *, cache: str) -> None:
    """Warns where the shared cache could not be told of a change; `cache` is the setting of its seconds."""
    if not told:
        seconds = getattr(settings, cache.lower())
        complain(f"warning: Redis could not be told; the change takes effect within {cache}, {seconds} seconds")


def interruptible() -> None:
    """From now on Ctrl-C ends this process at once, also while a thread waits for PostgreSQL, which then rolls back."""
    import signal

    def leave(_signal: int, _frame: object) -> None:
        if sys.stderr.isatty():
            os.write(2, b"\r\x1b[K\x1b[?25h")  # away with the progress line, back with the cursor that it hides
        os._exit(130)

    signal.signal(signal.SIGINT, leave)
