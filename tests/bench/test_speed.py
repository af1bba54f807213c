"""What the bench of speed says is so: its load asks what it is told to, and its verdicts follow from the figures."""

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import compare, machine
from tests.bench.chart import bars
from tests.bench.client import Job
from tests.bench.goals import Goal
from tests.bench.runs import load
from tests.bench.stage import bare

REQUEST = ("GET / HTTP/1.1\r\nHost: bench\r\nX-Key: ", "\r\n\r\n")


@pytest.fixture
def keys(tmp_path: Path) -> str:
    file = tmp_path / "some keys"
    file.write_text("one\ntwo\nthree")
    return str(file)


@pytest.mark.parametrize("form", ["application", "server"])
async def test_load_asks_so_often(form: str, keys: str) -> None:
    """A load asks as often as it was told, goes on from the first key after the last, and counts other answers."""
    async with bare(form, "asyncio") as server:
        job = Job(server.host, server.port, *REQUEST, keys, connections=4, seconds=60, skip=2, at_most=10)
        outcome = await load(job)
        assert (outcome.requests, outcome.others) == (10, 0)
        outcome = await load(replace(job, status=401))
        assert (outcome.requests, outcome.others) == (10, 10)


async def test_load_by_timetable() -> None:
    """By a timetable as many requests are sent as were due, however late."""
    async with bare("server", "asyncio") as server:
        before, after = REQUEST
        outcome = await load(Job(server.host, server.port, before, after, "", connections=2, seconds=0.25, rate=400))
    assert (outcome.requests, outcome.others) == (100, 0)
    assert 0 < outcome.p50 <= outcome.p90 <= outcome.p99 <= outcome.p999


async def test_cost_of_a_server() -> None:
    """What a process has used grows with what it is asked, and it stays on the core that it was given."""
    async with bare("application", "asyncio") as server:
        before = machine.cpu(server.pids)
        await load(Job(server.host, server.port, *REQUEST, "", connections=8, seconds=60, at_most=2_000))
        assert machine.cpu(server.pids) > before
        assert machine.resident(server.pids) > 1
        assert os.sched_getaffinity(server.pids[0]) == set(machine.SERVED)


def test_goals_say_by_how_much() -> None:
    """A goal that is missed says by how much, in the direction that counts."""
    assert Goal("cost", 0.5, 0.5).verdict == "met"
    assert Goal("cost", 0.5, 0.75).verdict == "missed by 50%"
    assert Goal("pace", 0.8, 0.9, at_least=True).verdict == "met"
    assert Goal("pace", 0.8, 0.4, at_least=True).verdict == "missed by a factor of 2.0"
    assert Goal("pace", 0.8, 0.4, at_least=True, judged=False).verdict.startswith("not judged")


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
