"""The arguments and options that several commands share."""

import re
from pathlib import Path
from typing import Annotated

import typer

from extauthz.cli import parse
from extauthz.core.errors import InvalidInput

_ID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)


def _key_id(text: str) -> str:
    """Refuses what is no id without repeating it: people take the key for its id."""
    if not _ID.fullmatch(text):
        raise InvalidInput("that is no id of a key: keys list shows ids; a key itself is never an argument")
    return text


def maybe_key_id(text: str | None) -> str | None:
    """The same for an option that may be left out."""
    return None if text is None else _key_id(text)


Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration file (TOML). Default: what EXTAUTHZ_CONFIG names."),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON value and nothing else.")]
Organization = Annotated[str, typer.Argument(metavar="ORG", help="An organization, by its id or its name.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id of a key.", callback=_key_id)]
PlanName = Annotated[str, typer.Argument(metavar="NAME", help="The name of a plan.")]

_RATE = typer.Option("--rate", metavar="R", help="Tokens per time: 0.5, 100/min, 1/d; or none.")
_BURST = typer.Option("--burst", metavar="B", help="Tokens that may be spent at once; or none.")
Rate = Annotated[str | None, _RATE]
Burst = Annotated[str | None, _BURST]
NeededRate = Annotated[str, _RATE]
NeededBurst = Annotated[str, _BURST]
DailyQuota = Annotated[
    str | None, typer.Option("--daily-quota", metavar="N", help="Tokens a day, 0 for nothing allowed; or none.")
]
MonthlyQuota = Annotated[
    str | None, typer.Option("--monthly-quota", metavar="N", help="Tokens a month, 0 for nothing allowed; or none.")
]

Name = Annotated[
    str | None, typer.Option("--name", metavar="N", help="What it is for, for people.", callback=parse.name)
]
Permission = Annotated[
    list[str] | None,
    typer.Option("--permission", metavar="RESOURCE:MODE", help="What it may do, as customer:read; may be repeated."),
]
ExpiresIn = Annotated[
    str | None, typer.Option("--expires-in", metavar="DURATION", help="How long it lives from now: 90s, 15m, 1h, 30d.")
]
ExpiresAt = Annotated[
    str | None, typer.Option("--expires-at", metavar="TIME", help="When it ends: 2030-01-31T12:00:00Z.")
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="NAME=VALUE", help="A note to keep with it; may be repeated."),
]
