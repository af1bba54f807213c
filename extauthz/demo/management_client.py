"""What the demo's customers have: two organizations on different plans, and a key for every story of the tour."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from extauthz.app import management
from extauthz.config import Settings
from extauthz.core.credentials import SECRET_BYTES
from extauthz.core.management import KeyTerms
from extauthz.core.permissions import FULL_ACCESS, Permissions

PLANS: Mapping[str, Mapping[str, object]] = {
    "team": {"rate": "1/s", "burst": 10, "daily_quota": 10_000, "monthly_quota": None},
    "trial": {"rate": "1/min", "burst": 100, "daily_quota": 5, "monthly_quota": None},
}
READ_CUSTOMERS: Permissions = {"customer": frozenset({"read"})}
ACTOR = "cli:demo"
EXPIRES_AFTER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the tour: whole ones, for this run only."""

    team: str
    reader: str
    expired: str
    revoked: str
    unknown: str
    trial: str
    team_id: str
    trial_id: str
    expired_at: datetime


async def furnish(settings: Settings) -> Keys:
    """Makes plans, organizations and keys, through the same service as any command."""
    async with management.management(settings, actor=ACTOR) as operator:
        for name, limits in PLANS.items():
            await operator.tenants.create_plan(name, limits)
        acme = await operator.tenants.create_organization("Acme", "team")
        initech = await operator.tenants.create_organization("Initech", "trial")

        async def key(owner: str, name: str, permissions: Permissions, expires_at: datetime | None = None) -> str:
            terms = KeyTerms(name=name, permissions=permissions, expires_at=expires_at)
            return (await operator.keys.create(owner, terms))[1]

        revoked, revoked_key = await operator.keys.create(acme.id, KeyTerms(name="revoked"))
        expired_at = datetime.now(UTC) + EXPIRES_AFTER
        keys = Keys(
            team=await key(acme.id, "everything", FULL_ACCESS),
            reader=await key(acme.id, "reads customers", READ_CUSTOMERS),
            expired=await key(acme.id, "short-lived", FULL_ACCESS, expired_at),
            revoked=revoked_key,
            unknown=management.key_format(settings).issue(secrets.token_bytes(SECRET_BYTES)),
            trial=await key(initech.id, "everything", FULL_ACCESS),
            team_id=acme.id,
            trial_id=initech.id,
            expired_at=expired_at,
        )
        await operator.keys.revoke(revoked.id, last=False)
        return keys
