"""Many keys from a CSV file, in batches, each of which is stored whole before the next is read."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from extauthz.cli import output
from extauthz.cli.csv_keys import BadRow, KeyRows, Row
from extauthz.cli.session import StoreAway, interruptible, manage, patiently
from extauthz.core.errors import AlreadyImported, ExtauthzError, InvalidInput
from extauthz.core.management import KeyDetails, KeyTerms
from extauthz.core.masking import shown

if TYPE_CHECKING:
    from extauthz.app.management import Management
    from extauthz.config import Settings

BATCH = 500  # keys in one transaction


@dataclass(slots=True)
class Tally:
    """What became of the rows. One that failed is told at once, or with `as_json` kept for the end."""

    as_json: bool
    imported: int = 0
    already_there: int = 0
    bad: int = 0
    failed: list[dict[str, object]] = field(default_factory=list)

    def count(self, line: int, outcome: KeyDetails | ExtauthzError | str) -> None:
        """A row became a key, or why it did not."""
        if isinstance(outcome, KeyDetails):
            self.imported += 1
        elif isinstance(outcome, AlreadyImported):
            self.already_there += 1
        else:
            self.bad += 1
            if self.as_json:
                self.failed.append({"line": line, "error": str(outcome)})
            else:
                output.complain(f"line {line}: {outcome}")


def import_file(
    path: Path, organization: str, terms: KeyTerms, *, permissions_given: bool, settings: "Settings", as_json: bool
) -> None:
    """Imports the rows of a file, or of standard input for `-`, prints what became of them, and exits 1 if any failed.

    `terms` and `permissions_given` as `KeyRows` has them. What is there already stays as it is: a file may be imported
    again. Ctrl-C ends it at once; the batch under way is not stored then.
    """
    tally = Tally(as_json)
    with _opened(path) as stream:
        rows = KeyRows(stream, terms, permissions_given=permissions_given)
        interruptible()
        size = _size(stream)
        with output.bar(size) as show:

            def tell() -> None:
                show(rows.line if size is None else rows.done)

            try:
                manage(settings, lambda operator: _import(operator, organization, rows, tally, tell), doing=None)
            except StoreAway as error:
                raise StoreAway(f"{error}; {_rest(tally)}") from error
    _print(tally)


async def _import(
    operator: "Management", organization: str, rows: KeyRows, tally: Tally, tell: Callable[[], None]
) -> None:
    unread = iter(rows)
    while batch := list(islice(unread, BATCH)):
        good = [(row.key, row.terms) for row in batch if isinstance(row, Row)]
        with patiently(_rest(tally)):
            outcomes = iter(await operator.keys.import_many(organization, good))
        for row in batch:
            tally.count(row.line, row.error if isinstance(row, BadRow) else next(outcomes))
        tell()


def _rest(tally: Tally) -> str:
    return f"{tally.imported} keys were imported, run it again for the rest"


def _print(tally: Tally) -> None:
    if tally.as_json:
        output.print_json({"imported": tally.imported, "already_there": tally.already_there, "failed": tally.failed})
        if tally.bad:
            output.complain(f"{tally.bad} of the rows could not be imported")
    else:
        output.print_line(f"imported: {tally.imported}, already there: {tally.already_there}, failed: {tally.bad}")
    if tally.bad:
        raise typer.Exit(1)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    if str(path) == "-":
        yield cast("BufferedReader", sys.stdin.buffer)
        return
    from extauthz.config import files

    try:
        stream = files.open_plain(path, pipe=True)
    except files.UnfitFile as error:
        instead = "; or give it on standard input, as --csv -" if "must" in str(error) else ""
        raise InvalidInput(f"--csv {shown(str(path))}: {error}{instead}") from None
    with stream:
        yield stream


def _size(stream: BufferedReader) -> int | None:
    """Bytes of a file; None for a pipe, of which only its end tells."""
    status = os.fstat(stream.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
