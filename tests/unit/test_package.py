"""The wheel has what users of the package need beside its modules."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """Built as `make dist` builds it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.iterdir()
    with ZipFile(path) as archive:
        yield archive


def test_type_checkers_read_types_of_package(wheel: ZipFile) -> None:
    """PEP 561: without the marker a type checker treats everything from the package as Any."""
    assert "extauthz/py.typed" in wheel.namelist()


def test_wheel_has_every_file_of_package(wheel: ZipFile) -> None:
    """SQL, Lua and data files too, which lie beside the modules that read them."""
    files = [path for path in (ROOT / "extauthz").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(ROOT)) for path in files} <= set(wheel.namelist())


def test_wheel_carries_configuration_that_demo_runs(wheel: ZipFile) -> None:
    """`extauthz demo` works from an installed package, where the top of the repository is not at hand."""
    carried = {name.removeprefix("extauthz/demo/files/") for name in wheel.namelist()}
    assert {"envoy/http.yaml", "nginx/nginx.conf", "prometheus/alerts.yml"} <= carried
