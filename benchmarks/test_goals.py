"""The verdicts of the bench of speed follow from its figures, and what it prints and draws is whole."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import cases, compare
from benchmarks.chart import bars
from benchmarks.figures import ALL, goals_text, part_text
from benchmarks.goals import Goal, judge
from benchmarks.rates import HALF, JUDGED_RATE, at_rate, over
from benchmarks.runs import Rows, hold_against, load_is_full, pace
from benchmarks.scale import EACH_ONCE, LARGE, LONG_WARM, ONE, SMALL, TWO
from benchmarks.stage import allow_row, leases_row
from benchmarks.start import HELP, IMPORTS, READY, TYPER

WAYS = (cases.ALL_DIFFER, cases.ONE_PATH, over(8), over(1), at_rate(JUDGED_RATE), HALF)
SINGLE = (
    cases.FLOOR,
    *(cases.NO_CREDENTIAL, cases.MALFORMED_CREDENTIAL, cases.FORBIDDEN, cases.SPENT, cases.ADDRESSES),
    *(cases.TWO_WINDOWS, cases.MEASURED, cases.UNMEASURED, LARGE, SMALL, EACH_ONCE, LONG_WARM, ONE, TWO),
    *(HELP, TYPER, READY, IMPORTS),
)


def test_a_full_load_does_not_judge_the_rate() -> None:
    """Where the load's core was full in most rounds, the server's pace is what its CPU allows."""
    row = {"rate": [1_000.0, 1_100.0, 1_200.0], "cpu": [100.0, 200.0, 250.0], "load": [94.0, 95.0, 99.0]}
    assert not load_is_full(row)
    assert pace(row) == row["rate"]
    row["load"] = [94.0, 95.1, 99.0]
    assert load_is_full(row)
    assert pace(row) == [10_000.0, 5_000.0, 4_000.0]


def test_ratios_are_of_the_same_round() -> None:
    """A row is held against bare aiohttp round by round."""
    row, other = {"cpu": [10.0, 40.0], "p99": [3.0, 9.0]}, {"cpu": [20.0, 40.0], "p99": [1.0, 9.0]}
    hold_against(row, other)
    assert (row["of_bare"], row["p99_of_bare"]) == ([0.5, 1.0], [3.0, 1.0])


def test_goals_say_by_how_much() -> None:
    """A goal that is missed says by how much, in the direction that counts."""
    assert Goal("cost", 0.5, 0.5).verdict == "met"
    assert Goal("cost", 0.5, 0.75).verdict == "missed by 50%"
    assert Goal("pace", 0.8, 0.9, at_least=True).verdict == "met"
    assert Goal("pace", 0.8, 0.4, at_least=True).verdict == "missed 2.0-fold"
    assert Goal("pace", 0.8, 0.4, at_least=True, because="few cores").verdict == "not judged: few cores"
    assert Goal("pace", 0.8, 0.9, at_least=True, by_cpu=True).verdict == "met (CPU)"
    assert Goal("pace", None, 50_000).verdict == "printed"


def rows_of(*, load: float) -> dict[str, Rows]:
    """A bench in which every figure of every judged row is 2, but for rates and cores."""
    figures = {name: [2.0, 2.0, 2.0] for name in ALL} | {"load": [load] * 3, "requests": [1e6] * 3}
    some = [*(allow_row(each) for each in WAYS), *(leases_row(each) for each in WAYS), *SINGLE]
    rows = {name: dict(figures) for name in some}
    rows[LARGE] |= {"rate": [900.0] * 3, "cpu": [20.0] * 3}
    rows[SMALL] |= {"rate": [1_000.0] * 3, "cpu": [10.0] * 3}
    return {"all": rows}


def test_goals_are_judged_by_what_was_measured() -> None:
    """Rates are held against each other where the server made them; else the CPU is; and only what there is."""
    goals = {goal.name: goal for goal in judge(rows_of(load=50))}
    assert len(goals) == 26
    assert goals["401 ÷ bare"].verdict == "missed 7.1-fold"
    assert goals["with leases ÷ bare, all differ"].verdict == "missed 5.0-fold"
    assert goals["cost of metrics, %"].found == 0
    assert (goals["floor ÷ bare"].found, goals["floor ÷ bare"].verdict) == (2, "printed")
    pace = "10⁶ keys, 10⁵ tenants ÷ 10 keys, rate"
    assert (goals[pace].found, goals[pace].verdict) == (0.9, "met")
    full = {goal.name: goal for goal in judge(rows_of(load=96))}[pace]
    assert (full.found, full.verdict) == (0.5, "missed by 60% (CPU)")
    assert judge({"cases": {}}) == []


def test_a_terminal_of_80_columns_is_enough() -> None:
    """No line is longer, whatever was found; a rate that is the load's has a mark that says so."""
    rows = rows_of(load=100)["all"]
    for figures in rows.values():
        del figures["ms"]  # which no row has beside the others
        figures |= {name: [20_000.5] * 3 for name in ("rate", "cpu", "p50", "p99")}
    texts = part_text("everything", rows), goals_text(judge({"all": rows}))
    assert max(len(line) for text in texts for line in text.splitlines()) <= 80
    assert all(" * " in line for line in texts[0].splitlines()[1:-1])
    assert " * " not in part_text("everything", rows_of(load=1)["all"])


def test_compare_tells_change_from_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what left the range of the rounds is a change, and better or worse is what it is for that figure."""
    before = {"rate": [100.0, 110.0, 120.0], "cpu": [10.0, 11.0, 12.0], "memory": [80.0, 81.0]}
    after = {"rate": [200.0, 210.0, 220.0], "cpu": [20.0, 21.0, 22.0], "memory": [81.0, 90.0]}
    for name, figures in (("a", before), ("b", after)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"machine": {}, "found": {"cases": {"allow": figures}}}))
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    compare.main()
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(line[2], line[5], line[6]) for line in lines] == [
        ("requests/s", "1.91", "better"),
        ("CPU µs a request", "1.91", "worse"),
    ]


def test_charts_are_whole() -> None:
    """A chart is well-formed whatever its rows are called, and has a bar for each."""
    root = ElementTree.fromstring(bars("a < b & c", {"<one>": [1.0, 2.0, 3.0], "two": [0.0]}, form=".1f"))
    assert len([each for each in root.iter() if each.get("class") == "bar"]) == 2
