"""`extauthz doctor` for tests: each run is searched for credentials, and its status compared with its rows."""

import json
from typing import Any

from tests.servers.shell import Here

WRONG = "sesame-that-is-wrong"  # a password in the settings of a test, which no output may have

Row = dict[str, Any]


class Doctor:
    """Runs the command in this process; every run is searched for credentials."""

    def __init__(self, shell: Here) -> None:
        self._shell = shell

    def rows(self, *arguments: str, **environment: str) -> dict[str, Row]:
        """The rows by their check, which are all that is printed; the status fits them."""
        done = self._shell.run("doctor", "--json", *arguments, **environment)
        assert WRONG not in done.stdout + done.stderr
        rows: list[Row] = json.loads(done.stdout)
        assert all(row.keys() == {"check", "ok", "detail", "remedy"} for row in rows)
        failed = [row for row in rows if not row["ok"]]
        assert all(row["remedy"] for row in failed)
        assert done.returncode == (1 if failed else 0)
        assert done.stderr.count("\n") == len(failed[:1])
        return {row["check"]: row for row in rows}

    def failed(self, *arguments: str, **environment: str) -> dict[str, Row]:
        """Those that are not ok."""
        return {check: row for check, row in self.rows(*arguments, **environment).items() if not row["ok"]}
