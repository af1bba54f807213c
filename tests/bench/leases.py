"""Leases in benches: the setting that has a service take them, and the argument that asks for it."""

import argparse
from collections.abc import Mapping

from extauthz.config import Settings

# Empty in a version without them.
LEASES: Mapping[str, str] = {"RATE_LIMIT_LEASES": "auto"} if "rate_limit_leases" in Settings.model_fields else {}


def leases_asked_for(prog: str, description: str | None) -> Mapping[str, str]:
    """The setting where the command was called with `--leases`, else none."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--leases", action="store_true", help="with RATE_LIMIT_LEASES=auto")
    told = parser.parse_args()
    if told.leases and not LEASES:
        parser.error("this version has no leases")
    return LEASES if told.leases else {}
