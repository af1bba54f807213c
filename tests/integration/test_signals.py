"""Signals that tools and terminals send to a service without asking it to end."""

import os
import signal
import sys

import pytest

from extauthz.app.signals import IGNORED
from tests.servers.forking import family
from tests.servers.process import EXTAUTHZ, FREE_PORTS, Service, listening, settings, started

# Makes the terminal on its standard input its own, and becomes the command.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


async def takes(service: Service, number: signal.Signals) -> None:
    """Sends the signal to the process that was started, which says so and goes on."""
    service.process.send_signal(number)
    await service.logged("signal_ignored", signal=number.name)
    assert (await service.check()).decision == "no_credentials"


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.deep)])
async def test_ignored_signals_do_not_end_the_service(database: str, redis_url: str, workers: str) -> None:
    """SIGHUP, SIGUSR1 and SIGUSR2 are ignored with a line by each process, whichever gets them; it ends with 0."""
    async with listening(settings(database, redis_url), "--workers", workers) as service:
        await service.until(lambda report: report["status"] == "ready")
        first, *others = members = family(service.process.pid)
        for number in IGNORED:
            await takes(service, number)
            for other in others:
                os.kill(other, number)
            for worker in range(len(others)):
                await service.logged("signal_ignored", signal=number.name, worker=worker)
        assert family(first) == members
        assert (await service.check()).decision == "no_credentials"
        assert await service.end() == 0


async def test_a_terminal_that_is_closed_ends_its_service(database: str, redis_url: str) -> None:
    """A service that was started on a terminal does not outlive it, though SIGHUP alone does nothing."""
    ours, theirs = os.openpty()
    argv = (sys.executable, "-c", ON_TERMINAL, *EXTAUTHZ)
    environ = FREE_PORTS | settings(database, redis_url)
    async with started(environ, argv=argv, stdin=theirs, start_new_session=True) as service:
        os.close(theirs)
        await service.logged("listening")
        await takes(service, signal.SIGHUP)
        os.close(ours)
        assert await service.ended() == 0
        assert service.log[-1]["event"] == "stopped"


async def test_a_signal_during_the_start_is_ignored(database: str, redis_url: str) -> None:
    """A signal before the service listens is ignored, too, and logged once it can be."""
    environ = FREE_PORTS | settings(database, redis_url)
    starter = "import os, signal, extauthz.app.signals as s; s.hold(); os.kill(os.getpid(), signal.SIGHUP)"
    code = f"{starter}; from extauthz.cli.main import main; raise SystemExit(main())"
    async with started(environ, argv=(sys.executable, "-c", code)) as service:
        await service.logged("signal_ignored", signal="SIGHUP")
        await service.logged("listening")
        assert await service.end() == 0
