"""Unix sockets: their owner, their files, and that a socket in use is never replaced."""

import grp
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from extauthz.transports.http.listen import AddressTaken, SocketFiles, bind
from tests.servers.process import listening, settings, started


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def ours() -> list[str]:
    """A group of this process by name and by number."""
    number = os.getgid()
    return [grp.getgrgid(number).gr_name, str(number)]


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.deep)])
async def test_mode_group_and_end(database: str, redis_url: str, tmp_path: Path, workers: str) -> None:
    """Sockets have the mode and group that are set, whatever the umask, and their files are removed at the end.

    Those of a killed process stay, and are replaced.
    """
    paths = {name: tmp_path / name for name in ("ENVOY", "ADMIN")}
    environ = settings(database, redis_url, EXTAUTHZ_SOCKET_MODE="0660", EXTAUTHZ_SOCKET_GROUP=ours()[0])
    environ |= {f"EXTAUTHZ_{name}_LISTEN": f"unix:{path}" for name, path in paths.items()}
    async with listening(environ, "--workers", workers) as service:
        assert await service.end(signal.SIGKILL) == -signal.SIGKILL
    assert all(path.is_socket() for path in paths.values())
    async with listening(environ, "--workers", workers, umask=0o077) as service:
        await service.until(lambda report: report["status"] == "ready")
        assert {mode(path) for path in paths.values()} == {0o660}
        assert (await service.check()).decision == "no_credentials"
        async with started(environ) as second:
            assert await second.ended() == 1
        assert second.text == f"extauthz: cannot listen on unix:{paths['ENVOY']}: Address already in use\n"
        assert (await service.check()).decision == "no_credentials"
        assert await service.end() == 0
    assert files_in(tmp_path) == []


async def test_a_start_that_fails_leaves_no_file(database: str, redis_url: str, tmp_path: Path) -> None:
    """An unknown group, and an address that is taken after a socket was made."""
    path = tmp_path / "envoy"
    environ = settings(database, redis_url, EXTAUTHZ_ENVOY_LISTEN=f"unix:{path}")
    async with started(environ | {"EXTAUTHZ_SOCKET_GROUP": "no-such-group"}) as service:
        assert await service.ended() == 1
    why = "EXTAUTHZ_SOCKET_GROUP must be a group of this machine (got no-such-group)"
    assert service.text == f"extauthz: cannot listen on unix:{path}: {why}\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        async with started(environ | {"EXTAUTHZ_NGINX_LISTEN": at}) as service:
            assert await service.ended() == 1
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("group", ours())
def test_the_group_by_name_and_number(tmp_path: Path, group: str) -> None:
    """Without a mode, the socket has that of the umask."""
    umask = os.umask(0o027)
    try:
        with bind("", 0, str(tmp_path / "socket"), group=group):
            assert mode(tmp_path / "socket") == 0o750
    finally:
        os.umask(umask)


def test_a_busy_socket_is_alive(tmp_path: Path) -> None:
    """One whose queue is full is not taken for a dead one."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(AddressTaken, match="Address already in use"):
            bind("", 0, str(path))
    assert path.is_socket()


def test_the_file_of_a_successor_is_left(tmp_path: Path) -> None:
    """A stop removes its own file, and not that of a successor at the same path."""
    path = tmp_path / "socket"
    first = bind("", 0, str(path))
    files = SocketFiles([first])
    first.close()
    with bind("", 0, str(path)) as second:
        files.remove()
        assert path.is_socket()
        SocketFiles([second]).remove()
        assert not path.exists()


@pytest.mark.parametrize(("name", "value"), [("MODE", "660x"), ("MODE", "1777"), ("MODE", "8"), ("GROUP", "a b")])
async def test_wrong_settings_are_named(name: str, value: str) -> None:
    """An invalid mode, and a group that cannot be a name: one line, exit status 2."""
    environ = settings("postgresql://127.0.0.1/x", "redis://127.0.0.1") | {f"EXTAUTHZ_SOCKET_{name}": value}
    async with started(environ) as service:
        assert await service.ended() == 2
    assert service.text.startswith(f"extauthz: EXTAUTHZ_SOCKET_{name}: '{value}' must be ")
