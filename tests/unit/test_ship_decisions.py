"""The recipes for log stores are well-formed, and each field of a decision that they name is one of the log."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz.core.reason import Reason
from extauthz.telemetry.decision_record import FIELDS

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
FOLDER = HOWTO / "ship-decisions"
PAGE = (HOWTO / "ship-decisions.md").read_text()
FILE = "/var/log/extauthz/decisions.jsonl"
TABLE = (FOLDER / "clickhouse.sql").read_text()
VECTOR = sorted(FOLDER.glob("vector-*.yaml"))
FUNCTIONS = {"count", "quantile", "yesterday", "now", "toDate", "toDateTime"}


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", VECTOR, ids=lambda file: file.stem)
def test_vector(file: Path) -> None:
    """It reads the decision log, parses it, and sends it on; its expressions name fields of the log, or its own."""
    made = read(file)
    assert made["sources"]["decisions"]["include"] == [FILE]
    assert made["transforms"]["parsed"]["inputs"] == list(made["sources"])
    (sink,) = made["sinks"].values()
    assert sink["inputs"] == list(made["transforms"])
    assert sink["buffer"]["type"] == "disk"
    text = file.read_text()
    source = made["transforms"]["parsed"]["source"]
    named = set(re.findall(r"\{\{ (\w+) \}\}", text)) | set(re.findall(r"\(\.(\w+),", source))
    assert named - {"message"} <= set(FIELDS)


def test_fluent_bit() -> None:
    """It reads the decision log by a parser that is defined, and each output takes what the input gives."""
    made = read(FOLDER / "fluent-bit.yaml")
    (source,) = made["pipeline"]["inputs"]
    (parser,) = made["parsers"]
    assert source["path"] == FILE
    assert source["parser"] == parser["name"]
    assert parser["time_key"] in FIELDS
    outputs = {output["name"]: output for output in made["pipeline"]["outputs"]}
    assert set(outputs) == {"loki", "http", "s3"}
    assert {output["match"] for output in outputs.values()} == {source["tag"]}
    labels = {label.strip().removeprefix("$") for label in outputs["loki"]["label_keys"].split(",")}
    assert labels <= set(FIELDS)
    assert table_name() in outputs["http"]["uri"]


def table_name() -> str:
    found = re.search(r"CREATE TABLE IF NOT EXISTS (\w+)", TABLE)
    assert found is not None
    return found[1]


def test_the_table_of_clickhouse() -> None:
    """Its columns are the fields, in their order, and Vector sends to it."""
    columns = re.findall(r"^    `(\w+)` ", TABLE, re.MULTILINE)
    assert tuple(columns) == FIELDS
    assert read(FOLDER / "vector-clickhouse.yaml")["sinks"]["clickhouse"]["table"] == table_name()


def test_queries_of_the_page() -> None:
    """What they compare and show is a field, and each decision that they name is one."""
    (queries,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    words = set(re.findall(r"\b[a-z_]+\b", re.sub(r"--.*|'[^']*'", "", queries)))
    assert words - {table_name(), "p99_ms"} - {each.lower() for each in FUNCTIONS} <= set(FIELDS)
    (logql,) = re.findall(r"```logql\n(.*?)```", PAGE, re.DOTALL)
    labels = set(re.findall(r"(\w+)!?=\"", logql)) - {"service_name"}
    assert labels <= set(FIELDS)
    decisions = re.findall(r"decision !?= '(\w+)'", queries) + re.findall(r'decision!?="(\w+)"', logql)
    assert set(decisions) <= {reason.value for reason in Reason}


def test_the_page_of_the_fields() -> None:
    """The reference page has every field in its order, with the attribute that OTLP gives it."""
    from extauthz.telemetry.otlp_logs import ATTRIBUTES

    page = (HOWTO.parent / "reference" / "decision-log.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| [\w ]+ \| .* \| (.*) \|$", page, re.MULTILINE))
    assert tuple(rows) == FIELDS
    for field, attribute in ATTRIBUTES.items():
        assert f"`{attribute}`" in rows[field]
    assert set(FIELDS) - set(ATTRIBUTES) == {"time", "trace_id"}
