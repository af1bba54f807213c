"""The whole product on loopback: PostgreSQL, Redis, extauthz, a sample upstream, and Envoy and nginx in front of it."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from extauthz.backends.postgres import migrate
from extauthz.config import Settings, load
from extauthz.demo.folders import secret
from extauthz.demo.ports import LOOPBACK, ask, free_port
from extauthz.demo.postgres import Postgres
from extauthz.demo.process import NEUTRAL_ENVIRONMENT, Process
from extauthz.demo.proxies import Envoy, Nginx, fill, nginx_files, proxy_files
from extauthz.demo.redis import Redis

P = TypeVar("P", bound=Process)

ROUTES = Path(__file__).with_name("routes.toml")
CACHE = "PYTHONPYCACHEPREFIX"  # where compiled modules are kept, out of the way of the sources

# The ports that stand in the shipped files.
ENVOY, ENVOY_ADMIN, NGINX, UPSTREAM = 10000, 9901, 8080, 8000
ADMIN, ENVOY_DOOR, NGINX_DOOR, FORWARD_DOOR, USAGE = 9000, 9001, 9002, 9003, 9004


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy of the stack, by name and port."""

    name: str
    port: int

    @property
    def address(self) -> str:
        """As a person types it."""
        return f"{LOOPBACK}:{self.port}"


class Stack(AbstractContextManager["Stack"]):
    """Everything started in order, ended in the opposite one; all files are below `folder`.

    `usual_ports`: take the ports of the shipped files where they are free. `environ` is added to the service's
    settings; `told` is called with what is being started.
    """

    def __init__(
        self,
        folder: Path,
        *,
        usual_ports: bool = True,
        environ: Mapping[str, str] | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder
        self._usual_ports = usual_ports
        self._extra = dict(environ or {})
        self._told = told
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def _start(self) -> None:
        self.postgres = self._run("PostgreSQL", Postgres(self.folder / "postgres"))
        self.redis = self._run("Redis (Valkey)", Redis(self.folder / "redis"))
        names = (ENVOY, ENVOY_ADMIN, NGINX, UPSTREAM, ADMIN, ENVOY_DOOR, NGINX_DOOR, FORWARD_DOOR, USAGE)
        ports = self.ports = {name: free_port(name if self._usual_ports else None) for name in names}
        self.environ = {
            "DATABASE_URL": self.postgres.dsn,
            "REDIS_URL": self.redis.redis_url,
            "EXTAUTHZ_KEY_PEPPER": f"demo:{secret(self.folder / 'pepper')}",
            "EXTAUTHZ_ADMIN_TOKEN": f"demo:{secret(self.folder / 'admin-token')}",
            "EXTAUTHZ_CONFIG": str(ROUTES),
            "EXTAUTHZ_ADMIN_LISTEN": f"{LOOPBACK}:{ports[ADMIN]}",
            "EXTAUTHZ_ENVOY_LISTEN": f"{LOOPBACK}:{ports[ENVOY_DOOR]}",
            "EXTAUTHZ_NGINX_LISTEN": f"{LOOPBACK}:{ports[NGINX_DOOR]}",
            "EXTAUTHZ_FORWARD_LISTEN": f"{LOOPBACK}:{ports[FORWARD_DOOR]}",
            "EXTAUTHZ_USAGE_LISTEN": f"{LOOPBACK}:{ports[USAGE]}",
            "EXTAUTHZ_DRAIN_SECONDS": "0",  # Ctrl-C is quick
            **self._extra,
        }
        self.settings: Settings = load(self.environ, None)
        self._told("making the schema")
        asyncio.run(migrate.upgrade(self.postgres.dsn))
        self.extauthz = self._python("extauthz", "-m", "extauthz", "serve")
        self._run("extauthz", self.extauthz, self._is_ready)
        self.upstream = self._python("upstream", "-m", "extauthz.demo.upstream", str(ports[UPSTREAM]))
        self._run("the sample upstream", self.upstream, lambda: self.upstream.listens_on(ports[UPSTREAM]))
        self._start_proxies()

    def _start_proxies(self) -> None:
        ports, files = self.ports, proxy_files()
        envoy = fill(
            self.adapted((files / "envoy/http.yaml").read_text("utf-8")),
            {name: ports[name] for name in (ENVOY, ENVOY_ADMIN, UPSTREAM, ADMIN, ENVOY_DOOR, USAGE)},
        )
        nginx = nginx_files({name: ports[name] for name in (NGINX, UPSTREAM, NGINX_DOOR, USAGE)})
        self._run("Envoy", Envoy(self.folder / "envoy", envoy, port=ports[ENVOY]))
        nginx = {name: self.adapted(text) for name, text in nginx.items()}
        self._run("nginx", Nginx(self.folder / "nginx", nginx, port=ports[NGINX]))

    def adapted(self, text: str) -> str:
        """A shipped file of a proxy as this stack uses it, but for its ports."""
        return text

    @property
    def proxies(self) -> tuple[Proxy, Proxy]:
        """Envoy and nginx."""
        return Proxy("envoy", self.ports[ENVOY]), Proxy("nginx", self.ports[NGINX])

    def _is_ready(self) -> bool:
        answer = ask(self.ports[ADMIN], b"GET /readyz HTTP/1.1\r\nHost: demo\r\n\r\n", enough=16)
        return b" 200 " in answer and self.extauthz.listens_on(self.ports[ADMIN])

    def _python(self, name: str, *arguments: str) -> Process:
        kept = {CACHE: os.environ[CACHE]} if CACHE in os.environ else {"PYTHONDONTWRITEBYTECODE": "1"}
        environ = NEUTRAL_ENVIRONMENT | kept | self.environ
        return Process([sys.executable, "-P", *arguments], self.folder / name / f"{name}.log", env=environ)

    def _run(self, name: str, process: P, ready: Callable[[], bool] | None = None) -> P:
        self._told(f"starting {name}")
        self._exits.callback(process.stop)  # first, so that no Ctrl-C comes between
        process.start()
        if ready is not None:
            process.wait_ready(ready)
        return process
