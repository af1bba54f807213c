"""Workflows of CI fit their schema, run existing commands, and use foreign actions at a fixed commit."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())
TARGETS = set(re.findall(r"^([a-z./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# What a runner of GitHub has, besides files and targets of this project.
PROGRAMS = {"gh", "make", "sudo", "test"}
MODULES = {"coverage", "pip"}


def read(path: Path) -> dict[str, Any]:
    """A workflow, whose key `on` is a truth value to YAML 1.1."""
    workflow = yaml.safe_load(path.read_text())
    return {("on" if name is True else name): value for name, value in workflow.items()}


def steps(path: Path) -> list[dict[str, Any]]:
    """All steps of a workflow's jobs."""
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def commands(path: Path) -> list[list[str]]:
    """Words of each command that a workflow runs, without `sudo`."""
    lines = [line for step in steps(path) if "run" in step for line in step["run"].splitlines()]
    return [line.removeprefix("sudo ").split() for line in lines]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("dependabot", [ROOT / ".github/dependabot.yml"]),
        ("github-issue-forms", sorted((ROOT / ".github/ISSUE_TEMPLATE").iterdir())),
    ],
)
def test_files_fit_the_schema_of_github(schema: str, files: list[Path]) -> None:
    """Unknown keys and wrong types are found here, not by a run that does not start."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_of_others_are_pinned(path: Path) -> None:
    """By commit, because a tag can be moved; the version is in a comment, where Dependabot keeps it up to date."""
    used = re.findall(r"uses: (.+)", path.read_text())
    assert len(used) == len([step for step in steps(path) if "uses" in step])
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_exist(path: Path) -> None:
    """A workflow runs targets of the Makefile and scripts of .ci, so that each step can be repeated by hand."""
    for program, *words in commands(path):
        if program == "make":
            assert set(words) <= TARGETS
        elif program == ".venv/bin/python":
            assert words[0] == "-m"
            assert words[1] in MODULES
        elif program not in PROGRAMS:
            assert (ROOT / program).stat().st_mode & 0o100


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_files_that_are_named_exist(path: Path) -> None:
    """Folders whose changes start a workflow, and files that actions are given."""
    triggers = [event for event in read(path)["on"].values() if event]
    patterns = [pattern for event in triggers if isinstance(event, dict) for pattern in event.get("paths", [])]
    files = [step["with"]["file"] for step in steps(path) if "file" in step.get("with", {})]
    assert [name for name in (*patterns, *files) if not (ROOT / name.removesuffix("/**")).exists()] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_token_of_a_workflow_only_reads(path: Path) -> None:
    """A job that writes asks for that itself; no job keeps the token in its clone; each ends after a while."""
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    clones = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"] == {"persist-credentials": False} for step in clones)


def test_suite_runs_on_every_supported_python_and_loop() -> None:
    """Classifiers of the package say which; the oldest is the one that is required."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [found[1] for each in project["classifiers"] if (found := re.fullmatch(r".* :: (3\.\d+)", each))]
    matrix = read(ROOT / ".github/workflows/check.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix == {"python": named, "loop": ["asyncio", "uvloop"]}
    assert project["requires-python"] == f">={named[0]}"


def test_hooks_before_a_commit_run_what_make_check_runs() -> None:
    """Each hook is a command of the target `check`, in the environment of the project."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    checks = recipe[1].replace("$(PYTHON)", ".venv/bin/python")
    for hook in hooks:
        program = hook["entry"].split(" --")[0].removesuffix(" format")
        assert program in checks
