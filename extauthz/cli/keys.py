"""`extauthz keys`: the life of a key."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.session import manage, read_settings, warn_if_late
from extauthz.core.permissions import Permissions, storable
from extauthz.core.records import KeyDetails

if TYPE_CHECKING:
    from extauthz.config import Settings

app = typer.Typer(help="API keys of an organization.")


@app.command()
def create(
    organization: options.Organization,
    name: Annotated[str, typer.Option("--name", metavar="N", help="What it is for, for people.")] = "",
    permission: Annotated[
        list[str] | None,
        typer.Option(
            "--permission",
            metavar="RESOURCE:MODE",
            help="What it may do, as customer:read; may be repeated. Default: *:read and *:write, everything.",
        ),
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", metavar="DURATION", help="How long it lives: 90s, 15m, 1h, 30d.")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", metavar="TIME", help="When it ends: 2030-01-31T12:00:00Z.")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Create a key and show it, this once: only its digest is stored."""
    permissions = parse.permissions(permission or ())
    expiry = parse.expiry(expires_in, expires_at, datetime.now(UTC))
    settings = read_settings(config)
    details, key = manage(
        settings,
        lambda office: office.keys.create(organization, name=name, permissions=permissions, expires_at=expiry),
    )
    if as_json:
        output.print_json({**details.to_json(), "key": key})
    else:
        _print_new(details, key, settings)


@app.command("list")
def list_all(organization: options.Organization, config: options.Config = None, as_json: options.Json = False) -> None:
    """List the keys of an organization, newest first."""
    keys = manage(read_settings(config), lambda office: office.keys.list_of(organization))
    now = datetime.now(UTC)
    if as_json:
        output.print_json([key.to_json() for key in keys])
    elif not keys:
        output.hint("The organization has no key yet: extauthz keys create ORG")
    else:
        rows = [
            (
                key.id,
                key.name or "-",
                key.handle,
                _permissions_text(key.permissions),
                key.status(now),
                output.time_text(key.expires_at),
            )
            for key in keys
        ]
        output.print_table(("id", "name", "key", "permissions", "status", "expires"), rows)


@app.command()
def show(key_id: options.KeyId, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show a key: everything but the key itself, which is nowhere stored."""
    _print(manage(read_settings(config), lambda office: office.keys.show(key_id)), as_json)


@app.command()
def revoke(
    key_id: options.KeyId,
    last: Annotated[
        bool, typer.Option("--last", metavar="", help="Even the last usable key of its organization.")
    ] = False,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """End a key for good."""
    settings = read_settings(config)
    key, told = manage(settings, lambda office: office.keys.revoke(key_id, last=last))
    _print(key, as_json)
    warn_if_late(told, settings, cache="API_KEY_CACHE_TTL")


def _print(key: KeyDetails, as_json: bool) -> None:
    if as_json:
        output.print_json(key.to_json())
    else:
        output.print_details(_texts(key))


def _print_new(details: KeyDetails, key: str, settings: "Settings") -> None:
    output.print_details({**_texts(details), "key": key})
    output.print_line("")
    output.print_line("Store the key now: it will not be shown again; only its digest is kept.")
    if output.on_terminal() and (address := _address(settings, details.permissions)):
        output.print_line("Next, with `extauthz serve` running, ask as Envoy would:")
        output.print_line(f"  curl -i -H 'Authorization: Bearer {key}' {address}")


def _texts(key: KeyDetails) -> dict[str, str]:
    """A key for people; what never happened to it is left out."""
    events = {"revoked": key.revoked_at, "disabled": key.disabled_at, "last used": key.last_used_at}
    return {
        "id": key.id,
        "organization": key.organization_id,
        "name": key.name or "-",
        "key": key.handle,
        "permissions": _permissions_text(key.permissions),
        "status": key.status(datetime.now(UTC)),
        "created": output.time_text(key.created_at),
        "expires": output.time_text(key.expires_at),
        **{label: output.time_text(moment) for label, moment in events.items() if moment is not None},
    }


def _permissions_text(permissions: Permissions) -> str:
    """As they are typed after `--permission`."""
    granted = [f"{resource}:{mode}" for resource, modes in storable(permissions).items() for mode in modes]
    return " ".join(granted) or "none"


def _address(settings: "Settings", permissions: Permissions) -> str | None:
    """Where the listener for Envoy takes a GET of the first route that a key needs; None where there is no such one."""
    listen = settings.envoy_listen
    route = next((each for each in settings.routes.routes if not (each.public or each.host or each.methods)), None)
    if listen is None or listen.path is not None or route is None:
        return None
    resource = next(iter(permissions)).replace("*", "anything")
    path = route.path.removesuffix("/**").replace("{resource}", resource).replace("*", "anything") or "/"
    host = listen.host.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104 - compared, not bound to
    return f"http://{host}:{listen.port}{settings.envoy_path_prefix}{path}"
