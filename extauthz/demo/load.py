"""The load profile of `compose/`: requests of every kind at a steady rate, `python -m extauthz.demo.load ADDRESS…`.

Its customers are made at the start, with new keys. It goes on until SIGTERM or Ctrl-C, and writes every minute to
standard output what became of its requests.
"""

import argparse
import asyncio
import os
import random
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from aiohttp import ClientError, ClientSession, ClientTimeout

from extauthz.app import management
from extauthz.config import Settings, load
from extauthz.core.credentials import SECRET_BYTES
from extauthz.core.errors import Conflict
from extauthz.core.management import KeyTerms
from extauthz.core.permissions import FULL_ACCESS, Permissions

PLANS: Mapping[str, Mapping[str, object]] = {
    "load large": {"rate": "1000/s", "burst": 1000, "daily_quota": None, "monthly_quota": None},
    "load small": {"rate": "20/min", "burst": 5, "daily_quota": None, "monthly_quota": None},
    "load trial": {"rate": "100/s", "burst": 100, "daily_quota": 20, "monthly_quota": None},
}
READ_CUSTOMERS: Permissions = {"customer": frozenset({"read"})}
KEY_NAME = "load"
ACTOR = "cli:load"
UNDER_WAY_MAX = 100  # requests; what comes on top is left out, so that a proxy that hangs costs no memory
REPORT_INTERVAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request, and its share of the traffic."""

    share: int
    key: str
    path: str = "/api/v1/customers/42"
    method: str = "GET"


async def kinds(settings: Settings) -> Sequence[Kind]:
    """Requests that are allowed, and some that are refused for each reason that a client sees every day."""
    async with management.management(settings, actor=ACTOR) as operator:

        async def customer(name: str, plan: str) -> str:
            with suppress(Conflict):
                await operator.tenants.create_plan(plan, PLANS[plan])
            with suppress(Conflict):
                await operator.tenants.create_organization(name, plan)
            for old in await operator.keys.list_of(name):
                if old.name == KEY_NAME and old.revoked_at is None:
                    await operator.keys.revoke(old.id, last=True)
            return name

        async def key(owner: str, permissions: Permissions = FULL_ACCESS) -> str:
            return (await operator.keys.create(owner, KeyTerms(name=KEY_NAME, permissions=permissions)))[1]

        large = await customer("Load Large", "load large")
        small = await customer("Load Small", "load small")
        trial = await customer("Load Trial", "load trial")
        revoked, revoked_key = await operator.keys.create(large, KeyTerms(name=KEY_NAME))
        reader = await key(large, READ_CUSTOMERS)
        await operator.keys.revoke(revoked.id, last=True)
        return [
            Kind(60, await key(large)),
            Kind(10, "", "/public/prices"),
            Kind(8, await key(small)),
            Kind(8, await key(trial)),
            Kind(5, reader, "/api/v1/invoices", "POST"),
            Kind(3, ""),
            Kind(3, revoked_key),
            Kind(3, management.key_format(settings).issue(secrets.token_bytes(SECRET_BYTES))),
        ]


async def send(client: ClientSession, address: str, kind: Kind) -> str:
    """What became of one request: its decision, or the status where nothing was decided."""
    headers = {"Authorization": f"Bearer {kind.key}"} if kind.key else {}
    try:
        async with client.request(kind.method, f"http://{address}{kind.path}", headers=headers) as answer:
            await answer.read()
            return answer.headers.get("x-extauthz-decision", str(answer.status))
    except (ClientError, TimeoutError) as error:
        return type(error).__name__


async def keep_sending(addresses: Sequence[str], mix: Sequence[Kind], *, rate: float, seen: Counter[str]) -> None:
    """Sends `rate` requests a second, to each address in turn, until cancelled; `seen` counts their outcomes."""
    under_way: set[asyncio.Task[str]] = set()

    def ended(task: asyncio.Task[str]) -> None:
        under_way.discard(task)
        if not task.cancelled():
            seen[task.result()] += 1

    loop = asyncio.get_running_loop()
    async with ClientSession(timeout=ClientTimeout(total=10)) as client:
        began, shares = loop.time(), [kind.share for kind in mix]
        try:
            for number in count():
                await asyncio.sleep(began + number / rate - loop.time())
                if len(under_way) >= UNDER_WAY_MAX:
                    seen["left out"] += 1
                    continue
                (kind,) = random.choices(mix, shares)  # noqa: S311 - no secret
                task = asyncio.create_task(send(client, addresses[number % len(addresses)], kind))
                under_way.add(task)
                task.add_done_callback(ended)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


async def _keep_saying(seen: Counter[str]) -> None:
    while True:
        await asyncio.sleep(REPORT_INTERVAL_SECONDS)
        sys.stdout.write(", ".join(f"{what} {times}" for what, times in seen.most_common()) + "\n")
        sys.stdout.flush()
        seen.clear()


async def _run(addresses: Sequence[str], rate: float) -> None:
    seen: Counter[str] = Counter()
    ending = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    mix = await kinds(load(os.environ, None, serves=False))
    works = [
        asyncio.create_task(keep_sending(addresses, mix, rate=rate, seen=seen)),
        asyncio.create_task(_keep_saying(seen)),
        asyncio.create_task(ending.wait()),
    ]
    done, others = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    for work in others:
        work.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for work in done:
        work.result()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m extauthz.demo.load", description=__doc__)
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="HOST:PORT of a proxy")
    parser.add_argument("--rate", type=float, default=20.0, metavar="N", help="requests a second (20)")
    given = parser.parse_args()
    if given.rate <= 0:
        parser.error(f"--rate must be above 0 (got {given.rate:g})")
    asyncio.run(_run(given.addresses, given.rate))


if __name__ == "__main__":
    main()
