"""A server as a child process: in a session of its own, awaited until it answers, and gone when we are gone."""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from extauthz.demo.folders import Account, ServerFailed, make_folder
from extauthz.demo.ports import listeners

SERVER_TIMEOUT_SECONDS = (
    10.0  # seconds that a server has to end politely, or that a new one waits for the last of an earlier one
)

# What a server sees instead of our environment, so that no PGPORT, LC_ALL or TZ of the user's changes what it does.
NEUTRAL_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

# Reads until the pipe from us breaks, which happens however we end. PR_SET_PDEATHSIG would not do: it fires when the
# thread that started the child ends, and is reset when the child changes its user.
KEEPER = """
read -r _
kill -s "$2" "$1"; kill -s CONT "$1"
tries=0
while [ $tries -lt 50 ] && kill -s 0 "$1"; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL -- "-$1"
"""


class Process:
    """A program that writes to a log file of its own; it can be started, stopped and started again.

    `account` is for root: run as that user and group. `stop_with` is the signal that asks the program to end. The
    log is emptied at each start and locked as long as any process of the program lives, so that two never share it.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
        stop_with: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.argv = argv
        self.log = log.absolute()
        self.cwd = cwd or self.log.parent
        self.env = NEUTRAL_ENVIRONMENT if env is None else env
        self.account = account
        self.stop_with = stop_with
        self._output: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """What a kind of server does before each start; by then no process of an earlier start is left.

        It may set `argv` and `account`.
        """

    def start(self) -> None:
        """Starts the program, which need not answer yet. Raises ServerFailed; does nothing when it was started."""
        if self._child is not None:
            return
        try:
            with self._claimed_log():
                self.prepare()
                with uninterrupted():
                    self._child = self._spawn(self.argv)
                    self._keeper = self._spawn_keeper(self._child.pid)
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, probe: Callable[[], bool], timeout: float = 30.0) -> None:
        """Returns when `probe` does not fail with OSError and says yes, at most `timeout` seconds from now.

        Raises ServerFailed when the program ends first or the time is up. Whatever is raised, the program is stopped.
        """
        deadline = time.monotonic() + timeout
        try:
            while True:
                if not self.alive:
                    raise ServerFailed(self._with_log("ended before it was ready"))
                with suppress(OSError):
                    if probe():
                        return
                if time.monotonic() > deadline:
                    raise ServerFailed(self._with_log(f"was not ready within {timeout:g} s"))
                time.sleep(0.01)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Asks the program to end, waits, ends it hard after 10 s, and leaves nothing of it. Does nothing twice."""
        child, keeper = self._child, self._keeper
        if child is None:
            return
        try:
            self._signal([child.pid], self.stop_with)
            self._signal(family(child.pid), signal.SIGCONT)  # a paused one handles no signal
            deadline = time.monotonic() + SERVER_TIMEOUT_SECONDS
            while self.alive and time.monotonic() < deadline:
                time.sleep(0.005)
        finally:
            # The first process is not reaped yet: no stranger can have its number, which is also its group's.
            self._signal(family(child.pid), signal.SIGKILL)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            self._child = self._keeper = None
            if keeper is not None:
                keeper.kill()
                keeper.communicate()

    def kill(self) -> None:
        """Ends every process of the program at once, as a power cut would; its files stay as they are."""
        self._signal(family(self.pid), signal.SIGKILL)
        self.stop()

    def pause(self) -> None:
        """Freezes every process of the program: connections are still accepted by the kernel, nothing is answered."""
        self._signal([self.pid], signal.SIGSTOP)  # first, so that it makes no more while we look
        self._signal(family(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """Lets the program go on after `pause`."""
        self._signal(family(self.pid), signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The number of the program's first process. Raises ServerFailed when it was not started."""
        if self._child is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the program was started and has not ended."""
        if self._child is None:
            return False
        try:  # WNOWAIT: its number stays taken until `stop` has used it
            return os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def listens_on(self, port: int) -> bool:
        """Whether a process of the program listens on the port of 127.0.0.1; another program there does not count."""
        sockets = {f"socket:[{inode}]" for inode in listeners(port)}
        return bool(sockets) and any(sockets & _descriptors(pid) for pid in family(self.pid))

    @property
    def name(self) -> str:
        """The program's name, for messages."""
        return self.log.stem

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run_first(self, argv: Sequence[str | Path]) -> None:
        """For `prepare`: runs a tool to its end, as the program would be run. Raises ServerFailed when it fails."""
        tool = None
        try:
            with uninterrupted():
                tool = self._spawn(argv)
            status = tool.wait()
        except BaseException:
            if tool is not None:
                tool.kill()
                tool.wait()
            raise
        if status:
            raise ServerFailed(self._with_log(f"could not be prepared: {Path(argv[0]).name} failed"))

    def _spawn(self, argv: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        account = self.account
        try:
            return subprocess.Popen(
                argv,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                umask=0o077,
                start_new_session=True,
                user=account and account.uid,
                group=account and account.gid,
                extra_groups=account and [],
            )
        except OSError as error:
            raise ServerFailed(f"cannot start {self.name} ({argv[0]}): {error.strerror}") from error

    def _spawn_keeper(self, pid: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, "keeper", str(pid), self.stop_with.name.removeprefix("SIG")],
            cwd="/",
            env=NEUTRAL_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @contextmanager
    def _claimed_log(self) -> Iterator[None]:
        make_folder(self.log.parent)
        try:
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise ServerFailed(f"cannot write {self.log}: {error.strerror}") from error
        try:
            deadline = time.monotonic() + SERVER_TIMEOUT_SECONDS
            while not _locked(output):
                if time.monotonic() > deadline:
                    raise ServerFailed(
                        f"another {self.name} is running in {self.log.parent}: stop it, or choose another folder"
                    )
                time.sleep(0.05)
            os.ftruncate(output, 0)
            self._output = output
            yield
        finally:
            self._output = None
            os.close(output)  # the program's own copies keep the lock

    def _with_log(self, what: str) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-10:]
        return "\n  ".join([f"{self.name} {what}; the last lines of {self.log}:", *lines])

    @staticmethod
    def _signal(pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What is done inside is done whole: Ctrl-C and SIGTERM take effect at its end, so that no child is left behind."""
    if threading.current_thread() is not threading.main_thread():  # signals interrupt only that one
        yield
        return
    arrived: list[int] = []
    handlers = {
        number: signal.signal(number, lambda came, _: arrived.append(came))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for came in arrived[:1]:
            signal.raise_signal(came)


def family(pid: int) -> list[int]:
    """The process and all that descend from it, whatever their sessions (PostgreSQL gives each child its own)."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parent = int(file.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def _descriptors(pid: int) -> set[str]:
    """What the process has open; nothing where it has ended."""
    found = set()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(link.readlink()))
    return found


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
