"""Prometheus from the distribution or PATH, run with the configuration and the rules that users copy."""

import http.client
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from extauthz.demo.folders import ServerFailed
from extauthz.demo.ports import LOOPBACK, ask
from extauthz.demo.process import Process

CONFIGURATION = "prometheus.yml"
RULES = ("rules.yml", "alerts.yml")
SCRAPED = "extauthz:9000"  # what stands in the shipped file, and is replaced
ITSELF = "localhost:9090"
RUNBOOKS = "https://example.com/extauthz/"
INTERVALS = ("scrape_interval: 15s", "scrape_timeout: 5s", "evaluation_interval: 15s")
NEVER = "0001-01-01T00:00:00Z"  # the time of an evaluation that has not been
MISSING = (
    "Prometheus is not installed: `apt-get install prometheus`, or unpack it from prometheus.io/download and put its "
    "folder on PATH"
)
QUERY_TIMEOUT_SECONDS = 10.0


class Sample(NamedTuple):
    """One series of an instant query."""

    labels: Mapping[str, str]
    value: float


class Prometheus(Process):
    """Prometheus with the given files (name to text; `prometheus.yml` is the main one); it writes in `folder` alone."""

    def __init__(self, folder: Path, files: Mapping[str, str], *, port: int, program: Path) -> None:
        super().__init__((), folder / "prometheus.log")
        self.files = files
        self.port = port
        self.program = program

    @property
    def url(self) -> str:
        """The address of its API and pages."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Starts Prometheus and returns when it answers. Raises ServerFailed."""
        super().start()
        self.wait_ready(self._ready)

    def prepare(self) -> None:
        """Writes the files; see Process."""
        folder = self.log.parent
        for name, text in self.files.items():
            (folder / name).write_text(text, "utf-8")
        self.argv = [
            self.program,
            f"--config.file={folder / CONFIGURATION}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]

    def query(self, expression: str) -> list[Sample]:
        """What an expression is now. Raises OSError where there is no answer, ServerFailed where it is refused."""
        found = self.answer(f"query?{urlencode({'query': expression})}")
        return [Sample(each["metric"], float(each["value"][1])) for each in found["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its state and its last evaluation. Raises as `query` does."""
        return [rule for group in self.answer("rules")["groups"] for rule in group["rules"]]

    def answer(self, path: str) -> Any:
        """The `data` of an answer of `/api/v1/`. Raises as `query` does."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=QUERY_TIMEOUT_SECONDS)
        try:
            connection.request("GET", f"/api/v1/{path}")
            told = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if told["status"] != "success":
            raise ServerFailed(f"Prometheus refuses {path}: {told['error']}")
        return told["data"]

    def _ready(self) -> bool:
        answer = ask(self.port, f"GET /-/ready HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode(), 15)
        return b" 200 " in answer and self.listens_on(self.port)


def installed() -> Path:
    """The program. Raises ServerFailed, with the next step, where there is none."""
    found = shutil.which("prometheus", path=os.environ.get("PATH", os.defpath))
    if found is None:
        raise ServerFailed(MISSING)
    return Path(found).absolute()


def shipped() -> Path:
    """The folder of the shipped files: a part of the installed package, or of the checkout."""
    here = Path(__file__).parent
    for place in (here / "files" / "prometheus", here.parents[1] / "compose" / "prometheus"):
        if (place / CONFIGURATION).is_file():
            return place
    raise ServerFailed(f"the files of Prometheus are neither in {here / 'files'} nor in {here.parents[1] / 'compose'}")


def runbooks() -> str:
    """Where the pages of alerts begin: at the checkout, if this is one."""
    root = Path(__file__).parents[2]
    return f"{root}/" if (root / "docs" / "howto" / "runbooks").is_dir() else RUNBOOKS


def prometheus_files(target: str, *, port: int, interval: str) -> dict[str, str]:
    """The shipped files by name: `target` is scraped and rules are evaluated every `interval`."""
    place = shipped()
    replaced = {SCRAPED: target, ITSELF: f"{LOOPBACK}:{port}"}
    replaced |= {each: f"{each.partition(':')[0]}: {interval}" for each in INTERVALS}
    configuration = (place / CONFIGURATION).read_text("utf-8")
    for old, new in replaced.items():
        if old not in configuration:
            raise ServerFailed(f"{place / CONFIGURATION} does not have {old!r}")
        configuration = configuration.replace(old, new)
    rules = {name: (place / name).read_text("utf-8").replace(RUNBOOKS, runbooks()) for name in RULES}
    return {CONFIGURATION: configuration, **rules}
