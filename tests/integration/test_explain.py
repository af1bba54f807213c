"""Why a request would be refused: by command and by API, on real stores, which stay unchanged."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from extauthz.app.admin_listener import Live, private_listener, service_metrics
from extauthz.config import load
from extauthz.core.management import KeyDetails
from extauthz.service.health import Readiness
from extauthz.service.tails import Tails
from extauthz.transports.http.health import Reports
from extauthz.transports.http.listen import bind
from tests.servers.admin_api import Caller, value
from tests.servers.management_client import ManagementClient, text
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, PEPPER_SETTING, question, serving
from tests.servers.shell import Here, Shell

ROUTES = """
[[routes]]
path = "/api/v1/{resource}/**"
[[routes]]
path = "/api/v1/reports/**"
host = "api.example.com"
methods = ["POST"]
resource = "report"
cost = 3
[[routes]]
path = "/public/**"
public = true
[[routes]]
path = "/search"
public = true
rate = "1/h"
burst = 1
"""
TOKEN = "a-token-of-operators-of-32-bytes-or-more"
HOST = "https://api.example.com"
THEIRS = "a-key-that-another-system-has-issued"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Routes and a token, by their names in the environment."""
    file = tmp_path / "extauthz.toml"
    file.write_text(ROUTES)
    return {"EXTAUTHZ_CONFIG": str(file), "EXTAUTHZ_ADMIN_TOKEN": f"ops:{TOKEN}", **PATIENT}


