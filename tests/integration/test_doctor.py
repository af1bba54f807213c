"""`extauthz doctor`: its rows for a healthy machine, for listeners and for a service, and their form."""

import asyncio
import re
import socket
from pathlib import Path

import pytest

from extauthz.backends.postgres import inspection as postgres_inspection
from extauthz.backends.redis import inspection as redis_inspection
from extauthz.demo.ports import free_port
from extauthz.demo.redis import Redis
from extauthz.doctor import listeners as examined_listeners
from tests.servers.doctor import Doctor
from tests.servers.fixtures import stopped
from tests.servers.process import listening
from tests.servers.shell import Here


def test_a_healthy_machine_is_all_ok(doctor: Doctor) -> None:
    """A superuser, a Redis without persistence and a missing token are remarks: ok, with a suggestion."""
    rows = doctor.rows()
    assert all(row["ok"] for row in rows.values())
    remarks = {check for check, row in rows.items() if row["remedy"]}
    assert remarks == {"settings admin", "database rights", "redis persistence"}
    assert rows.keys() >= {
        *("settings", "database reachable", "database schema", "database primary", "database clock", "redis reachable"),
        *("redis version", "redis policy", "redis scripts", "redis clock", "listener envoy", "listener admin"),
    }


def test_every_check_is_described(doctor: Doctor) -> None:
    """The table of its page describes every check."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "doctor.md").read_text("utf-8")
    described = {
        name for row in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)
    }
    checks = {re.sub(r"^listener .*", "listener …", check) for check in doctor.rows()}
    assert checks <= described


def test_the_table_fits_a_terminal(doctor_shell: Here) -> None:
    """Each line is within 80 columns, also where addresses are long; marks say what is wrong."""
    done = doctor_shell.run("doctor", REDIS_URL=f"redis://{'a-long-name.' * 9}invalid:6379/0")
    assert done.returncode == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert re.search(r"^fail  redis reachable ", done.stdout, re.MULTILINE)
    assert re.search(r"^note  settings admin ", done.stdout, re.MULTILINE)
    assert re.search(r"^ok    database reachable ", done.stdout, re.MULTILINE)
    assert done.stderr == "extauthz: 1 of {} checks failed: redis reachable\n".format(
        len(re.findall(r"^(?:ok|note|fail) ", done.stdout, re.MULTILINE))
    )


def test_clocks_that_differ(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the process is set back, which looks as if those of the stores were ahead."""

    class Slow:
        def time(self) -> float:
            import time

            return time.time() - 60

    monkeypatch.setattr(postgres_inspection, "time", Slow())
    monkeypatch.setattr(redis_inspection, "time", Slow())
    failed = doctor.failed()
    assert failed.keys() == {"database clock", "redis clock"}
    assert all("60.0 seconds ahead of" in row["detail"] for row in failed.values())


def test_addresses_of_listeners(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A free address is ok; one that is in use, or that cannot be bound, fails."""
    monkeypatch.setattr(examined_listeners, "ANSWER_TIMEOUT_SECONDS", 1.0)  # for an address that is not of this machine
    free = {"EXTAUTHZ_ENVOY_LISTEN": f"127.0.0.1:{free_port()}", "EXTAUTHZ_NGINX_LISTEN": f"unix:{tmp_path}/nginx"}
    rows = doctor.rows(**free)
    assert "is free" in rows["listener envoy"]["detail"]
    assert "is free" in rows["listener nginx"]["detail"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = {
            "EXTAUTHZ_ENVOY_LISTEN": f"127.0.0.1:{other.getsockname()[1]}",
            "EXTAUTHZ_NGINX_LISTEN": f"unix:{tmp_path}/nowhere/nginx",
            "EXTAUTHZ_FORWARD_LISTEN": "192.0.2.1:9003",
        }
        failed = doctor.failed(**taken)
    assert failed.keys() == {"listener envoy", "listener nginx", "listener forward"}
    assert "another program" in failed["listener envoy"]["detail"]
    assert "there is no folder" in failed["listener nginx"]["detail"]


async def test_a_service_that_runs(doctor_shell: Here, redis_server: Redis, tmp_path: Path) -> None:
    """A running service is recognised at each address; a missing listener and a lost store are reported."""
    sockets = {f"EXTAUTHZ_{name}_LISTEN": f"unix:{tmp_path}/{name}" for name in ("ENVOY", "NGINX", "FORWARD", "USAGE")}
    ours = doctor_shell.environ | sockets | {"EXTAUTHZ_ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}
    doctor = Doctor(Here(doctor_shell.folder, ours))
    async with listening({name: value for name, value in ours.items() if name in _settings_of(ours)}) as service:
        await service.until(lambda report: report["status"] == "ready")
        rows = await asyncio.to_thread(doctor.rows)
        assert all(row["ok"] for row in rows.values())
        assert {rows[f"listener {name}"]["detail"].split()[0] for name in ("envoy", "nginx", "usage", "admin")} == {
            "answers"
        }
        assert rows["service"]["detail"] == "it runs and is ready"
        moved = await asyncio.to_thread(lambda: doctor.failed(EXTAUTHZ_ENVOY_LISTEN=f"unix:{tmp_path}/elsewhere"))
        assert moved.keys() == {"listener envoy"}
        assert "although extauthz runs" in moved["listener envoy"]["detail"]
        with stopped(redis_server):
            await service.until(lambda report: report["redis"] != "ok")
            lost = await asyncio.to_thread(doctor.failed)
        assert lost.keys() == {"redis reachable", "service"}
        assert "redis: connection" in lost["service"]["detail"]
        assert await service.end() == 0


def _settings_of(environ: dict[str, str]) -> set[str]:
    names = ("EXTAUTHZ_", "DATABASE_URL", "REDIS_URL")
    return {name for name in environ if name.startswith(names)}


def test_settings_that_cannot_be_read(doctor_shell: Here) -> None:
    """Without valid settings nothing is checked; their mistakes are printed as by every command."""
    assert doctor_shell.refused(2, "doctor", EXTAUTHZ_WORKERS="many").startswith("EXTAUTHZ_WORKERS: ")
