"""`extauthz tail`: decisions as they are made."""

import json
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from extauthz.cli import options, output
from extauthz.cli.session import read_settings
from extauthz.core.errors import ConfigError, InvalidInput
from extauthz.core.masking import shown
from extauthz.core.tail import TAIL_DECISIONS

if TYPE_CHECKING:
    from extauthz.cli.admin_stream import AdminStream

NAMES_MAX = 1000  # organizations whose names are kept
_COLOURS = {"allow": 32, "authentication_unavailable": 31, "limits_unavailable": 31}  # of a terminal; others are yellow
_YELLOW = 33


def tail(
    organization: Annotated[
        str | None, typer.Option("--org", metavar="ORG", help="Only of an organization, by its id or its name.")
    ] = None,
    key_id: Annotated[
        str | None, typer.Option("--key", metavar="ID", help="Only of a key, by its id.", callback=options.maybe_key_id)
    ] = None,
    decision: Annotated[
        str | None,
        typer.Option("--decision", metavar="D", help="Only of a kind, as permission_denied; denials: all but allow."),
    ] = None,
    admin: Annotated[
        str | None,
        typer.Option(
            "--admin", metavar="URL", help="The private listener of an instance. Default: EXTAUTHZ_ADMIN_LISTEN."
        ),
    ] = None,
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print a JSON object on each line.")] = False,
) -> None:
    """Show decisions as they are made, of all workers of one instance, until Ctrl-C.

    Decisions that come faster than the terminal takes them are dropped, and their number is shown.
    """
    if decision is not None and decision not in TAIL_DECISIONS:
        raise InvalidInput(f"--decision must be one of {', '.join(TAIL_DECISIONS)} (got {shown(decision)!r})")
    settings = read_settings(config, needs=())
    if not settings.admin_token:
        raise ConfigError(["EXTAUTHZ_ADMIN_TOKEN: required; set it to a token that the service was started with"])
    from extauthz.cli.admin_stream import AdminStream, run

    stream = AdminStream(admin, settings.admin_listen, settings.admin_token[0].value)
    asked = {"organization_id": organization, "api_key_id": key_id, "decision": decision}
    only = {name: text for name, text in asked.items() if text is not None}

    def leave(_signal: int, _frame: object) -> None:
        os._exit(0)  # also while the reader of standard output stalls

    signal.signal(signal.SIGINT, leave)
    run(_show(stream, only, as_json=as_json))


async def _show(stream: "AdminStream", only: dict[str, str], *, as_json: bool) -> None:
    names: dict[str, str] = {}
    async with stream.opened():
        first = True
        async for line in stream.lines("/v1/tail", only):
            found: dict[str, Any] = json.loads(line)
            if first:
                output.hint(f"Watching decisions at {stream.where}; Ctrl-C ends it.")
                first = False
            if "time" not in found:
                if found["dropped"]:
                    output.complain(f"{found['dropped']} decisions were dropped here: they came faster than they went")
                continue
            text = line.decode().rstrip("\n") if as_json else _row(found, await _name(stream, found, names))
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


async def _name(stream: "AdminStream", found: dict[str, Any], names: dict[str, str]) -> str:
    """The name of a decision's organization; its id where the name cannot be had."""
    id_: str | None = found["organization_id"]
    if id_ is None:
        return "-"
    if id_ not in names:
        if len(names) >= NAMES_MAX:
            return id_
        names[id_] = await stream.field(f"/v1/organizations/{quote(id_, safe='')}", "name") or id_
    return names[id_]


def _row(found: dict[str, Any], organization: str) -> str:
    """A decision as text; on a terminal one line of it, where the path ends with its edge."""
    more = found["reason"] or ("degraded" if found["degraded"] else "")
    decision = f"{found['decision']} ({more})" if more else found["decision"]
    milliseconds = f"{found['duration_us'] / 1000:.1f}ms"
    asked = f"{found['method']} {found['path']}" if found["method"] else "(not a check)"
    start, rest = found["time"][11:19], f"{milliseconds:>7} {asked}"
    row = output.one_line(f"{start} {decision:<19} {organization:<14} {rest}")
    if not output.on_terminal():
        return row
    from rich.cells import set_cell_size

    width = shutil.get_terminal_size().columns
    row = set_cell_size(row, width - 1).rstrip()
    if os.environ.get("NO_COLOR"):
        return row
    colour = _COLOURS.get(found["decision"], _YELLOW)
    return row.replace(decision, f"\x1b[{colour}m{decision}\x1b[0m", 1)
