"""Servers that come from the distribution and not from a wheel: `.ci/servers` installs them."""

import os
import shutil
from pathlib import Path

import pytest

# Debian keeps servers where an ordinary user's PATH does not look.
_FOLDERS = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


def distribution_server(name: str) -> Path:
    """The program of that name from the distribution; without it the test fails in CI and is skipped elsewhere."""
    found = shutil.which(name, path=_FOLDERS)
    if found is not None:
        return Path(found)
    remedy = f"{name} is not installed: run `sudo .ci/servers`"
    if os.environ.get("CI"):
        pytest.fail(remedy)
    pytest.skip(remedy)
