"""Python imports this at its start where `PYTHONPATH` has this folder: a service that is not changed can be profiled.

SIGUSR1 begins and SIGUSR2 ends what is profiled. As it ends, the process writes it to the file `BENCH_PROFILE`.
"""

import atexit
import cProfile
import os
import signal

_profile = cProfile.Profile()


def _begin(*_: object) -> None:
    _profile.enable()


def _end(*_: object) -> None:
    _profile.disable()


signal.signal(signal.SIGUSR1, _begin)
signal.signal(signal.SIGUSR2, _end)
atexit.register(_profile.dump_stats, os.environ["BENCH_PROFILE"])
