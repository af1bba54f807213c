"""Keys of another system by `keys import`: what is taken, what is refused, and that no key is ever shown."""

import json
import os
import pty
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from extauthz.core.credentials import KeyFormat, Pepper
from tests.servers.shell import EXTAUTHZ, Shell

PEPPER = "a pepper of the tests: 32 bytes or more"
KEY_FORMAT = KeyFormat(prefix="xa", env="live", peppers=[Pepper("p1", PEPPER.encode())])
FOREIGN = "sk_other_0123456789abcdef"
Done = subprocess.CompletedProcess[str]


@pytest.fixture
def shell(tmp_path: Path, database: str, redis_url: str) -> Shell:
    folder = tmp_path / "a folder"
    folder.mkdir()
    settings = {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"}
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO organizations (name, plan_id) SELECT 'acme', id FROM plans")
        connection.execute("INSERT INTO organizations (name, plan_id) SELECT 'other', id FROM plans")
    return Shell(folder, settings)


def fed(shell: Shell, content: str | bytes, *arguments: str) -> Done:
    """`keys import` with something on standard input."""
    content = content.encode() if isinstance(content, str) else content
    command = [*EXTAUTHZ, "keys", "import", *arguments]
    done = subprocess.run(command, input=content, env=shell.environ, cwd=shell.folder, capture_output=True, check=False)
    return Done(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def stored(shell: Shell) -> list[dict[str, Any]]:
    """All keys as they are stored, oldest first."""
    with psycopg.connect(shell.environ["DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT to_jsonb(k) FROM api_keys AS k ORDER BY created_at, name").fetchall()
    return [row[0] for row in rows]


def test_one_key(shell: Shell) -> None:
    """A key from a pipe is stored as its digest, with the terms that were given, and shown by its end."""
    options = ("--name", "billing", "--permission", "api:read", "--metadata", "from=other", "--expires-in", "30d")
    done = fed(shell, f"{FOREIGN}\r\n", "acme", *options, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    details = json.loads(done.stdout)
    assert (details["name"], details["permissions"]) == ("billing", {"api": ["read"]})
    assert (details["metadata"], details["handle"]) == ({"from": "other"}, "…cdef")
    (row,) = stored(shell)
    assert row["hash"] == rf"\x{KEY_FORMAT.digest(FOREIGN).digests[0]}"
    assert FOREIGN not in str(row) + done.stdout
    again = fed(shell, FOREIGN, "acme")
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (1, "", 1)
    assert FOREIGN not in again.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "there is no key on standard input"),
        (b" \n", "there is no key on standard input"),
        (f"{FOREIGN}\n{FOREIGN}2\n".encode(), "standard input has more than one line; many keys are imported with"),
        (b"short-key-123", ""),
        (b"xa_live_0123456789abcdefghij", ""),
        (b"eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl", ""),
        (b"with blanks in the key", ""),
        (b"\xff\xfe0123456789abcdef", ""),
        (b"0123456789abcdef" * 10_000, "a key on standard input must have at most 8192 characters"),
    ],
)
def test_no_key(shell: Shell, content: bytes, said: str) -> None:
    """Text that cannot be a key is refused in one line that does not repeat it."""
    done = fed(shell, content, "acme")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"extauthz: {said}")
    assert "0123456789" not in done.stderr
    assert "blanks in" not in done.stderr
    assert stored(shell) == []


