"""The image of `compose/Dockerfile`, built and run without a container engine: namespaces, overlays, `chroot`.

Each stage is an overlay over this machine's own root file system, which stands for the base image. What the Dockerfile
says is done as it stands there; what it needs of a base image is Python and a Debian-like user land.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.servers.compose import ROOT
from tests.servers.dockerfile import Instruction, Stage, context, stages

# $1: the folder of a stage, $2: `rw` or `ro`, $3: a folder that becomes /run/secrets or nothing, $4: where to work.
_ENTER = """
set -e
mount -t overlay overlay -o "$2,lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/tmp" -o mode=1777
mount -t proc proc "$1/root/proc"
if [ -n "$3" ]; then mount --bind -o ro "$3" "$1/root/run/secrets"; fi
root=$1 folder=$4
shift 4
exec chroot "$root/root" sh -c 'cd "$0" && exec "$@"' "$folder" "$@"
"""
_PASSED_ON = ("PIP_", "SSL_CERT", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "no_proxy", "NO_PROXY")
_PYTHON = Path(sys.base_prefix) / "bin"


def namespaces() -> None:
    """Returns where these can be had: by root; elsewhere the test is skipped, and fails in CI."""
    if os.geteuid() == 0 and shutil.which("unshare"):
        return
    remedy = "building the image needs root and util-linux"
    if os.environ.get("CI"):
        pytest.fail(remedy)
    pytest.skip(remedy)


class Image:
    """What a stage has become; `folder` holds it."""

    def __init__(self, folder: Path, stage: Stage) -> None:
        self.folder = folder
        self.stage = stage
        self.directory = "/"
        for name in ("upper", "work", "root"):
            (folder / name).mkdir(parents=True)
        self._lend_python()

    @property
    def upper(self) -> Path:
        """The files that the stage added."""
        return self.folder / "upper"

    @property
    def environment(self) -> dict[str, str]:
        """What its programs find; the Python of this machine stands for that of the base image."""
        theirs = self.stage.environment
        path = theirs.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
        own, others = (
            [part for part in path if part.startswith("/opt/")],
            [part for part in path if "/opt/" not in part],
        )
        return theirs | {"PATH": ":".join([*own, str(_PYTHON), *others, "/usr/sbin", "/sbin"])}

    def argv(self, command: Sequence[str], *, secrets: Path | None = None, built: bool = True) -> list[str | Path]:
        """How a command runs in it: as its user and with its read-only files, once it is built."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", _ENTER, "sh"]
        place = [self.folder, "ro" if built else "rw", secrets or "", self.directory]
        if not built:
            return [*enter, *place, *command]
        user, group = self.stage.last("USER").text.split(":")
        drop = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        return [*enter, *place, *drop, "--bounding-set=-all", "--inh-caps=-all", *command]

    def run(self, *command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """What a command says that runs in the built image."""
        return subprocess.run(
            self.argv(command), env=self.environment | environ, capture_output=True, text=True, check=False
        )

    def build(self, earlier: Mapping[str, "Image"]) -> None:
        """Does what the instructions say."""
        for instruction in self.stage.instructions:
            match instruction.name:
                case "WORKDIR":
                    self.directory = instruction.text
                    (self.upper / instruction.text.strip("/")).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(instruction, earlier)
                case "RUN":
                    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
                    argv = self.argv(["/bin/sh", "-c", instruction.text], built=False)
                    subprocess.run(argv, env=self.environment | passed, check=True)

    def _copy(self, instruction: Instruction, earlier: Mapping[str, "Image"]) -> None:
        *sources, target = instruction.words
        place = self.upper / (Path(self.directory) / target).as_posix().strip("/")
        if sources[0].startswith("--from="):
            stage = earlier[sources.pop(0).removeprefix("--from=")]
            for source in sources:
                shutil.copytree(stage.upper / source.strip("/"), place, symlinks=True)
            return
        given = list(context())
        for source in sources:
            for file in given:
                if file == Path(source) or Path(source) in file.parents:
                    inside = file.relative_to(source) if file != Path(source) else Path(file.name)
                    to = place / inside if file != Path(source) or target.endswith("/") else place
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / file, to)

    def _lend_python(self) -> None:
        """Lets every user in the image reach this machine's Python, under the name that base images have."""
        ways = [str(folder) for folder in (_PYTHON, *_PYTHON.parents)]
        lend = f"chmod o+x {' '.join(ways)}; [ -e {_PYTHON}/python ] || ln -s python3 {_PYTHON}/python"
        subprocess.run(self.argv(["/bin/sh", "-c", lend], built=False), check=True)


def build(folder: Path) -> Image:
    """The image of the last stage, built in `folder`."""
    built: dict[str, Image] = {}
    image = None
    for number, stage in enumerate(stages()):
        image = Image(folder / str(number), stage)
        image.build(built)
        built[stage.name] = image
    assert image is not None
    return image
