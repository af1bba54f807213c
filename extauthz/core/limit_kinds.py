"""The kinds of limits, one descriptor each: what is kept, shown, asked and told of limits loops over them.

A new kind is a descriptor here with the token of its decision in core/reason.py, a migration that adds its column, and
the scripts that count it (backends/redis/scripts/, with their reference in core/token_bucket.py).
"""

from dataclasses import dataclass, field

from extauthz.core.reason import Reason

OWNER, KEY = 0, 1  # places in a pair: of an organization's limit, and of a key's own
DAYS, MONTHS, HOURS = 0, 1, 2  # places in core.calendar.CalendarWindows


@dataclass(frozen=True, slots=True)
class LimitKind:
    """A kind of limit, of an organization and of a key.

    `name` stands in headers, `options` on the command line, `columns` in PostgreSQL, JSON and external tables. `reason`
    is the decision where it refuses. Pairs are of an organization's limit and of a key's own: `bits` stand for it in
    `refused` of a Row (core/spend.py), `places` say where a Row has the level of a bucket, or the count of a quota.
    """

    name: str
    columns: tuple[str, ...]
    options: str
    reason: Reason
    bits: tuple[int, int]
    places: tuple[int, int]
    names: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", (self.name, f"key-{self.name}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaKind(LimitKind):
    """A count of tokens that begins again with every window.

    `windows` says which of an organization's windows, `window_place` where a Row has the number of the one that holds.
    `per` and `now` are words for one of them, and for the one under way. `always` counted: also without a quota, and in
    every Row; others only of what has such a quota, at the end of a longer Row.
    """

    windows: int
    window_place: int
    per: str
    now: str
    always: bool = True

    @property
    def column(self) -> str:
        """The one column."""
        return self.columns[0]

    @property
    def label(self) -> str:
        """The words for it in tables."""
        return self.column.replace("_", " ")


BUCKET = LimitKind(
    name="burst",
    columns=("rate", "burst"),
    options="--rate R --burst B",
    reason=Reason.RATE_LIMITED,
    bits=(0, 3),
    places=(4, 8),
)
DAILY_QUOTA = QuotaKind(
    name="daily",
    columns=("daily_quota",),
    options="--daily-quota N",
    reason=Reason.DAILY_QUOTA_EXCEEDED,
    bits=(1, 4),
    places=(6, 10),
    windows=DAYS,
    window_place=2,
    per="a day",
    now="today",
)
MONTHLY_QUOTA = QuotaKind(
    name="monthly",
    columns=("monthly_quota",),
    options="--monthly-quota N",
    reason=Reason.MONTHLY_QUOTA_EXCEEDED,
    bits=(2, 5),
    places=(7, 11),
    windows=MONTHS,
    window_place=3,
    per="a month",
    now="this month",
)

HOURLY_QUOTA = QuotaKind(
    name="hourly",
    columns=("hourly_quota",),
    options="--hourly-quota N",
    reason=Reason.HOURLY_QUOTA_EXCEEDED,
    bits=(6, 7),
    places=(13, 14),
    windows=HOURS,
    window_place=12,
    per="an hour",
    now="this hour",
    always=False,
)

# A count of tokens that does not renew: it has no window, and no wait makes room in it. It is granted by commands of
# its own, so that it is not a column of plans, nor of what is changed together with other limits.
CREDITS = LimitKind(
    name="credits",
    columns=("credits",),
    options="add N",
    reason=Reason.CREDITS_EXHAUSTED,
    bits=(8, 9),
    places=(15, 16),
)

# The order of everything that lists limits: headers, records, columns, options, what is sent to a store.
QUOTAS = (DAILY_QUOTA, MONTHLY_QUOTA, HOURLY_QUOTA)
KINDS: tuple[LimitKind, ...] = (BUCKET, *QUOTAS, CREDITS)

LIMIT_COLUMNS = tuple(column for kind in (BUCKET, *QUOTAS) for column in kind.columns)
QUOTA_COLUMNS = tuple(quota.column for quota in QUOTAS)
REASONS = tuple(dict.fromkeys(kind.reason for kind in KINDS))
ALWAYS = tuple(quota.always for quota in QUOTAS)
QUOTA_REASONS = frozenset(kind.reason for kind in (*QUOTAS, CREDITS))
REFUSED_BY = {name: kind.reason for kind in KINDS for name in kind.names}
BITS = {name: bit for kind in KINDS for name, bit in zip(kind.names, kind.bits, strict=True)}
NAMES = tuple(sorted(BITS, key=BITS.__getitem__))  # of limits in the order of their bits
