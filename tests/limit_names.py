"""The names of limits in headers, and what is counted of them, for tests."""

from extauthz.core.limit_kinds import BUCKET, DAILY_QUOTA, HOURLY_QUOTA, MONTHLY_QUOTA
from extauthz.core.spend import Spent

BURST, KEY_BURST = BUCKET.names
DAILY, KEY_DAILY = DAILY_QUOTA.names
MONTHLY, KEY_MONTHLY = MONTHLY_QUOTA.names
HOURLY, KEY_HOURLY = HOURLY_QUOTA.names


def used_of(spent: Spent) -> tuple[int, int, int, int]:
    """What is counted on the day and in the month, of the owner and of the key."""
    return spent.used[DAILY], spent.used[MONTHLY], spent.used[KEY_DAILY], spent.used[KEY_MONTHLY]
