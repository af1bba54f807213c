"""Servers that come from the distribution and not from a wheel: `.ci/servers` installs them."""

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

# Debian keeps servers where an ordinary user's PATH does not look; those of wheels, in an activated environment, are
# not the distribution's.
_FOLDERS = os.pathsep.join(
    folder
    for folder in (*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/usr/local/sbin")
    if folder != sysconfig.get_path("scripts")
)


def distribution_server(name: str) -> Path:
    """The program of that name from the distribution; without it the test fails in CI and is skipped elsewhere."""
    found = shutil.which(name, path=_FOLDERS)
    if found is not None:
        return Path(found)
    remedy = f"{name} is not installed: run `sudo .ci/servers`"
    if os.environ.get("CI"):
        pytest.fail(remedy)
    pytest.skip(remedy)
