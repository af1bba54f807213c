"""A file that is rotated, removed, truncated or full under the process that appends to it."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extauthz.telemetry.log_file import FileSink

LINE = b"x" * 99 + b"\n"
WRITES = """
import sys
from extauthz.telemetry.log_file import FileSink
sink, line = FileSink(sys.argv[1]), sys.argv[2].encode() * 400 + b"\\n"
for _ in range(200):
    assert sink.write(line * 5)
"""


def test_rotated_and_removed(tmp_path: Path) -> None:
    """After a rename or a removal the name has a new file; a truncated file starts over."""
    file = tmp_path / "decisions.jsonl"
    sink = FileSink(str(file))
    assert sink.write(b"1\n")
    file.rename(tmp_path / "decisions.jsonl.1")
    assert sink.write(b"2\n")
    assert (tmp_path / "decisions.jsonl.1").read_bytes() == b"1\n"
    assert file.read_bytes() == b"2\n"
    file.unlink()
    assert sink.write(b"3\n")
    assert file.read_bytes() == b"3\n"
    os.truncate(file, 0)
    assert sink.write(b"4\n")
    assert file.read_bytes() == b"4\n"
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_folder_that_goes_and_comes(tmp_path: Path) -> None:
    """Lines are lost while there is no folder, and no longer."""
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(str(folder / "log"))
    assert sink.write(LINE)
    (folder / "log").unlink()
    folder.rmdir()
    assert not sink.write(LINE)
    folder.mkdir()
    assert sink.write(LINE)
    assert (folder / "log").read_bytes() == LINE


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    """A thousand rotations leave as many files open as none."""
    file = tmp_path / "log"
    sink = FileSink(str(file))
    assert sink.write(LINE)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    for _ in range(1000):
        file.unlink()
        assert sink.write(LINE)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - a count


@pytest.mark.parametrize("target", ["/dev/full", "/proc/nothing/here"])
def test_target_that_takes_no_lines(target: str) -> None:
    """A full device and an impossible path lose lines, and do not raise."""
    assert not FileSink(target).write(LINE)


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe takes lines while it is read."""
    os.mkfifo(tmp_path / "pipe")
    sink = FileSink(str(tmp_path / "pipe"))
    assert not sink.write(LINE)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert sink.write(LINE)
    assert os.read(reader, 200) == LINE
    os.close(reader)
    assert not sink.write(LINE)


def test_a_disk_that_fills_up_keeps_whole_lines(tmp_path: Path) -> None:
    """Where only a part of a batch fits, none of it is written."""
    file = tmp_path / "log"
    sink = FileSink(str(file))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1050, before[1]))
    try:
        assert sink.write(LINE * 10)
        assert not sink.write(LINE * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert file.read_bytes() == LINE * 10
    assert sink.write(LINE)
    assert file.read_bytes() == LINE * 11


@pytest.mark.parametrize("torn", [b'{"time":', LINE + b"{"])
def test_half_a_line_of_a_killed_process_spoils_no_other(tmp_path: Path, torn: bytes) -> None:
    """It stays alone, whether it was there before or another process left it."""
    file = tmp_path / "log"
    file.write_bytes(torn)
    sink = FileSink(str(file))
    assert sink.write(LINE * 2)
    with file.open("ab") as other:
        other.write(torn)
    assert sink.write(LINE)
    assert sink.write(LINE)
    assert file.read_bytes() == torn + b"\n" + LINE * 2 + torn + b"\n" + LINE * 2


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    """Four at once, each with lines of its own letter, while the file is rotated under them."""
    file = tmp_path / "log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITES, str(file), letter]) for letter in "abcd"]
    for number in range(20):
        if file.exists():
            file.rename(tmp_path / f"log.{number}")
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    lines = [line for each in tmp_path.iterdir() for line in each.read_bytes().split(b"\n")[:-1]]
    assert len(lines) == 4 * 200 * 5
    assert all(line == line[:1] * 400 for line in lines)
