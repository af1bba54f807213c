"""`extauthz serve`: the service."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli.orphans import leave_orphans_to_a_parent
from extauthz.cli.output import complain

if TYPE_CHECKING:
    from extauthz.demo.embedded import Embedded


def serve(
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML). Default: EXTAUTHZ_CONFIG.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: EXTAUTHZ_WORKERS.", min=1, max=256)] = None,
    embedded: Annotated[
        Path | None,
        typer.Option(
            help="Run PostgreSQL and a Redis-compatible server too, with all data in this folder.", metavar="DIR"
        ),
    ] = None,
) -> None:
    """Answer Envoy, nginx and forward auth until told to stop."""
    leave_orphans_to_a_parent()
    import asyncio

    from extauthz.app import listeners, process, signals
    from extauthz.backends.postgres import migrate
    from extauthz.config import load
    from extauthz.telemetry import logs
    from extauthz.transports.http.passed import PassedSockets

    signals.hold()
    passed = PassedSockets(os.environ)
    environ = dict(os.environ)
    options = {} if workers is None else {"EXTAUTHZ_WORKERS": str(workers)}
    with ExitStack() as stack:
        servers = None
        if embedded is not None:
            servers = stack.enter_context(_embedded(embedded.absolute(), environ))
            environ = dict(servers.environ)
        settings = load(environ, config, options=options)
        if embedded is not None and sys.stderr.isatty() and "EXTAUTHZ_DRAIN_SECONDS" not in settings.sources:
            quick = {"EXTAUTHZ_DRAIN_SECONDS": "0"}  # Ctrl-C stays quick
            settings = load(environ | quick, config, options=options)
        logs.configure(form=settings.log_form(terminal=sys.stderr.isatty()), level=settings.log_level)
        logs.notes(settings.notes)
        if servers is not None:
            asyncio.run(migrate.upgrade(settings.database_url.get_secret_value()))
        asyncio.run(process.check_schema(settings))
        process.allow_connections()
        sockets, files = listeners.bind_all(settings, passed)
        stack.callback(files.remove)
        if servers is not None:
            servers.keep()
        try:
            if settings.workers == 1:
                process.run(process.serve(settings, sockets, patience=passed.patience))
            else:
                from extauthz.app.supervisor import Supervisor

                asyncio.run(Supervisor(settings, sockets, patience=passed.patience).run())
        finally:
            signals.hold()  # a closed loop leaves every signal as it was, while embedded servers still have to end


@contextmanager
def _embedded(folder: Path, environ: dict[str, str]) -> Iterator["Embedded"]:
    from extauthz.demo.embedded import ENV_FILE, embedded

    with embedded(folder, environ) as servers:
        for name in servers.replaced:
            complain(f"warning: {name} has no effect: --embedded has one of its own in {folder}")
        # On standard output: no line of the log, and for a person.
        typer.echo(f"extauthz: for commands in another shell: . {shlex.quote(str(folder / ENV_FILE))}")
        yield servers
