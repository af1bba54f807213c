"""Names of limits in headers, and their counted use, for tests."""

from extauthz.core.limit_kinds import BUCKET, CREDITS, DAILY_QUOTA, HOURLY_QUOTA, MONTHLY_QUOTA
from extauthz.core.spend import Spent

BURST, KEY_BURST = BUCKET.names
DAILY, KEY_DAILY = DAILY_QUOTA.names
MONTHLY, KEY_MONTHLY = MONTHLY_QUOTA.names
HOURLY, KEY_HOURLY = HOURLY_QUOTA.names
OWN_CREDITS, KEY_CREDITS = CREDITS.names


def used_of(spent: Spent) -> tuple[int, int, int, int]:
    """The use in the day and in the month, of the owner and of the key."""
    return spent.used[DAILY], spent.used[MONTHLY], spent.used[KEY_DAILY], spent.used[KEY_MONTHLY]
