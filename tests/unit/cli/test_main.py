import subprocess
import sys

import pytest

from extauthz.cli import config, plans
from extauthz.cli.main import main
from extauthz.core.errors import ConfigError, Conflict

Capture = pytest.CaptureFixture[str]
ID = "6e2b1fdb-aa34-4ce3-b10e-7f2c47957726"
KEY = "xa_live_4XAd33hTkSPZ8rjJSJa67vsMtvP1om4z1"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["extauthz", *arguments])
    return main()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan"], "no such command 'plan'; did you mean 'plans', 'explain'?"),
        (["keys", "creat", "acme"], "no such command 'creat'; did you mean 'create', 'credits'?"),
        (["nothing-like-it"], "no such command 'nothing-like-it'; see extauthz --help"),
        (["--colour"], "no such option: --colour; see extauthz --help"),
        (["keys", "create"], "missing argument 'ORG'; see extauthz keys create --help"),
        (["plans", "create", "gold", "--rate", "1"], "missing option '--burst'; see extauthz plans create --help"),
        (["keys", "list", "a", "b"], "got unexpected extra argument(s) (b); see extauthz keys list --help"),
        (["keys", "create", "a", "--expires-in"], "option '--expires-in' requires an argument"),
        (
            ["orgs", "update", "a", "--status", "asleep"],
            "invalid value for '--status': 'asleep' is not one of 'active', 'suspended'; see extauthz orgs update",
        ),
        (["orgs", "update", "a"], "nothing to change: give --name, --plan, --status, --rate,"),
        (["plans", "update", "a"], "nothing to change: give --rate,"),
        (["keys", "create", "a", "--permission", "x"], "--permission must be RESOURCE:MODE"),
        (["keys", "create", "a", "--expires-in", "1h", "--expires-at", "x"], "--expires-in and --expires-at exclude"),
        (["keys", "update", ID], "nothing to change: give --name, --permission,"),
        (["keys", "update", ID, "--metadata", "x"], "--metadata must be NAME=VALUE"),
        (["keys", "rotate", ID, "--grace", "1y"], "--grace must be a duration such as"),
        (["keys", "repepper"], "only a report can be had: give --report;"),
        (["orgs", "update", "a", "--until", "soon"], "--until must be a time in ISO 8601"),
        (["orgs", "update", "a", "--anchor", "32"], "--anchor must be a day from 1 to 31 (got '32')"),
        (
            ["orgs", "update", "a", "--limits", "none"],
            "invalid value for '--limits': 'none' is not one of 'enforce', 'shadow'; see extauthz orgs update",
        ),
        (["usage"], "missing argument 'ORG'; see extauthz usage --help"),
        (["usage", "a", "--day", "today"], "--day must be a date like 2030-01-31"),
        (["audit", "--limit", "0"], "invalid value for '--limit': "),
        (["keys", "list", "a\udcff"], "argument 3 must be UTF-8"),
    ],
)
def test_mistakes(monkeypatch: pytest.MonkeyPatch, capsys: Capture, arguments: list[str], said: str) -> None:
    """A usage error exits 2 with one line on standard error that begins with the program's name, and nothing else."""
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"extauthz: {said}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        *(["keys", command, KEY] for command in ("show", "disable", "enable", "rotate", "revoke")),
        ["keys", "update", KEY, "--name", "x"],
        ["keys", "import", "acme", KEY],
        ["keys", "import", "acme", "--name", "x", KEY],
    ],
)
def test_no_key_is_an_argument(monkeypatch: pytest.MonkeyPatch, capsys: Capture, arguments: list[str]) -> None:
    """A key in place of an id, or as an argument to import, is rejected with advice and is not repeated."""
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "argument" in captured.err
    assert captured.err.count("\n") == 1
    assert KEY not in captured.err


@pytest.mark.parametrize("group", [[], ["plans"], ["orgs"], ["keys"]])
def test_no_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture, group: list[str]) -> None:
    """Without a command the list of commands is printed; the exit code is that of an error, for scripts."""
    assert run(monkeypatch, *group) == 2
    captured = capsys.readouterr()
    path = " ".join(["extauthz", *group])
    assert captured.out.startswith(f"Usage: {path} ")
    commands = captured.out.partition("Commands:\n")[2].splitlines()
    assert commands
    assert [line for line in commands if line.endswith("...")] == []
    assert captured.err == f"extauthz: missing command; see {path} --help\n"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """`--version` prints name and version."""
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("extauthz 0.")


def test_every_mistake_of_the_settings_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """All wrong settings are named at once, and no secret is repeated."""

    def fail(*_args: object, **_options: object) -> None:
        raise ConfigError(["DATABASE_URL: required", "REDIS_URL: must be …"])

    monkeypatch.setattr(config, "read_settings", fail)
    assert run(monkeypatch, "check-config") == 2
    assert capsys.readouterr() == ("", "extauthz: DATABASE_URL: required\nextauthz: REDIS_URL: must be …\n")


def test_failure(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A failed operation exits 1 with one line."""

    def fail(*_args: object, **_options: object) -> None:
        raise Conflict("that name\nis taken")

    monkeypatch.setattr(plans, "read_settings", fail)
    assert run(monkeypatch, "plans", "list", "--json") == 1
    assert capsys.readouterr() == ("", "extauthz: that name is taken\n")


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Ctrl-C exits 130 without output."""

    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plans, "read_settings", interrupt)
    assert run(monkeypatch, "plans", "list") == 130
    assert capsys.readouterr() == ("", "")


def test_help_imports_nothing_heavy() -> None:
    """Help imports no clients of servers: the commands that use them do."""
    script = """
import sys
from extauthz.cli.main import main
sys.argv[1:] = ["--help"]
main()
print("imported:", *{"psycopg", "redis", "aiohttp", "pydantic", "structlog"} & {*sys.modules})
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Commands:" in run.stdout
    assert run.stdout.splitlines()[-1] == "imported:"