def test_pipe_that_stays_open(shell: Shell) -> None:
    """One line is enough: the program that writes it may keep the pipe open."""
    command = [*EXTAUTHZ, "keys", "import", "acme", "--json"]
    with subprocess.Popen(
        command, env=shell.environ, cwd=shell.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(f"{FOREIGN}\n".encode())
        running.stdin.flush()
        assert json.loads(running.stdout.read())["handle"] == "…cdef"


def on_terminal(
    shell: Shell, arguments: Sequence[str], *, typed: str = "", stdin: bytes | None = None
) -> tuple[int, str, str]:
    """The exit status of `keys import` with a terminal as its standard error, what it prints and what one sees.

    `typed` after the terminal has asked for something, unless standard input is a pipe with `stdin`.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*EXTAUTHZ, "keys", "import", *arguments],
        env={**shell.environ, "TERM": "xterm", "COLUMNS": "100"},
        cwd=shell.folder,
        stdin=theirs if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,  # so that there is no other terminal to ask
    ) as command:
        os.close(theirs)
        if command.stdin is not None:
            command.stdin.write(stdin or b"")
            command.stdin.close()
        seen = b""
        with suppress(OSError):  # EIO: the terminal is closed at its other end
            while more := os.read(ours, 65_536):
                seen += more
                if typed and b"Key: " in seen:
                    os.write(ours, typed.encode())
                    typed = ""
        os.close(ours)
        assert command.stdout is not None
        printed = command.stdout.read().decode()
    return command.returncode, printed, seen.decode()


def test_typed_key(shell: Shell) -> None:
    """On a terminal the command asks for the key, and does not echo it."""
    status, printed, seen = on_terminal(shell, ["acme", "--json"], typed=f"{FOREIGN}\n")
    assert (status, json.loads(printed)["handle"]) == (0, "…cdef")
    assert seen.split() == ["Key:"]
    status, printed, seen = on_terminal(shell, ["acme"], typed="\n")
    assert (status, printed) == (2, "")
    assert "there is no key on standard input" in seen


def test_file(shell: Shell) -> None:
    """Good rows are imported, bad ones named by their lines without their keys, and a file may be imported again."""
    lines = [
        "key,name,permissions,expires_at,metadata",
        f"{FOREIGN}1,one,api:read,2090-01-01T00:00:00Z,",
        f'{FOREIGN}2,two,*:read *:write,,"{{""a"": ""b""}}"',
        f"{FOREIGN}3,three,{FOREIGN}3,,",
        f"{FOREIGN}4,four,customer:read,,",
        "too-short,five,api:read,,",
        f"{FOREIGN}6,six,api:read,2001-01-01T00:00:00Z,",
        f"{FOREIGN}1,again,api:read,,",
        f"{FOREIGN}8,eight,api:read,,",
    ]
    (shell.folder / "keys.csv").write_text("\n".join(lines), "utf-8-sig")
    done = shell.run("keys", "import", "acme", "--csv", "keys.csv")
    assert (done.returncode, done.stdout) == (1, "imported: 3, already there: 1, failed: 4\n")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["line 4", "line 5", "line 6", "line 7"]
    assert FOREIGN not in done.stderr
    assert "too-short" not in done.stderr
    rows = {row["name"]: row for row in stored(shell)}
    assert sorted(rows) == ["eight", "one", "two"]
    assert (rows["one"]["permissions"], rows["two"]["metadata"]) == ({"api": ["read"]}, {"a": "b"})
    again = shell.run("keys", "import", "acme", "--csv", "keys.csv", "--json")
    assert again.returncode == 1
    report = json.loads(again.stdout)
    assert (report["imported"], report["already_there"]) == (0, 4)
    assert [failure["line"] for failure in report["failed"]] == [4, 5, 6, 7]
    assert again.stderr == "extauthz: 4 of the rows could not be imported\n"


def test_rows_of_another_command(shell: Shell) -> None:
    """What the shell opens for a command, `<(psql …)`, is read as a file."""
    script = f"{shlex.join(EXTAUTHZ)} keys import acme --csv <(echo key; echo {FOREIGN})"
    environ = {**shell.environ, "LC_ALL": "C"}  # or bash tells that it lacks another locale
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("imported: 1, already there: 0, failed: 0\n", "")


def test_secrets_of_the_service_are_not_imported(shell: Shell) -> None:
    """An admin token, a pepper or a password is refused, because an imported one would travel in every request."""
    token, pepper = "ops-token-of-the-tests-77c0f1a92b4e", "pepper-of-the-tests-0f9c81d57ab2e64"
    shell = Shell(
        shell.folder, {**shell.environ, "EXTAUTHZ_ADMIN_TOKEN": f"ops:{token}", "EXTAUTHZ_KEY_PEPPER": f"p1:{pepper}"}
    )
    for secret in (token, pepper):
        one = fed(shell, secret, "acme")
        many = fed(shell, f"key\n{secret}\n", "acme", "--csv", "-")
        assert (one.returncode, many.returncode) == (2, 1)
        for done in (one, many):
            assert "an imported key must not be a secret of the service" in done.stderr
            assert secret not in done.stderr
    assert stored(shell) == []


def test_key_of_another_organization(shell: Shell) -> None:
    """A key of another organization does not count as already there: it is refused, and stays with its organization."""
    assert fed(shell, f"key\n{FOREIGN}\n", "other", "--csv", "-").returncode == 0
    report = json.loads(fed(shell, f"key\n{FOREIGN}\n", "acme", "--csv", "-", "--json").stdout)
    assert (report["imported"], report["already_there"]) == (0, 0)
    assert [failure["line"] for failure in report["failed"]] == [2]
    assert FOREIGN not in str(report)


def test_revoked_key_stays_revoked(shell: Shell) -> None:
    """A second import of a file does not restore a key that was revoked since."""
    content = f"key\n{FOREIGN}\n"
    assert fed(shell, content, "acme", "--csv", "-").returncode == 0
    (row,) = stored(shell)
    shell.json("keys", "revoke", row["id"], "--last")
    fed(shell, content, "acme", "--csv", "-")
    (row,) = stored(shell)
    assert row["revoked_at"] is not None


def test_many_batches(shell: Shell) -> None:
    """More keys than fit into one transaction all arrive, each once, with what the options say."""
    content = "key,name\n" + "".join(f"{FOREIGN}{number:05},key {number}\n" for number in range(1201))
    done = fed(shell, content, "acme", "--csv", "-", "--permission", "api:read", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"imported": 1201, "already_there": 0, "failed": []}
    rows = stored(shell)
    assert len({row["name"] for row in rows}) == 1201
    assert all(row["permissions"] == {"api": ["read"]} for row in rows)


def test_refused_files(shell: Shell) -> None:
    """A file that is missing, has no header or unknown columns, or an unknown organization: nothing is changed."""
    missing = shell.refused(2, "keys", "import", "acme", "--csv", "nowhere.csv")
    assert missing == "--csv nowhere.csv: cannot be read: No such file or directory"
    said = shell.refused(2, "keys", "import", "acme", "--csv", ".")
    assert said.startswith("--csv .: must be a plain file (got a folder)")
    (shell.folder / "keys.csv").write_text(f"{FOREIGN},one\n{FOREIGN}2,two\n")
    said = shell.refused(2, "keys", "import", "acme", "--csv", "keys.csv")
    assert said.startswith("line 1: no header with the column key")
    assert FOREIGN not in said
    (shell.folder / "keys.csv").write_text(f"key,owner\n{FOREIGN},one\n")
    assert "unknown column owner;" in shell.refused(2, "keys", "import", "acme", "--csv", "keys.csv")
    (shell.folder / "keys.csv").write_text(f"key\n{FOREIGN}\n")
    assert "'nobody'" in shell.refused(1, "keys", "import", "nobody", "--csv", "keys.csv")
    assert stored(shell) == []


def test_a_file_that_is_not_plain_or_not_private(shell: Shell) -> None:
    """A pipe that nothing may ever be written to, and a file that others could add keys to, are refused at once."""
    os.mkfifo(shell.folder / "pipe")
    said = shell.refused(2, "keys", "import", "acme", "--csv", "pipe")
    assert said == "--csv pipe: must be a plain file (got a named pipe); or give it on standard input, as --csv -"
    (shell.folder / "open.csv").touch(0o600)
    (shell.folder / "open.csv").chmod(0o602)
    said = shell.refused(2, "keys", "import", "acme", "--csv", "open.csv")
    assert said.startswith("--csv open.csv: must not be writable by other users (got mode 0602)")


def test_progress(shell: Shell) -> None:
    """A terminal shows how far a file is, by its bytes, or how many lines a pipe has brought; a pipe shows nothing."""
    content = "key\n" + "".join(f"{FOREIGN}{number:04}\n" for number in range(600)) + "short\n"
    (shell.folder / "keys.csv").write_text(content)
    status, printed, seen = on_terminal(shell, ["acme", "--csv", "keys.csv"])
    assert (status, printed) == (1, "imported: 600, already there: 0, failed: 1\n")
    assert "kB" in seen
    assert "extauthz: line 602: " in seen
    status, printed, seen = on_terminal(shell, ["acme", "--csv", "-"], stdin=content.encode())
    assert (status, printed) == (1, "imported: 0, already there: 600, failed: 1\n")
    assert "602 lines" in seen
    assert FOREIGN not in seen
