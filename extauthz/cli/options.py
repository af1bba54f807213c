"""The arguments and options that several commands share."""

import re
from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from extauthz.cli import parse
from extauthz.core.errors import InvalidInput
from extauthz.core.limit_kinds import QUOTAS, QuotaKind

_NAMES = [quota.options.partition(" ")[0] for quota in QUOTAS]
QUOTA_OPTIONS = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
Command = TypeVar("Command", bound=Callable[..., None])

_ID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)


def _key_id(text: str) -> str:
    """Refuses a malformed id without repeating it, because users mistake the key for its id."""
    if not _ID.fullmatch(text):
        raise InvalidInput("the id of a key must be a UUID, as keys list shows it; a key itself is never an argument")
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

Name = Annotated[
    str | None, typer.Option("--name", metavar="N", help="What it is for; shown in lists.", callback=parse.name)
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


def with_quotas(command: Command) -> Command:
    """Gives a command an option for each quota, behind `burst`: what its `quotas` are, by their columns."""
    setattr(command, "__signature__", signature(command).replace(parameters=list(_parameters(command))))  # noqa: B010
    return command


def _parameters(command: Command) -> Iterator[Parameter]:
    for parameter in signature(command).parameters.values():
        if parameter.kind is not Parameter.VAR_KEYWORD:
            yield parameter
        if parameter.name == "burst":
            yield from map(_quota_parameter, QUOTAS)


def _quota_parameter(quota: QuotaKind) -> Parameter:
    name, text = quota.options.partition(" ")[0], f"Tokens {quota.per}, 0 for nothing allowed; or none."
    annotation = Annotated[str | None, typer.Option(name, metavar="N", help=text)]
    return Parameter(quota.column, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation)
