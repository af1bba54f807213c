"""Files of settings and secrets must be regular, small, and not writable by other users; errors are one line each."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from extauthz.config import files, load
from extauthz.core.errors import ConfigError

PEPPER = "2026:pepper of these tests: 5b1c9e7f2a"
GIVEN = {
    "DATABASE_URL": "postgresql://app@db/app",
    "REDIS_URL": "redis://redis:6379/0",
    "EXTAUTHZ_KEY_PEPPER": PEPPER,
}


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 30)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(path.parent)
        bound.bind(path.name)


def _open_to_all(path: Path) -> None:
    path.write_text("a = 1\n")
    path.chmod(0o666)


UNFIT: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.symlink_to("/dev/zero"), "must be a plain file (got a device)"),
    (lambda path: path.symlink_to("/dev/null"), "must be a plain file (got a device)"),
    (os.mkfifo, "must be a plain file (got a named pipe)"),
    (_socket, "must be a plain file (got a socket)"),
    (Path.mkdir, "must be a plain file (got a folder)"),
    (_sparse, f"bytes (got {1 << 30})"),
    (_open_to_all, "must not be writable by other users (got mode 0666): chmod o-w"),
    (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file or directory"),
    (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
    (lambda path: path.write_bytes(b"\xef\xbb\xbfa = 1\n"), "must be UTF-8 without a byte order mark"),
    (lambda path: path.write_bytes("a = 1".encode("utf-16")), "must be UTF-8 without a byte order mark"),
    (lambda path: path.write_bytes(b"a\xff"), "is not UTF-8 (byte 1)"),
]


@pytest.mark.parametrize(("make", "reason"), UNFIT)
def test_files_that_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], reason: str
) -> None:
    """Any other kind of file in place of a configuration or a secret is rejected at once, in one line."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    make(file)
    secret = {name: text for name, text in GIVEN.items() if name != "EXTAUTHZ_KEY_PEPPER"}
    for environ, option, name in (
        (GIVEN, file, ""),
        ({**GIVEN, "EXTAUTHZ_CONFIG": str(file)}, None, ""),
        ({**secret, "EXTAUTHZ_KEY_PEPPER_FILE": str(file)}, None, "EXTAUTHZ_KEY_PEPPER_FILE: "),
    ):
        with pytest.raises(ConfigError) as caught:
            load(environ, option)
        (line,) = caught.value.mistakes
        assert line.startswith(f"{name}{file}")
        assert line.endswith(reason)


@pytest.mark.parametrize("text", [f"{PEPPER}\nb:another pepper: 0f9c81d57ab2e64c55", f"{PEPPER}\r{PEPPER}\n"])
def test_a_secret_is_one_line(tmp_path: Path, text: str) -> None:
    """A second line is rejected, because it would become part of the secret or be lost."""
    (tmp_path / "pepper").write_text(text)
    with pytest.raises(ConfigError, match=r"pepper must be one line$"):
        load({**GIVEN, "EXTAUTHZ_KEY_PEPPER": "", "EXTAUTHZ_KEY_PEPPER_FILE": str(tmp_path / "pepper")}, None)


def test_mounted_secrets(tmp_path: Path) -> None:
    """A secret that Kubernetes mounts as a link to a link into a folder is read, also by its group."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "pepper").write_text(f"{PEPPER}\n")
    (tmp_path / "..2026" / "pepper").chmod(0o640)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "pepper").symlink_to("..data/pepper")
    settings = load({**GIVEN, "EXTAUTHZ_KEY_PEPPER": "", "EXTAUTHZ_KEY_PEPPER_FILE": str(tmp_path / "pepper")}, None)
    assert settings.key_pepper[0].name == "2026"
    assert settings.notes == ()


@pytest.mark.parametrize(
    ("folder", "file", "exposed"), [(0o755, 0o644, True), (0o750, 0o644, False), (0o755, 0o640, False)]
)
def test_files_that_every_user_can_read(tmp_path: Path, folder: int, file: int, exposed: bool) -> None:
    """A private folder on the path protects as well as the file's own mode; a link does not matter."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "pepper").write_text(PEPPER)
    (tmp_path / "link").symlink_to("folder/pepper")
    (tmp_path / "folder" / "pepper").chmod(file)
    (tmp_path / "folder").chmod(folder)
    assert files.is_exposed(tmp_path / "link", below=tmp_path / "folder") == exposed


def test_readable_secrets_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are accepted with a warning, because tools often mount secrets into containers with that mode."""
    (tmp_path / "pepper").write_text(PEPPER)
    (tmp_path / "toml").write_text(f'[settings]\nkey_pepper = "{PEPPER}"\n')
    (tmp_path / "plain").write_text("[settings]\nworkers = 1\n")
    monkeypatch.setattr(files, "is_exposed", lambda _: True)
    environ = {**GIVEN, "EXTAUTHZ_KEY_PEPPER": ""}
    exposed = "can be read by every user of this machine: chmod o-r"
    (told,) = load({**environ, "EXTAUTHZ_KEY_PEPPER_FILE": str(tmp_path / "pepper")}, None).notes
    assert told == f"EXTAUTHZ_KEY_PEPPER_FILE: {tmp_path / 'pepper'} {exposed}"
    (told,) = load(environ, tmp_path / "toml").notes
    assert told == f"{tmp_path / 'toml'}: holds secrets, and {exposed}"
    assert load(GIVEN, tmp_path / "plain").notes == ()
