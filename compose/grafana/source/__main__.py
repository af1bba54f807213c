"""Writes every dashboard into `compose/grafana/dashboards/`."""

import json
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from compose.grafana.source import customers, keys, overview, stores, workers

FOLDER = Path(__file__).parents[1] / "dashboards"


def documents() -> Mapping[str, str]:
    """The text of each file, by its name."""
    boards = (overview, customers, stores, keys, workers)
    made = {module.__name__.rpartition(".")[2]: module.DASHBOARD for module in boards}
    return {f"{name}.json": json.dumps(each, cls=JSONEncoder, indent=2) + "\n" for name, each in made.items()}


if __name__ == "__main__":
    for name, text in documents().items():
        (FOLDER / name).write_text(text, "utf-8")
