"""`extauthz check-config`: what is in effect, and where it came from."""

from typing import TYPE_CHECKING

from extauthz.cli import options, output
from extauthz.cli.session import read_settings
from extauthz.core.tenants import SHADOW

if TYPE_CHECKING:
    from extauthz.core.route_rules import Route


def check_config(config: options.Config = None, as_json: options.Json = False) -> None:
    """Check all settings and routes, and print those in effect, secrets masked."""
    settings = read_settings(config, serves=True)
    effective, routes = settings.effective(), settings.routes.routes
    if as_json:
        output.print_json(
            {
                "settings": {
                    name: {"value": None if value == "-" else value, "source": source}
                    for name, value, source in effective
                },
                "routes": [_record(route) for route in routes],
                "notes": list(settings.notes),
            }
        )
        return
    output.print_table(("setting", "value", "source"), effective, folds=1)
    output.print_line("")
    output.print_table(("route", "host", "methods", "asks for", "cost"), list(map(_row, routes)), folds=0)
    for note in settings.notes:
        output.complain(f"note: {note}")


def _record(route: "Route") -> dict[str, object]:
    return {
        "path": route.path,
        "host": route.host,
        "methods": None if route.methods is None else sorted(route.methods),
        "resource": route.resource,
        "mode": route.mode,
        "cost": route.cost,
        "public": route.public,
        "cache": route.cache,
        "limits": route.limits,
        "rate": route.rate,
        "burst": route.burst,
    }


def _row(route: "Route") -> output.Row:
    resource = route.resource or "{resource}"
    notes = {
        "nothing (public)" if route.public else f"{resource}:{route.mode or 'by method'}": True,
        f"{route.rate} and burst {route.burst} by address": route.rate is not None,
        "uncached": not route.cache,
        "limits in shadow": route.limits == SHADOW,
    }
    asks = ", ".join(note for note, holds in notes.items() if holds)
    methods = "any" if route.methods is None else " ".join(sorted(route.methods))
    cost = "-" if route.public else str(route.cost)
    return (route.path, route.host or "any", methods, asks, cost)
