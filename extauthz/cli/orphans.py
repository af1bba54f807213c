"""As the first process of a container, `serve` gets every process that lost its parent, and must bury it.

That is done by a parent that does nothing else, so that the event loop's own children are left to the event loop.
"""

import ctypes
import os
import signal
from typing import NoReturn

PR_SET_PDEATHSIG, PR_GET_CHILD_SUBREAPER = 1, 37  # prctl(2)

# What the kernel sends to a thread that made a mistake; waiting for these would hide it.
OWN_FAULTS = {
    signal.SIGSEGV,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGBUS,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGSYS,
}


def leave_orphans_to_a_parent() -> None:
    """Returns in a child where orphans would come to this process; the parent passes signals on and ends with it."""
    if not _gets_orphans():
        return
    ours = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - OWN_FAULTS)
    child = os.fork()
    if child:
        _bury_until_end_of(child)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != ours:  # it ended before the line above
        raise SystemExit(1)
    if not os.isatty(0):
        os.setsid()  # a signal to the group would come twice, once passed on
    if os.environ.get("LISTEN_PID") == str(ours):
        os.environ["LISTEN_PID"] = str(os.getpid())


def _gets_orphans() -> bool:
    subreaper = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(subreaper))
    return os.getpid() == 1 or bool(subreaper.value)


def _bury_until_end_of(child: int) -> NoReturn:
    _bury(child)  # what ended before its signal was waited for
    while True:
        came = signal.sigwaitinfo(signal.valid_signals() - OWN_FAULTS)
        if came.si_signo == signal.SIGCHLD:
            _bury(child)
        elif came.si_code <= 0:  # from a process; what a terminal sends has reached the child as well
            os.kill(child, came.si_signo)


def _bury(child: int) -> None:
    """Takes the status of every process that has ended; with the child's, this process ends, too."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)  # as a shell says it
