"""What every command that asks PostgreSQL shares: its settings, its loop, and what is said when a store is away."""

import os
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from extauthz.cli.output import complain, progress
from extauthz.core.errors import ExtauthzError, StoreUnavailable
from extauthz.core.limits import Limits
from extauthz.core.ports import POSTGRESQL

if TYPE_CHECKING:
    from extauthz.app.management import Management
    from extauthz.config import Settings

SILENCE_TIMEOUT_SECONDS = 90.0  # that PostgreSQL may be silent; the longest statement may take a minute

T = TypeVar("T")


class KeptElsewhere(ExtauthzError):
    """Keys are in tables of another application, which extauthz only reads."""


class StoreAway(ExtauthzError):
    """A store did not do what a command needs; the text says where it was looked for and what to do next."""


def read_settings(config: Path | None, *, needs: Collection[str] | None = None, serves: bool = False) -> "Settings":
    """The settings of this process; `needs` and `serves` as `config.load` has them. Raises ConfigError."""
    from extauthz.config import load

    return load(os.environ, config, needs=needs, serves=serves)


def manage(
    settings: "Settings",
    work: "Callable[[Management], Awaitable[T]]",
    *,
    doing: str | None = "Waiting for PostgreSQL and Redis",
) -> T:
    """What `work` makes of the management of keys and tenants, in the name of the user of this process.

    `doing` as `run` has it; where it is None, `work` itself does what it does `patiently`, part by part.
    Raises what `work` raises, KeptElsewhere, SchemaUnknown, StoreAway.
    """
    if settings.lookup_sql:
        raise KeptElsewhere("keys come from [keys] lookup_sql; manage them where they are kept")

    async def managed() -> T:
        from extauthz.backends.postgres import schema

        # A plain connection says at once what is wrong; the pool behind `management` would only be late.
        await schema.status(settings.database_url.get_secret_value())
        from extauthz.app.management import management

        async with management(settings, actor=f"cli:{_user()}") as opened:
            with nullcontext() if doing is None else patiently():
                return await work(opened)

    return run(managed(), settings, doing=doing)


def _user() -> str:
    """The user by the operating system, not by the environment, where any program can set it."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())  # as in a container, whose users often have no name


def run(work: Coroutine[Any, Any, T], settings: "Settings", *, doing: str | None) -> T:
    """The result of `work`; a terminal says `doing` while it takes long, None where `work` says so itself.

    Raises what `work` raises, StoreAway.
    """
    import asyncio

    async def watched() -> T:
        async with progress(doing) if doing else nullcontext():
            return await work

    try:
        return asyncio.run(watched())
    except StoreUnavailable as error:
        raise StoreAway(_explain(error, settings)) from error


@contextmanager
def patiently(done: str = "") -> Iterator[None]:
    """What is done inside has 90 seconds; then this process ends with status 1, and says what was `done` until then.

    A driver whose server hangs cannot be cancelled: it would wait for that, too.
    """
    import asyncio

    def give_up() -> None:
        sys.stdout.flush()
        _clear_progress()
        waited = f"{SILENCE_TIMEOUT_SECONDS:g} seconds"
        doubt = f"no answer from PostgreSQL within {waited}; whether the change was made is not known"
        complain(f"{doubt}; {done}" if done else doubt)
        sys.stderr.flush()
        os._exit(1)

    timer = asyncio.get_running_loop().call_later(SILENCE_TIMEOUT_SECONDS, give_up)
    try:
        yield
    finally:
        timer.cancel()


def _explain(error: StoreUnavailable, settings: "Settings") -> str:
    """The words of the server or the network where there are some; of a client's own mistake only its kind."""
    setting, store = ("DATABASE_URL", "PostgreSQL") if error.store == POSTGRESQL else ("REDIS_URL", "Redis")
    masked = {name: value for name, value, _ in settings.effective()}[setting]
    reason = f"client: {type(error.__cause__).__name__}" if error.reason == "client" else error.reason
    remedy = error.remedy or f"see that it runs and that {setting} is right"
    return f"{store} at {masked} cannot be used ({error.said or reason}): {remedy}"


def warn_if_late(told: bool, settings: "Settings", *, cache: str) -> None:
    """Warns where the shared cache could not be told of a change; `cache` is the setting of its seconds."""
    if not told:
        seconds = getattr(settings, cache.lower())
        complain(
            "warning: Redis could not be told; where PostgreSQL's messages do not arrive either, the change takes"
            f" effect within {cache}, {seconds} seconds"
        )


def warn_if_too_small(limits: Limits, settings: "Settings") -> None:
    """Warns of each limit that can never hold what a route costs."""
    routes = settings.routes.charged
    for name, size in limits.below(max((route.cost for route in routes), default=0)).items():
        dear = [route for route in routes if route.cost > size]
        dearest = max(dear, key=lambda route: route.cost)
        others, their = (f" and {len(dear) - 1} more", "their") if len(dear) > 1 else ("", "its")
        complain(
            f"warning: {name.replace('_', ' ')} {size} is below the cost {dearest.cost} of the route"
            f" {dearest.path}{others}: {their} requests will be refused as cost_exceeds_limit"
        )


def interruptible() -> None:
    """From now on Ctrl-C ends this process at once, also while a thread waits for PostgreSQL, which then rolls back."""
    import signal

    def leave(_signal: int, _frame: object) -> None:
        _clear_progress()
        os._exit(130)

    signal.signal(signal.SIGINT, leave)


def _clear_progress() -> None:
    """Away with the progress line, back with the cursor that it hides."""
    if sys.stderr.isatty():
        os.write(2, b"\r\x1b[K\x1b[?25h")
