"""A key as commands print it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from extauthz.cli import output
from extauthz.cli.plans import as_options
from extauthz.cli.session import manage
from extauthz.core.errors import ExtauthzError
from extauthz.core.management import KeyDetails
from extauthz.core.permissions import Permissions, storable

if TYPE_CHECKING:
    from extauthz.app.management import Management
    from extauthz.config import Settings

T = TypeVar("T")


def to_json(key: KeyDetails) -> dict[str, object]:
    """A key for programs, with the status that it has now."""
    return key.to_json(datetime.now(UTC))


def manage_key(
    settings: "Settings", work: "Callable[[Management], Awaitable[T]]", key_of: Callable[[T], KeyDetails]
) -> tuple[T, str]:
    """What `work` makes, of which `key_of` takes the key, and the key's organization for a terminal: name and id."""

    async def named(operator: "Management") -> tuple[T, str]:
        made = await work(operator)
        id_ = key_of(made).organization_id
        name = ""
        with suppress(ExtauthzError):  # the work is done, and a new key is shown only this once
            name = (await operator.tenants.show_organization(id_)).name
        return made, f"{name} ({id_})" if name else id_

    return manage(settings, named)


def print_key(key: KeyDetails, organization: str, *, as_json: bool) -> None:
    """A key that was there before: its handle, never the key itself. `organization` as `manage_key` has it."""
    if as_json:
        output.print_json(to_json(key))
    else:
        output.print_details(_texts(key, organization))


def print_secret(details: KeyDetails, key: str, organization: str, *, settings: "Settings") -> None:
    """A new key for a terminal: the only output with the key itself, and what to do with it."""
    output.print_details({**_texts(details, organization), "key": key})
    output.print_line("")
    output.print_line("Store the key now: it will not be shown again; only its digest is kept.")
    if output.on_terminal() and (address := _address(settings, details.permissions)):
        output.print_line("Next, with `extauthz serve` running, ask as Envoy would:")
        output.print_line(f"  curl -i -H 'Authorization: Bearer {key}' {address}")


def print_list(keys: list[KeyDetails]) -> None:
    """Many keys for a terminal."""
    now = datetime.now(UTC)
    rows = [
        (
            key.id,
            key.name or "-",
            key.handle,
            _permissions_text(key.permissions),
            key.status(now),
            output.time_text(key.expires_at),
            output.time_text(key.last_used_at),
        )
        for key in keys
    ]
    output.print_table(("id", "name", "key", "permissions", "status", "expires", "last used"), rows)


def _texts(key: KeyDetails, organization: str) -> dict[str, str]:
    """What never happened to it and what it does not have is left out."""
    notes = {
        "own limits": as_options(key.limits.to_record()),
        "metadata": ", ".join(f"{name}={value}" for name, value in sorted(key.metadata.items())),
        "rotated to": key.rotated_to,
    }
    events = {"revoked": key.revoked_at, "disabled": key.disabled_at, "last used": key.last_used_at}
    return {
        "id": key.id,
        "organization": organization,
        "name": key.name or "-",
        "key": key.handle,
        "permissions": _permissions_text(key.permissions),
        "status": key.status(datetime.now(UTC)),
        "created": output.time_text(key.created_at),
        "expires": output.time_text(key.expires_at),
        **{label: output.time_text(moment) for label, moment in events.items() if moment is not None},
        **{label: text for label, text in notes.items() if text},
    }


def _permissions_text(permissions: Permissions) -> str:
    """As they are typed after `--permission`."""
    granted = [f"{resource}:{mode}" for resource, modes in storable(permissions).items() for mode in modes]
    return " ".join(granted) or "none"


def _address(settings: "Settings", permissions: Permissions) -> str | None:
    """Where the listener for Envoy takes a GET of the first route that a key needs; None where there is no such one."""
    listen = settings.envoy_listen
    route = next((each for each in settings.routes.routes if not (each.public or each.host or each.methods)), None)
    granted = next((resource for resource, modes in permissions.items() if modes), None)
    if listen is None or listen.path is not None or route is None or granted is None:
        return None
    resource = granted.replace("*", "anything")
    path = route.path.removesuffix("/**").replace("{resource}", resource).replace("*", "anything") or "/"
    host = listen.host.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104 - compared, not bound to
    return f"http://{host}:{listen.port}{settings.envoy_path_prefix}{path}"