@pytest.fixture
def shell(tmp_path: Path, database: str, redis_url: str, settings: dict[str, str]) -> Shell:
    stores = {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": PEPPER_SETTING}
    return Here(tmp_path, stores | settings)


@pytest_asyncio.fixture
async def key(operator: ManagementClient) -> tuple[KeyDetails, str]:
    """A key of Initech that may read customers, in the plural that operators write: customers."""
    await operator.tenants.create_plan("small", {"rate": "1/h", "burst": 2, "daily_quota": 10, "monthly_quota": None})
    await operator.tenants.create_organization("initech", "small")
    return await operator.new_key("initech", name="billing job", permissions={"customers": frozenset({"read"})})


def run(shell: Shell, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """`explain` with a key on its standard input."""
    ours, theirs = os.pipe()
    os.write(theirs, key.encode())
    os.close(theirs)
    with os.fdopen(ours) as piped, patch.object(sys, "stdin", piped):
        return shell.run("explain", *arguments)


async def explained(shell: Shell, *arguments: str, key: str = "") -> Any:
    """What the command says as JSON, and nothing else; the key is not part of it."""
    done = await asyncio.to_thread(run, shell, *arguments, "--json", key=key)
    assert (done.returncode, done.stderr) == (0, "")
    assert not key or key not in done.stdout
    return json.loads(done.stdout)


def step(explanation: Any, name: str) -> Any:
    return next(each for each in explanation["steps"] if each["step"] == name)


def outcomes(explanation: Any) -> str:
    """One letter for each step: ok, refused, skipped."""
    return "".join(each["outcome"][0] for each in explanation["steps"])


async def kept(redis: Redis) -> dict[str, object]:
    """Every key of Redis that a check could write."""
    names = [text(name) for name in await redis.keys()]
    written = ("api_key_cache", "tenant_", "address_", "usage_due", "charge_once")
    return {name: await redis.dump(name) for name in sorted(names) if name.startswith(written)}


async def test_the_command_without_a_service(
    shell: Shell, redis: Redis, operator: ManagementClient, key: tuple[KeyDetails, str]
) -> None:
    """A key by its value or its id; the tier that had it; nothing is left in Redis, and the key is never shown."""
    details, secret = key
    url = f"{HOST}/api/v1/customer/{secret}?{secret}"
    told = await explained(shell, "GET", url, "--dialect", "nginx", key=secret)
    assert outcomes(told) == "oooooors"
    assert (told["decision"], told["status"], told["true_status"]) == ("permission_denied", 403, 403)
    assert (told["code"], told["charged"]) == ("read_action_not_allowed_for_customer", False)
    found = step(told, "key")
    assert (found["api_key_id"], found["name"], found["layer"]) == (details.id, "billing job", "postgresql")
    assert found["layers"] == ["redis", "postgresql"]
    assert 0 <= found["age_seconds"] < 30
    assert step(told, "organization")["name"] == "initech"
    asked = step(told, "permission")
    assert (asked["asked"], asked["held"], asked["meant"]) == ("customer:read", ["customers:read"], "customers")
    assert asked["next"] == f"extauthz keys update {details.id} --permission customer:read --permission customers:read"
    by_id = await explained(shell, "GET", url, "--key-id", details.id, "--dialect", "nginx")
    assert step(by_id, "credential")["outcome"] == "skipped"
    assert by_id["decision"] == told["decision"]
    assert await kept(redis) == {}
    assert (await operator.keys.show(details.id)).last_used_at is None
    shown = await asyncio.to_thread(run, shell, "GET", url, key=secret)
    assert secret not in shown.stdout + shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 80


async def test_limits_before_and_after_they_are_used_up(
    shell: Shell, redis: Redis, database: str, redis_url: str, settings: dict[str, str], key: tuple[KeyDetails, str]
) -> None:
    """Balances are shown before Redis has any counter, and after the last token; in a worker, from its memory."""
    _, secret = key
    path = "/api/v1/customers/7"
    fresh = await explained(shell, "GET", path, "--host", "api.example.com", key=secret)
    limits = [(each["name"], each["limit"], each["remaining"]) for each in step(fresh, "limits")["limits"]]
    assert (fresh["decision"], limits) == ("allow", [("burst", 2, 2), ("daily", 10, 10)])
    assert await kept(redis) == {}
    async with serving(database, redis_url, **settings) as service:
        caller = Caller(service.ports["admin"], TOKEN.encode())

        async def check() -> int:
            return (await ask(service.ports["envoy"], question("envoy", path, key=secret))).status

        async def told(**more: str) -> Any:
            body = {"method": "GET", "url": HOST + path, "key": secret, **more}
            answer = await caller("POST", "/v1/explain", body)
            assert answer.status == 200, answer.body
            assert secret.encode() not in answer.body
            return value(answer)

        assert (await told())["decision"] == "allow"
        assert [await check() for _ in range(3)] == [200, 200, 429]
        before = await kept(redis)
        counted = service.value("extauthz_decisions_total", dialect="nginx", decision="rate_limited")
        refused = await told(dialect="nginx")
        assert (refused["decision"], refused["status"], refused["true_status"]) == ("rate_limited", 403, 429)
        assert outcomes(refused) == "ooooooor"
        (burst, daily) = step(refused, "limits")["limits"]
        assert (burst["remaining"], burst["refused"], daily["remaining"], daily["refused"]) == (0, True, 8, False)
        assert (step(refused, "key")["layer"], step(refused, "key")["layers"][0]) == ("process", "process")
        assert await kept(redis) == before
        assert service.value("extauthz_decisions_total", dialect="nginx", decision="rate_limited") == counted
    told_outside = await explained(shell, "GET", path, "--host", "api.example.com", key=secret)
    assert told_outside["decision"] == "rate_limited"
    assert step(told_outside, "key")["layer"] == "redis"


async def test_mistakes_are_named(shell: Shell, key: tuple[KeyDetails, str]) -> None:
    """Each argument by its name; a key that stands where none belongs is not repeated; status 1 or 2."""
    _, secret = key
    nobody = "00000000-0000-4000-8000-000000000000"
    for status, words, arguments in (
        (2, "METHOD must be", ("G ET", "/x")),
        (2, "URL must be", ("GET", "ftp://x/")),
        (2, "URL must hold no user name", ("GET", f"https://ops:{secret}@api.example.com/")),
        (2, "--at", ("GET", "/x", "--at", "yesterday")),
        (2, "dialect must be one of envoy, nginx, forward", ("GET", "/x", "--dialect", "apache")),
        (2, "a key must not be an argument", ("GET", "/x", secret)),
        (2, "must be a UUID", ("GET", "/x", "--key-id", secret)),
        (1, f"no key with the id {nobody}", ("GET", "/x", "--key-id", nobody)),
    ):
        done = await asyncio.to_thread(run, shell, *arguments)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert secret[:20] not in done.stderr


async def test_stores_that_are_away(shell: Shell, key: tuple[KeyDetails, str]) -> None:
    """The answer that a check would get then is shown; only a key by its id cannot be found."""
    details, secret = key
    shell.environ |= {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    told = await explained(shell, "GET", "/api/v1/customers/7", "--host", "x.example", key=secret)
    assert (told["decision"], told["status"]) == ("authentication_unavailable", 503)
    assert "PostgreSQL is away" in step(told, "key")["why"]
    done = await asyncio.to_thread(run, shell, "GET", "/", "--key-id", details.id)
    assert (done.returncode, done.stdout) == (1, "")
    assert "PostgreSQL at" in done.stderr


async def test_a_supervisor_has_no_record_of_its_own(
    database: str, redis_url: str, settings: dict[str, str], key: tuple[KeyDetails, str]
) -> None:
    """The private listener of several workers asks the stores, and says which layers it could see."""
    details, _ = key
    stores = {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": PEPPER_SETTING}
    loaded = load(stores | settings, None)

    async def readiness() -> Readiness:
        return Readiness(ready=True, draining=False, stores={})

    async def metrics(accept: str) -> tuple[bytes, str]:
        return b"", accept

    async def watch(_: object) -> None:
        """There are no workers to notify."""

    sock = bind("127.0.0.1", 0, None)
    service = service_metrics(loaded, supervises=True)
    reports = Reports(readiness, metrics)
    async with private_listener(loaded, reports, sock, metrics=service, organizations=tuple, live=Live(Tails(watch))):
        caller = Caller(sock.getsockname()[1], TOKEN.encode())
        body = {"method": "GET", "url": f"{HOST}/api/v1/customers/7", "key_id": details.id}
        told = value(await caller("POST", "/v1/explain", body))
        assert (told["decision"], step(told, "key")["layers"]) == ("allow", ["redis", "postgresql"])
        answer = await caller("POST", "/v1/explain", body | {"key": "with-an-id-and-a-key"})
        assert (answer.status, value(answer)["code"]) == (422, "invalid_fields")


async def test_keys_of_other_tables(shell: Shell, operator: ManagementClient, tmp_path: Path) -> None:
    """With lookup_sql the key itself is explained, by command and by API; an id names none there."""
    await operator.sql("CREATE TABLE theirs (sha256 text, id text, organization text, may jsonb, until timestamptz)")
    digest = sha256(THEIRS.encode()).hexdigest()
    await operator.sql("INSERT INTO theirs VALUES (%s, 'key-7', 'initech', '{}', NULL)", digest)
    statement = (
        "SELECT id, organization AS organization_id, may AS permissions, until AS expires_at"
        " FROM theirs WHERE sha256 = %(sha256)s"
    )
    (tmp_path / "extauthz.toml").write_text(f'{ROUTES}\n[keys]\nlookup_sql = "{statement}"\n')
    told = await explained(shell, "GET", f"{HOST}/api/v1/customers/7", key=THEIRS)
    assert (told["decision"], step(told, "key")["api_key_id"]) == ("permission_denied", "key-7")
    assert step(told, "key")["layer"] == step(told, "organization")["layer"] == "postgresql"
    assert "lookup_sql" in step(told, "permission")["next"]
    done = await asyncio.to_thread(run, shell, "GET", "/", "--key-id", "00000000-0000-4000-8000-000000000000")
    assert (done.returncode, done.stdout) == (2, "")
    assert "key_id: keys come from [keys] lookup_sql" in done.stderr
    stores = shell.environ["DATABASE_URL"], shell.environ["REDIS_URL"]
    async with serving(
        *stores, **{name: shell.environ[name] for name in ("EXTAUTHZ_CONFIG", "EXTAUTHZ_ADMIN_TOKEN")}
    ) as s:
        caller = Caller(s.ports["admin"], TOKEN.encode())
        body = {"method": "GET", "url": f"{HOST}/api/v1/customers/7", "key": THEIRS}
        assert value(await caller("POST", "/v1/explain", body))["decision"] == "permission_denied"


async def test_the_howto(shell: Shell, operator: ManagementClient) -> None:
    """What docs/howto/why-was-it-refused.md shows is what is printed, but for ids and ages."""
    page = (Path(__file__).parents[2] / "docs/howto/why-was-it-refused.md").read_text()
    command, _, rest = page.partition("$ extauthz explain ")[2].partition("\n")
    shown = rest.partition("```")[0].rstrip()
    details, _ = await operator.new_key("initech", name="batch", permissions={"invoice": frozenset({"read", "write"})})
    (Path(shell.folder) / "extauthz.toml").write_text('[[routes]]\npath = "/api/v1/{resource}/**"\n')
    arguments = [details.id if UUID.fullmatch(word) else word for word in shlex.split(command)]
    done = await asyncio.to_thread(run, shell, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert settled(done.stdout.rstrip()) == settled(shown)


def settled(text: str) -> str:
    """A text with the same ids and ages in every run."""
    return re.sub(r"[0-9.]+ s old", "0 s old", UUID.sub("ID", text))
