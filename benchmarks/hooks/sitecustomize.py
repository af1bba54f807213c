"""Python imports this at its start where `PYTHONPATH` has this folder: what benches do to a service from outside.

With `BENCH_PROFILE` or `BENCH_SAMPLES`, the name of a file, it can be profiled or sampled: two signals that the service
does not use begin and end that, and the process writes the file as it ends. With `BENCH_UNMEASURED` it counts nothing
at a check: what does counting cost?
"""

import atexit
import cProfile
import importlib
import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

BEGIN, END = signal.SIGRTMIN, signal.SIGRTMIN + 1
SAMPLE_SECONDS = 0.002  # of the process's CPU
_COUNTING = (("extauthz.telemetry.checks", "CheckCounts"), ("extauthz.telemetry.tally", "Tally"))
_COUNTS = {"decided", "cache_read", "limited", "refused"}


def _profiled(file: str) -> None:
    profile = cProfile.Profile()
    signal.signal(BEGIN, lambda *_: profile.enable())
    signal.signal(END, lambda *_: profile.disable())
    atexit.register(profile.dump_stats, file)


def _sampled(file: str) -> None:
    """Counts stacks, each as its frames from within: file, first line of the function, its name, the line."""
    stacks: Counter[tuple[tuple[str, int, str, int], ...]] = Counter()

    def take(_: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append((code.co_filename, code.co_firstlineno, code.co_qualname, frame.f_lineno))
            frame = frame.f_back
        stacks[tuple(stack)] += 1

    def every(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)

    signal.signal(signal.SIGPROF, take)
    signal.signal(BEGIN, lambda *_: every(SAMPLE_SECONDS))
    signal.signal(END, lambda *_: every(0))
    atexit.register(lambda: Path(file).write_text(json.dumps(list(stacks.items()))))


def _unmeasured() -> None:
    def nothing(*_: object) -> None:
        pass

    for module, name in _COUNTING:
        counting = getattr(importlib.import_module(module), name)
        for method in _COUNTS & vars(counting).keys():
            setattr(counting, method, nothing)


if "BENCH_PROFILE" in os.environ:
    _profiled(os.environ["BENCH_PROFILE"])
if "BENCH_SAMPLES" in os.environ:
    _sampled(os.environ["BENCH_SAMPLES"])
if "BENCH_UNMEASURED" in os.environ:
    _unmeasured()
