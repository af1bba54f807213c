"""Python imports this at its start where `PYTHONPATH` has this folder: what benches do to a service from outside.

With `BENCH_PROFILE`, the name of a file, it can be profiled: SIGUSR1 begins and SIGUSR2 ends that, and the process
writes the file as it ends. With `BENCH_UNMEASURED` it counts nothing at a check: what does counting cost?
"""

import atexit
import cProfile
import os
import signal


def _profiled(file: str) -> None:
    profile = cProfile.Profile()
    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, lambda *_: profile.disable())
    atexit.register(profile.dump_stats, file)


def _unmeasured() -> None:
    from extauthz.telemetry.checks import CheckCounts

    def nothing(*_: object) -> None:
        pass

    for name in ("decided", "cache_read"):
        setattr(CheckCounts, name, nothing)


if "BENCH_PROFILE" in os.environ:
    _profiled(os.environ["BENCH_PROFILE"])
if "BENCH_UNMEASURED" in os.environ:
    _unmeasured()
