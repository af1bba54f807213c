"""Whatever happens to the reader, lines are accepted at once, and lost ones are counted."""

import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from extauthz.telemetry.log_writer import LINE_OVERHEAD, DescriptorSink, LineStream, LogWriter

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A small pipe: its reading and its writing end."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        os.close(end)


def fill(descriptor: int) -> None:
    """Leaves no room in a pipe."""
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, b"-")
    except BlockingIOError:
        os.set_blocking(descriptor, True)


def test_a_reader_that_stops_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    """No line waits for it; losses are counted and reported once it reads again; the end is not delayed."""
    reader, writer = pipe
    fill(writer)
    told, said = [], threading.Event()

    def lost(count: int) -> None:
        told.append(count)
        said.set()

    log = LogWriter(DescriptorSink(writer), queue_bytes=10 * (len(LINE) + LINE_OVERHEAD), lost=lost)
    for _ in range(1000):
        log.write(LINE)
    assert 989 <= log.dropped <= 990
    assert not log.finish(0.05)
    assert os.read(reader, 4096) == b"-" * 4096
    assert said.wait(5)
    assert log.finish(5)
    assert told == [log.dropped]
    assert os.read(reader, 4096) == LINE * (1000 - log.dropped)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_line_arrives_whole(pipe: tuple[int, int], blocking: bool) -> None:
    """Longer than the pipe, and on a descriptor that another program made non-blocking."""
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    log = LogWriter(DescriptorSink(writer))
    line = bytes(range(97, 123)) * 2000 + b"\n"
    log.write(line)
    got = b""
    while len(got) < len(line):
        got += os.read(reader, 65_536)
    assert got == line
    assert log.finish(5)
    assert log.dropped == 0


def test_a_disk_that_is_full_and_a_reader_that_is_gone() -> None:
    """Each lost line is counted."""
    with Path("/dev/full").open("wb") as full:
        log = LogWriter(DescriptorSink(full.fileno()))
        for _ in range(7):
            log.write(LINE)
        assert log.finish(5)
    assert log.dropped == 7
    reader, writer = os.pipe()
    os.close(reader)
    log = LogWriter(DescriptorSink(writer))
    log.write(LINE)
    assert log.finish(5)
    os.close(writer)
    assert log.dropped == 1


def test_output_of_python_is_written_like_lines(pipe: tuple[int, int]) -> None:
    """A stream in place of standard error passes whole lines on, and a partial one when it is flushed."""
    reader, writer = pipe
    log = LogWriter(DescriptorSink(writer))
    stream = LineStream(log, replaced=sys.stderr)
    print("one\ntwo", end="", file=stream)
    print(" thr\ud800ee", file=stream)
    stream.write("end")
    stream.flush()
    assert log.finish(5)
    assert os.read(reader, 4096) == b"one\ntwo thr\\ud800ee\nend"
