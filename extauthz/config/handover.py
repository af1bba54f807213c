"""Settings as a JSON object: how a supervisor hands them to its workers, so that all of them have the same."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from extauthz.config.settings import Settings
from extauthz.core.routes import Route, RouteTable


def to_record(settings: Settings) -> dict[str, object]:
    """The settings as they were written, secrets among them, with the routes and where each was read."""
    routes = [
        asdict(route) | {"methods": None if route.methods is None else sorted(route.methods)}
        for route in settings.routes.routes
    ]
    return {
        "texts": dict(settings.texts),
        "sources": dict(settings.sources),
        "notes": list(settings.notes),
        "lookup_sql": settings.lookup_sql,
        "routes": routes,
        "resources": dict(settings.routes.resources.segments),
    }


def from_record(record: Mapping[str, Any]) -> Settings:
    """The settings of `to_record`."""
    routes = [
        Route(**route | {"methods": None if route["methods"] is None else frozenset(route["methods"])})
        for route in record["routes"]
    ]
    return Settings.model_validate(
        {
            **record["texts"],
            "texts": record["texts"],
            "sources": record["sources"],
            "notes": tuple(record["notes"]),
            "lookup_sql": record["lookup_sql"],
            "routes": RouteTable.compile(routes, record["resources"]),
        }
    )
