"""`make monitor` as a new user runs it, by the pages of the tutorial: its output, its commands, and its end."""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from extauthz.demo.folders import ServerFailed, temporary_folder
from extauthz.demo.monitor import monitor
from tests.e2e.demo import Demo
from tests.servers.distribution import distribution_server
from tests.servers.rules import BLOCK, ROOT
from tests.servers.waiting import eventually

TUTORIAL = ROOT / "docs" / "tutorial" / "monitoring.md"
TERMINAL = 80  # columns
DECISIONS_MIN = 13  # kinds of decisions in the traffic


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a space in its name."""
    with temporary_folder("a new folder ") as path:
        yield path


class Shell:
    """Runs the tutorial's commands, with addresses and numbers as `make monitor` has printed them."""

    def __init__(self, output: str, home: Path) -> None:
        """`output` is what was printed."""
        self._printed = {
            "http://127.0.0.1:9090": printed(output, r"Prometheus +(\S+)/graph"),
            "http://127.0.0.1:9000": printed(output, r"metrics +(\S+)/metrics"),
            "REDIS": printed(output, r"kill -STOP (\d+)"),
            ". ENV": printed(output, r"^(\. .+)$"),
        }
        scripts = sysconfig.get_path("scripts")
        self._environ = {"HOME": str(home), "PATH": f"{scripts}:{os.environ['PATH']}"}

    def run(self, block: str) -> str:
        """What a block prints; it must end well."""
        for written, is_here in self._printed.items():
            block = block.replace(written, is_here)
        done = subprocess.run(
            ["sh", "-ec", block], cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (block, done.stderr)
        return done.stdout


def printed(output: str, pattern: str) -> str:
    """The group of a pattern in what was printed."""
    found = re.search(pattern, output, re.MULTILINE)
    assert found is not None, (pattern, output)
    return found[1]


def commands() -> list[str]:
    """The blocks of commands of the tutorial, in their order."""
    return [code for language, code in BLOCK.findall(TUTORIAL.read_text("utf-8")) if language == "sh"]


@pytest.mark.timeout(180)
def test_the_tutorial(folder: Path) -> None:
    """Each command of the page works in its turn; an alert is pending when Redis hangs; Ctrl-C leaves nothing."""
    distribution_server("prometheus")
    make, metrics, query, dashboards, stop, readyz, alerts, go_on, who, tail = commands()
    assert make.strip() == "make monitor"
    with Demo(folder, "--monitor") as demo:
        demo.read_until("Ctrl-C ends everything")
        members = demo.members()
        check_table(demo.output)
        with temporary_folder("a home ") as home:
            shell = Shell(demo.output, home)
            assert "extauthz_decisions_total{" in shell.run(metrics)
            assert '"decision":"rate_limited"' in shell.run(query)
            shell.run(dashboards)
            assert '"uid": "UID"' in (home / "dashboards" / "overview.json").read_text("utf-8")
            shell.run(stop)
            eventually(lambda: '"redis": "ok"' not in shell.run(readyz))
            eventually(lambda: '"alertname":"ExtauthzStoreAway"' in shell.run(alerts))
            shell.run(go_on)
            eventually(lambda: '"redis": "ok"' in shell.run(readyz))
            eventually(lambda: "daily_quota_exceeded" in shell.run(who))
            assert "_" in shell.run(f". ENV\n{tail.strip()} | head -n 1")
        demo.interrupt()
        demo.check_end(members)


@pytest.mark.deep
@pytest.mark.timeout(180)
def test_once(folder: Path) -> None:
    """`--once` prints what Prometheus has seen and ends with 0; nothing is left."""
    distribution_server("prometheus")
    with Demo(folder, "--monitor", "--once") as demo:
        demo.read_until("waiting until Prometheus")
        demo.check_end(demo.members())
    check_table(demo.output)


def check_table(output: str) -> None:
    """Every decision of the traffic has a row, no rule has an error, and no line is too long for a terminal."""
    lines = output.splitlines()
    began = lines.index(next(line for line in lines if line.startswith("DECISION")))
    rows = lines[began + 1 : lines.index("", began)]
    assert len(rows) == DECISIONS_MIN
    assert all(float(row.split()[1]) > 0 for row in rows)
    assert any(re.fullmatch(r"\d+ rules, 0 with an error", line) for line in lines)
    assert [line for line in lines[began:] if len(line) > TERMINAL and not line.startswith(". ")] == []


def test_without_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the next step, before anything is started."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(ServerFailed, match="apt-get install prometheus"):
        monitor(once=True)


def test_make_runs_it() -> None:
    """`make monitor ARGS=--once` is that command."""
    made = subprocess.run(
        ["make", "-n", "monitor", "ARGS=--once"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert "-m extauthz demo --monitor --once" in made.stdout
