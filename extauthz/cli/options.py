"""The arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration file (TOML). Default: what EXTAUTHZ_CONFIG names."),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON value and nothing else.")]
Organization = Annotated[str, typer.Argument(metavar="ORG", help="An organization, by its id or its name.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id of a key.")]
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
