"""The one entry point: every command, and how each way to fail looks and ends."""

import sys
from errno import ENOSPC, EPIPE
from typing import Annotated

import typer

from extauthz.cli import (
    audit,
    config,
    counters,
    demo,
    doctor,
    explain,
    keys,
    orgs,
    output,
    plans,
    rejections,
    schema,
    serve,
    tail,
    usage,
)
from extauthz.core.errors import ConfigError, ExtauthzError, InvalidInput
from extauthz.core.masking import masked

FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # exit statuses

app = typer.Typer(
    help="API keys, permissions, rate limits and quotas for HTTP APIs behind Envoy or nginx.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("demo", short_help="Run everything on this machine, and send sample requests.")(demo.demo)
app.command("check-config", short_help="Check settings and routes, and print those in effect.")(config.check_config)
app.command("migrate")(schema.migrate)
app.command("doctor", short_help="Check stores, rights, clocks, listeners and settings.")(doctor.doctor)
app.add_typer(plans.app, name="plans")
app.add_typer(orgs.app, name="orgs")
app.add_typer(keys.app, name="keys")
app.command("usage", short_help="Show what an organization used, and what is left.")(usage.usage)
app.command("audit")(audit.audit)
app.command("rejections", short_help="List refusals in spans of five minutes, newest first.")(rejections.rejections)
# What follows an argument too many would be repeated, and may be a key: `explain` says itself what it does not take.
app.command(
    "explain",
    short_help="Explain why a request would pass or be refused.",
    context_settings={"allow_extra_args": True},
)(explain.explain)
app.command("tail", short_help="Show decisions as they are made.")(tail.tail)
app.command("unpack-counters", short_help="Write counters in Redis as earlier builds did, to go back to one.")(
    counters.unpack_counters
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.print_line(f"extauthz {version('extauthz')}")
        raise typer.Exit


@app.callback()
def _extauthz(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, metavar="", help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> int:
    """Runs the command of `sys.argv`; its exit status. A bug keeps its traceback, which shows no local variable."""
    output.prepare()
    try:
        status = _run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (EPIPE, ENOSPC):
            raise
        if error.errno == ENOSPC:
            output.complain(error.strerror or "")
        sys.stdout = None  # else the interpreter would try once more and complain in its own words
        return FAILED
    return status


def _run(arguments: list[str]) -> int:
    try:
        for number, argument in enumerate(arguments, 1):
            if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
                raise InvalidInput(f"argument {number} must be UTF-8")
        if not output.on_terminal():
            app.rich_markup_mode = None  # help without boxes, and in half the time
        # Not `app(...)`: it would print panels for mistakes and install its own tracebacks.
        return typer.main.get_command(app).main(arguments, prog_name="extauthz", standalone_mode=False) or 0
    except typer.TyperException as error:
        output.complain(_usage(error))
        return error.exit_code
    except ConfigError as error:
        for mistake in error.mistakes:
            output.complain(mistake)
        return MISUSED
    except ExtauthzError as error:
        output.complain(str(error))
        return MISUSED if isinstance(error, InvalidInput) else FAILED


def _usage(error: typer.TyperException) -> str:
    """What the command-line library refuses, in one line, and where to read on."""
    message = masked(" ".join(error.format_message().split()).rstrip("."))
    message = message.replace(" Value error,", "").replace(". Did you mean", "; did you mean")
    context = getattr(error, "ctx", None)
    if message == "Missing command" and context:
        typer.echo(context.get_help())
    where = f"; see {context.command_path} --help" if context and not message.endswith("?") else ""
    return message[:1].lower() + message[1:] + where
