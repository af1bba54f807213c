"""nginx of two versions with blocks of configuration as users write them: each in a server, on a port, of its own."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from extauthz.demo.folders import make_folder
from extauthz.demo.ports import free_port
from extauthz.demo.proxies import Nginx, nginx_files, proxy_files
from extauthz.demo.stack import NGINX, NGINX_DOOR, USAGE, Proxy
from tests.e2e.site import Site
from tests.servers.upstreams import Upstreams, upstreams

README = (proxy_files() / "nginx" / "README.md").read_text("utf-8")
FENCED = re.compile(r"^(?P<indent> *)```(?P<kind>nginx|sh)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
# What nginx's packages bring as fastcgi_params, uwsgi_params and scgi_params, without what concerns files.
PARAMS = {
    "QUERY_STRING": "$query_string",
    "REQUEST_METHOD": "$request_method",
    "CONTENT_TYPE": "$content_type",
    "CONTENT_LENGTH": "$content_length",
    "REQUEST_URI": "$request_uri",
    "SERVER_PROTOCOL": "$server_protocol",
    "REMOTE_ADDR": "$remote_addr",
}
# An HTTP/2 server for grpc_pass: it hands on every header, with the protocol in one more.
HOP = """
error_log stderr; pid nginx.pid; events {}
http {
    access_log off; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {
        listen 127.0.0.1:8080; http2 on; underscores_in_headers on; ignore_invalid_headers off;
        location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Via $server_protocol; }
    }
}
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the README: its first line's number and its text."""

    line: int
    kind: str
    text: str

    @property
    def wrong(self) -> bool:
        """Whether it shows a mistake."""
        return self.text.startswith("# wrong")


def readme_blocks(kind: str = "nginx") -> list[Block]:
    """Every fenced block of that language."""
    return [
        Block(README.count("\n", 0, found.start()) + 1, kind, textwrap.dedent(found["text"]))
        for found in FENCED.finditer(README)
        if found["kind"] == kind
    ]


@dataclass(slots=True)
class Running:
    """A running nginx: a port for each block, the upstreams behind all of them, and the log."""

    ports: Sequence[int]
    behind: Upstreams
    nginx: Nginx

    def proxy(self, number: int) -> Proxy:
        """The server with the block of that number."""
        return Proxy("nginx", self.ports[number])

    @property
    def log(self) -> str:
        """What it has written at level `warn` and above."""
        return self.nginx.log.with_name("error.log").read_text() + self.nginx.log.read_text()


@contextmanager
def running(
    site: Site,
    folder: Path,
    blocks: Sequence[str],
    *,
    program: Path | None,
    changes: Mapping[str, str] = MappingProxyType({}),
    patient: bool = True,
) -> Iterator[Running]:
    """nginx with the shipped files and a server for each block, beside the site's extauthz.

    `changes` are made in its files, from what must stand there to what shall. `patient`: extauthz may be slow.
    """
    with ExitStack() as stack:
        behind = stack.enter_context(upstreams())
        hop = free_port()
        stack.enter_context(Nginx(folder / "hop", {"nginx.conf": _ported(HOP, hop, behind)}, port=hop))
        drawn: set[int] = set()
        while len(drawn) < len(blocks):  # one that nothing listens on yet may be drawn twice
            drawn.add(free_port())
        ports = [*drawn]
        files = nginx_files({**{name: site.stack.ports[name] for name in (NGINX_DOOR, USAGE)}, NGINX: ports[0]})
        for name in ("fastcgi", "uwsgi", "scgi"):
            files[f"{name}_params"] = "".join(f"{name}_param {param} {value};\n" for param, value in PARAMS.items())
        files["nginx.conf"] = _with_servers(files["nginx.conf"], blocks, ports, _upstreams(behind, hop))
        for old, new in changes.items():
            assert any(old in text for text in files.values())
            files = {name: text.replace(old, new) for name, text in files.items()}
        if patient:
            files["extauthz_server.conf"] = files["extauthz_server.conf"].replace("200ms", "5s")
        _write_pages(folder / "nginx" / "html")
        nginx = stack.enter_context(Nginx(folder / "nginx", files, port=ports[0], program=program))
        yield Running(ports, behind, nginx)


def _ported(text: str, port: int, behind: Upstreams) -> str:
    return text.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace(":8000", f":{behind.ports['http']}")


def _upstreams(behind: Upstreams, hop: int) -> str:
    """The names that the README's blocks use; nothing listens at `dead`."""
    ports = behind.ports
    named = {
        "app": ports["http"],
        "standby": ports["http"],
        "php": ports["fastcgi"],
        "wsgi": ports["uwsgi"],
        "scgi": ports["scgi"],
        "grpc": hop,
        "dead": 9,
    }
    return "".join(f"upstream {name} {{ server 127.0.0.1:{port}; }}\n" for name, port in named.items())


def _with_servers(text: str, blocks: Sequence[str], ports: Sequence[int], named: str) -> str:
    """The shipped file with these servers in the place of its own, and a stricter log."""
    head = text[: text.index("    upstream app {")].replace("error_log error.log;", "error_log error.log warn;")
    servers = []
    for block, port in zip(blocks, ports, strict=True):
        first = "" if "include extauthz_server.conf;" in block else "include extauthz_server.conf;"
        servers.append(f"server {{ listen 127.0.0.1:{port};\n{first}\n{block}\n}}\n")
    return "".join([head, named, "proxy_cache_path cache keys_zone=responses:1m;\n", *servers, "}\n"])


def _write_pages(folder: Path) -> None:
    for name in ("index.html", "public.html", "api/v1/customers/index.php"):
        file = folder / name
        make_folder(file.parent)
        file.write_text("a page\n")
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
