"""The image, built and run step by step as `compose/Dockerfile` says, in namespaces instead of a container engine."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from compose import sbom
from extauthz.demo.ports import free_port
from tests.servers.compose import ROOT
from tests.servers.image import Image, build, namespaces
from tests.servers.process import FREE_PORTS, settings

LOCK = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE))
ADMIN = 9000  # the port of the health check


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    namespaces()
    # Not below pytest's own folders, through which no other user may pass.
    folder = Path(tempfile.mkdtemp(prefix="extauthz-image-"))
    folder.chmod(0o755)
    try:
        yield build(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_bill_of_materials_names_what_is_installed() -> None:
    """Each package by name and version, as CycloneDX has it, here of the environment of the tests."""
    bill = sbom.bill()
    components = bill["components"]
    assert isinstance(components, list)
    found = {each["name"]: each["version"] for each in components}
    assert found["aiohttp"] == LOCK["aiohttp"]
    assert all(each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}" for each in components)
    assert "extauthz" not in found
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    json.dumps(bill)


@pytest.mark.deep
def test_the_image_has_the_locked_packages_and_no_installer(image: Image) -> None:
    """Its bill of materials names them, and is where the label says."""
    place = image.stage.labels["io.extauthz.sbom"]
    answer = image.run("cat", place)
    found = {each["name"]: each["version"] for each in json.loads(answer.stdout)["components"]}
    assert found
    assert found.items() <= LOCK.items()
    assert image.run("/opt/extauthz/bin/python", "-m", "pip", "--version").returncode
    assert image.run("extauthz", "--version").stdout.startswith("extauthz ")


@pytest.mark.deep
def test_the_image_runs_as_a_user_who_may_change_nothing(image: Image) -> None:
    user, _, group = image.stage.last("USER").text.partition(":")
    assert image.run("sh", "-c", 'echo "$(id -u):$(id -g)"').stdout.strip() == f"{user}:{group}"
    for place in ("/opt/extauthz/x", "/run/secrets/x", "/x"):
        assert "Read-only file system" in image.run("touch", place).stderr
    assert not image.run("find", "/opt/extauthz", "-user", user, "-o", "-perm", "/022", "!", "-type", "l").stdout


@pytest.mark.deep
def test_serve_is_the_first_process_healthy_and_ends_in_order(image: Image, database: str, redis_url: str) -> None:
    """With its secrets as files; the health check fails before it serves and passes then, SIGTERM ends it with 0."""
    port = free_port(ADMIN)
    check = [word.replace(f":{ADMIN}/", f":{port}/") for word in _health_check(image)]
    assert image.run(*check).returncode
    secrets = _secrets(image, settings(database, redis_url))
    environ = FREE_PORTS | {"EXTAUTHZ_ADMIN_LISTEN": f"127.0.0.1:{port}", "EXTAUTHZ_DRAIN_SECONDS": "0"}
    environ |= {f"{file.name}_FILE": f"/run/secrets/{file.name}" for file in secrets.iterdir()}
    command = image.stage.last("ENTRYPOINT").words + image.stage.last("CMD").words
    with subprocess.Popen(
        image.argv(command, secrets=secrets), env=image.environment | environ, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert any('"listening"' in line for line in process.stderr)
            while image.run(*check).returncode:
                assert process.poll() is None
            (first,) = _children(process.pid)
            assert re.search(r"^NSpid:.*\t1$", Path(f"/proc/{first}/status").read_text(), re.MULTILINE)
            os.kill(first, signal.SIGTERM)
            assert process.wait() == 0
        finally:
            process.kill()


def _secrets(image: Image, values: Mapping[str, str]) -> Path:
    """A folder with a file for each value, which the group of the image's user may read."""
    folder = Path(tempfile.mkdtemp(dir=image.folder.parent))
    folder.chmod(0o755)
    for name, value in values.items():
        (folder / name).write_text(value)
        (folder / name).chmod(0o440)
        shutil.chown(folder / name, group=int(image.stage.last("USER").text.partition(":")[2]))
    return folder


def _health_check(image: Image) -> list[str]:
    words: list[str] = json.loads(image.stage.last("HEALTHCHECK").text.partition("CMD ")[2])
    return words


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
