"""Leases in benches: the setting that has a service take them, and the argument that asks for it."""

import argparse
from collections.abc import Mapping

LEASES = {"RATE_LIMIT_LEASES": "auto"}


def leases_asked_for(prog: str, description: str | None) -> Mapping[str, str]:
    """The setting where the command was called with `--leases`, else none."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--leases", action="store_true", help="with RATE_LIMIT_LEASES=auto")
    return LEASES if parser.parse_args().leases else {}
