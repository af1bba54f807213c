"""`extauthz orgs credits` and `extauthz keys credits`: a count that does not renew is shown, topped up and set."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.session import manage, read_settings, warn_if_late
from extauthz.core.changes import EntityRef
from extauthz.core.credits import Credits
from extauthz.core.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from extauthz.app.management import Management

_COMMANDS = {"organization": "orgs credits ORG", "api_key": "keys credits ID"}

Action = Annotated[
    Literal["show", "add", "set"],
    typer.Argument(help="Add: so many more; set: so many in total, used or not, or none for no such limit."),
]
Amount = Annotated[str | None, typer.Argument(metavar="[N]", help="How many tokens.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit log.", show_default=False)]


def of_organization(
    organization: options.Organization,
    action: Action = "show",
    amount: Amount = None,
    reason: Reason = "",
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show or grant the credits of an organization, which do not renew."""
    holder = EntityRef("organization", organization)
    _run(holder, (action, amount, reason), config, as_json=as_json, cache="TENANT_QUOTA_CACHE_TTL")


def of_key(
    key_id: options.KeyId,
    action: Action = "show",
    amount: Amount = None,
    reason: Reason = "",
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show or grant the credits of a key, inside its organization's. They do not renew."""
    holder = EntityRef("api_key", key_id)
    _run(holder, (action, amount, reason), config, as_json=as_json, cache="API_KEY_CACHE_TTL")


def _run(
    holder: EntityRef, asked: tuple[str, str | None, str], config: "Path | None", *, as_json: bool, cache: str
) -> None:
    action, amount, reason = asked
    if action == "show" and (amount is not None or reason):
        raise InvalidInput("show takes no number and no --reason: to change credits, give add N or set N")
    if action != "show" and amount is None:
        raise InvalidInput(f"{action} needs a number, as in: {_COMMANDS[holder.kind]} {action} 1000")
    total = None if amount is None or (action == "set" and amount == "none") else parse.count("credits", amount)

    async def work(operator: "Management") -> tuple[Credits, bool]:
        if action == "add" and total is not None:
            return await operator.credits.add(holder, total, reason=reason)
        if action == "set":
            return await operator.credits.set(holder, total, reason=reason)
        return await operator.credits.show(holder), True

    settings = read_settings(config)
    found, told = manage(settings, work)
    if as_json:
        output.print_json(found.to_json())
    else:
        counts = {"granted": found.granted, "used": found.used, "left": found.left}
        texts = {"name": found.name, "id": found.id} | counts
        output.print_details({name: "none" if value is None else str(value) for name, value in texts.items()})
    warn_if_late(told, settings, cache=cache)
