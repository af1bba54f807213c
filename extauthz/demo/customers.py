"""The customers of `make monitor`: organizations that are well, near their end, over it, too fast, and suspended."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from extauthz.app import management
from extauthz.config import Settings
from extauthz.core.credentials import SECRET_BYTES
from extauthz.core.management import KeyTerms
from extauthz.core.permissions import FULL_ACCESS, Permissions
from extauthz.core.tenants import SUSPENDED
from extauthz.demo.management_client import ACTOR, READ_CUSTOMERS

NEARLY_USED = 25  # a day, of which the traffic leaves a few
PLANS: Mapping[str, Mapping[str, object]] = {
    "business": {"rate": "100/s", "burst": 200, "daily_quota": 5_000_000, "monthly_quota": None},
    "starter": {"rate": "10/s", "burst": 20, "daily_quota": NEARLY_USED, "monthly_quota": None},
    "trial": {"rate": "10/s", "burst": 20, "daily_quota": 5, "monthly_quota": None},
    "by the month": {"rate": "10/s", "burst": 20, "daily_quota": None, "monthly_quota": 5},
    "slow": {"rate": "30/min", "burst": 5, "daily_quota": 1_000_000, "monthly_quota": None},
}
# The end of one key is near enough for the alert of keys that end soon.
SOON, AT_ONCE = timedelta(days=3), timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Customers:
    """Whole keys, for this run only, each named after what becomes of its requests."""

    allowed: str
    also_allowed: str
    reads_only: str
    near_its_quota: str
    over_its_day: str
    over_its_month: str
    too_fast: str
    suspended: str
    revoked: str
    expired: str
    unknown: str


async def furnish(settings: Settings) -> Customers:
    """Makes plans, organizations and keys, through the same service as any command."""
    async with management.management(settings, actor=ACTOR) as operator:
        for name, limits in PLANS.items():
            await operator.tenants.create_plan(name, limits)

        async def organization(name: str, plan: str) -> str:
            return (await operator.tenants.create_organization(name, plan)).id

        async def key(
            owner: str, name: str, permissions: Permissions = FULL_ACCESS, lasts: timedelta | None = None
        ) -> str:
            terms = KeyTerms(
                name=name, permissions=permissions, expires_at=datetime.now(UTC) + lasts if lasts else None
            )
            return (await operator.keys.create(owner, terms))[1]

        acme, hooli = await organization("Acme", "business"), await organization("Hooli", "business")
        soylent = await organization("Soylent", "business")
        revoked, revoked_key = await operator.keys.create(acme, KeyTerms(name="revoked"))
        customers = Customers(
            allowed=await key(acme, "everything"),
            also_allowed=await key(hooli, "ends soon", lasts=SOON),
            reads_only=await key(acme, "reads customers", READ_CUSTOMERS),
            near_its_quota=await key(await organization("Globex", "starter"), "everything"),
            over_its_day=await key(await organization("Initech", "trial"), "everything"),
            over_its_month=await key(await organization("Umbrella", "by the month"), "everything"),
            too_fast=await key(await organization("Stark", "slow"), "everything"),
            suspended=await key(soylent, "everything"),
            revoked=revoked_key,
            expired=await key(acme, "short-lived", lasts=AT_ONCE),
            unknown=management.key_format(settings).issue(secrets.token_bytes(SECRET_BYTES)),
        )
        await operator.keys.revoke(revoked.id, last=False)
        await operator.tenants.update_organization(soylent, {"status": SUSPENDED})
        return customers
