"""The whole product for tests: the stack of the demo with customers of the tests, and the tools of its operators."""

import asyncio
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from extauthz.app import management
from extauthz.core.credentials import BASE62, SECRET_LENGTH, check_characters
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.management import KeyTerms
from extauthz.core.permissions import FULL_ACCESS, Permissions
from extauthz.demo.ports import LOOPBACK
from extauthz.demo.stack import ADMIN, UPSTREAM, Proxy, Stack
from tests.e2e.client import Answer, ask
from tests.servers.edges import patient

T = TypeVar("T")

ROUTES = Path(__file__).with_name("routes.toml")
# Longer than in production, so that a busy machine is not taken for an outage.
PATIENT = {"EXTAUTHZ_DEADLINE_MS": "900", "EXTAUTHZ_REDIS_TIMEOUT_MS": "400", "EXTAUTHZ_DATABASE_TIMEOUT_MS": "750"}
WHOLE_KEY = re.compile(rb"xa_(?:live|test)_[0-9A-Za-z]{8}")  # more of one than any list or log may show
PATIENCE = 30.0  # seconds in which what happens by itself must have happened


@dataclass(frozen=True, slots=True)
class Customer:
    """An organization on a plan of its own, with a key."""

    organization: str
    plan: str
    key_id: str
    key: str


class PatientStack(Stack):
    """A stack whose proxies wait longer."""

    def adapted(self, text: str) -> str:
        return patient(text)


class Site:
    """A stack, and its operators' ways into it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._numbers = count(1)

    def customer(
        self, *, permissions: Permissions = FULL_ACCESS, own: Limits = UNLIMITED, **limits: object
    ) -> Customer:
        """A new one, without other limits than `rate`, `burst`, `daily_quota`, `monthly_quota` as given.

        `own` are those of its key.
        """
        number = next(self._numbers)
        plan = f"plan-{number}"
        unlimited = dict.fromkeys(("rate", "burst", "daily_quota", "monthly_quota"))

        async def make(operator: management.Management) -> Customer:
            await operator.tenants.create_plan(plan, unlimited | limits)
            owner = await operator.tenants.create_organization(f"customer {number}", plan)
            details, key = await operator.keys.create(owner.id, KeyTerms(permissions=permissions, limits=own))
            return Customer(owner.id, plan, details.id, key)

        return self.manage(make)

    def manage(self, work: Callable[[management.Management], Awaitable[T]]) -> T:
        """Runs a command of the CLI."""

        async def run() -> T:
            async with management.management(self.stack.settings, actor="test:operator") as operator:
                return await work(operator)

        return asyncio.run(run())

    def sql(self, statement: str, *arguments: object) -> None:
        """Runs a statement as any other program could."""
        with psycopg.connect(self.stack.postgres.dsn, autocommit=True) as connection:
            connection.execute(statement.encode(), arguments)

    def private(self, path: str) -> Answer:
        """The answer of the private listener."""
        return ask(Proxy("admin", self.stack.ports[ADMIN]), path)

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, by its name and the values of its labels: `name`, `name/value/value`."""
        families = text_string_to_metric_families(self.private("/metrics").body.decode())
        return {
            "/".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
            for family in families
            for sample in family.samples
        }

    def decisions(self) -> int:
        """How many checks were answered so far."""
        counts = self.metrics().items()
        return round(sum(value for name, value in counts if name.startswith("extauthz_decisions_total/")))

    def log(self) -> list[dict[str, Any]]:
        """Every line of extauthz's log since its last start."""
        return [json.loads(line) for line in self.stack.extauthz.log.read_text().splitlines()]

    def is_ready(self, **stores: str) -> bool:
        """Whether extauthz answers that it is ready, and says of the stores what is asked."""
        try:
            answer = self.private("/readyz")
        except OSError:
            return False
        return answer.status == 200 and stores.items() <= answer.json.items()

    def restart(self, **settings: str) -> None:
        """Ends extauthz as a power cut would, and starts it with `settings` beside its others."""
        self.check_secrets()  # a start empties the log
        process = self.stack.extauthz
        process.kill()
        process.env = {**process.env, **settings}
        process.start()
        process.wait_ready(self.is_ready)

    @contextmanager
    def configured(self, **settings: str) -> Iterator[None]:
        """Other settings for a while."""
        before = self.stack.extauthz.env
        self.restart(**settings)
        try:
            yield
        finally:
            self.stack.extauthz.env = before
            self.restart()

    @contextmanager
    def without_upstream(self) -> Iterator[socket.socket]:
        """A socket that listens in place of the upstream, to show whether a proxy connects to it."""
        port = self.stack.ports[UPSTREAM]
        self.stack.upstream.stop()
        try:
            with closing(socket.create_server((LOOPBACK, port))) as door:
                door.setblocking(False)
                yield door
        finally:
            self.stack.upstream.start()
            self.stack.upstream.wait_ready(lambda: self.stack.upstream.listens_on(port))

    def check_secrets(self) -> None:
        """Fails where any file of the stack, logs and PostgreSQL's own among them, or `/metrics` holds a key."""
        for file in self.stack.folder.rglob("*"):
            if file.is_file():
                assert not WHOLE_KEY.search(file.read_bytes()), f"a key stands in {file}"
        if self.stack.extauthz.alive:
            assert not WHOLE_KEY.search(self.private("/metrics").body)


def issue(env: str = "live") -> str:
    """A key with correct check characters that was never issued."""
    stem = f"xa_{env}_" + "".join(secrets.choice(BASE62) for _ in range(SECRET_LENGTH))
    return stem + check_characters(stem)


def healthy(site: Site) -> bool:
    """Whether extauthz has found both stores again."""
    return site.is_ready(redis="ok", postgresql="ok")
