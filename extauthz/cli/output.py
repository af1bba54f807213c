"""What commands print: one JSON value for programs, tables for a terminal. In a pipe there are no colours and no boxes.

Nothing is ever cut off: an id or a key that lost its end is worse than a long line.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from extauthz.core.parsing import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.status import Status

Row = Sequence[str]
FOLDED_MIN = 16  # columns that a broken cell needs to be readable
NOTICE_DELAY_SECONDS = 1.0  # before a person is told what is waited for


def prepare() -> None:
    """Makes our standard streams safe whatever they are: closed, or of an encoding that lacks a character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            stream = Path(os.devnull).open(mode)  # noqa: SIM115 - open as long as we run
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
        elif mode == "w":
            stream.reconfigure(errors="backslashreplace")


def on_terminal() -> bool:
    """Whether a person reads what we print."""
    return sys.stdout.isatty()


def print_json(value: object) -> None:
    """One JSON value on standard output."""
    # An odd encoding of the terminal must not make the value unreadable for a program.
    utf8 = sys.stdout.encoding.lower() == "utf-8"
    text = json.dumps(value, indent=2, ensure_ascii=not utf8)
    # Line by line, because the line breaks are ours: those of a value are escaped already.
    sys.stdout.write("".join(f"{_visible_json(line)}\n" for line in text.split("\n")))


def _visible_json(line: str) -> str:
    if line.isascii() and "\x7f" not in line:
        return line
    return "".join(
        each if visible(each) == each else json.dumps(each)[1:-1].replace("\x7f", r"\u007f") for each in line
    )


def print_line(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(one_line(text) + "\n")


def print_details(details: Mapping[str, str]) -> None:
    """One thing: a line for each of its parts."""
    width = max(map(len, details))
    rows = [(f"{label:{width}}", one_line(value)) for label, value in details.items()]
    if on_terminal():
        from rich.text import Text

        lines = [Text.assemble((label, "cyan"), "  ", value) for label, value in rows]
        _show(Text("\n").join(lines))
    else:
        sys.stdout.write("".join(f"{label}  {value}\n" for label, value in rows))


def print_marked(mark: str, colour: str, lines: Row) -> None:
    """Lines behind a mark, which has a colour on a terminal; the mark stands before the first of them."""
    first, *others = (f"  {one_line(line)}" for line in lines)
    if on_terminal():
        from rich.text import Text

        texts = [Text(" " * len(mark) + line) for line in others]
        _show(Text("\n").join([Text.assemble((mark, colour), first), *texts]))
    else:
        sys.stdout.write("\n".join([mark + first, *(" " * len(mark) + line for line in others), ""]))


def print_table(headers: Row, rows: Sequence[Row], *, folds: int | None = None) -> None:
    """Many things: a line for each. Where a terminal is too narrow for that, details of each one after another.

    `folds` is the column that may be broken into several lines instead.
    """
    cleaned = [[one_line(cell) for cell in row] for row in rows]
    if not on_terminal():
        _print_columns([[header.upper() for header in headers], *cleaned])
    elif not _show_table(headers, cleaned, folds):
        for number, row in enumerate(cleaned):
            sys.stdout.write("\n" if number else "")
            print_details(dict(zip(headers, row, strict=True)))


def _print_columns(rows: Sequence[Row]) -> None:
    from rich.cells import cell_len, set_cell_size

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(set_cell_size, row, widths)).rstrip() for row in rows]
    sys.stdout.write("\n".join([*lines, ""]))


def _show_table(headers: Row, rows: Sequence[Row], folds: int | None) -> bool:
    """A table on the terminal, if it fits."""
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, no_wrap=number != folds, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = _console()
    if folds is not None:
        table.columns[folds].max_width = FOLDED_MIN
    unlimited = console.options.update(max_width=100_000)
    if Measurement.get(console, unlimited, table).maximum > console.width:
        return False
    if folds is not None:
        table.columns[folds].max_width = None
    _show(table)
    return True


def _show(what: "RenderableType") -> None:
    console = _console()
    with console.capture() as capture:
        console.print(what, soft_wrap=True)
    sys.stdout.write(capture.get())


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False)


def complain(text: str) -> None:
    """One line on standard error that begins with our name."""
    sys.stderr.write(f"extauthz: {one_line(text)}\n")


def hint(text: str) -> None:
    """Print a line on standard error that reports no fault."""
    sys.stderr.write(one_line(text) + "\n")


def one_line(text: str) -> str:
    """`text` without line breaks, and without characters that would steer a terminal."""
    return visible(" ".join(text.split()) if "\n" in text else text)


def time_text(moment: datetime | None, never: str = "never") -> str:
    """A time as our options take it: ISO 8601 in UTC, whole seconds."""
    return never if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@asynccontextmanager
async def progress(doing: str) -> AsyncIterator[None]:
    """Print what the command waits for, once that takes long, and only on a terminal."""
    import asyncio

    shown: list[Status] = []

    def show() -> None:
        from rich.console import Console

        shown.append(Console(stderr=True).status(doing))
        shown[0].start()

    timer = asyncio.get_running_loop().call_later(NOTICE_DELAY_SECONDS, show) if sys.stderr.isatty() else None
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        for status in shown:
            status.stop()


@contextmanager
def bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show progress, only on a terminal.

    What is yielded takes how many bytes of `total` are done; where that is None, how many lines.
    """
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich import progress as parts
    from rich.console import Console

    known = (parts.BarColumn(), parts.DownloadColumn(), parts.TimeRemainingColumn())
    unknown = (parts.SpinnerColumn(), parts.TextColumn("{task.completed} lines"), parts.TimeElapsedColumn())
    with parts.Progress(*(unknown if total is None else known), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=total)
        yield lambda done: shown.update(task, completed=done)
