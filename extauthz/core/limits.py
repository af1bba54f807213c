"""What an organization may spend: a token bucket (rate and burst) and quotas."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from extauthz.core.limit_kinds import ALWAYS, CREDITS, QUOTA_COLUMNS, QUOTAS
from extauthz.core.masking import shown

BURST_MAX = 1_000_000_000
QUOTA_MAX = 1_000_000_000_000
RATE_PER_SECOND_MAX = 1_000_000_000

PERIODS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
# With so many decimals a rate is a whole count in at most 864,000 seconds, which keeps its arithmetic below 2^53.
DECIMALS = {"s": 3, "min": 2, "h": 2, "d": 1}
_FURTHER = tuple(quota.column for quota in QUOTAS if not quota.always)
_RATE = re.compile(r"(\d{1,14})(?:\.(\d{1,9}))?(?:/(s|min|h|d))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """`tokens` in `seconds`, both whole: one a day is exactly that."""

    tokens: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """`0.5`, `100/min`, `1/d` as a rate (per second where no period is named); ValueError says what is wrong."""
        return _parse_rate(text)

    def __str__(self) -> str:
        for unit, period in PERIODS.items():
            scaled = Fraction(self.tokens * period * 10 ** DECIMALS[unit], self.seconds)
            if self.seconds == period or (self.seconds not in PERIODS.values() and scaled.denominator == 1):
                whole, decimals = divmod(int(scaled), 10 ** DECIMALS[unit])
                return f"{whole}.{decimals:0{DECIMALS[unit]}d}".rstrip("0").rstrip(".") + f"/{unit}"
        raise ValueError(f"{self.tokens} in {self.seconds} seconds cannot be written as a rate")


@lru_cache(maxsize=1024)  # plans are few, checks are many
def _parse_rate(text: str) -> Rate:
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"rate must be a number with an optional /s, /min, /h or /d, as 0.5 or 100/min (got {shown(text)!r})"
        )
    whole, decimals, period = match[1], (match[2] or "").rstrip("0"), match[3] or "s"
    if len(decimals) > DECIMALS[period]:
        raise ValueError(f"rate must have at most {DECIMALS[period]} decimals per {period} (got {text!r})")
    exact = Fraction(int(whole + decimals), 10 ** len(decimals)) / PERIODS[period]
    if exact == 0:
        raise ValueError("rate is 0: a rate is above 0")
    if exact > RATE_PER_SECOND_MAX:
        raise ValueError(f"rate {text!r} is above {RATE_PER_SECOND_MAX} a second")
    seconds = exact.denominator if decimals else PERIODS[period]
    return Rate(int(exact * seconds), seconds)


@dataclass(frozen=True, slots=True, init=False)
class Limits:
    """What an organization may spend. None: without that limit; a quota of 0 allows nothing. Rate and burst are a pair.

    `quotas` has one for each of limit_kinds.QUOTAS. `credits` are granted in total, and do not renew.
    """

    rate: Rate | None
    burst: int | None
    quotas: tuple[int | None, ...]
    credits: int | None

    def __init__(
        self, rate: Rate | None = None, burst: int | None = None, *quotas: int | None, **by_column: int | None
    ) -> None:
        """`quotas` in their order, or these and credits by their columns; what is not given is unlimited."""
        object.__setattr__(self, "credits", by_column.pop(CREDITS.name, None))
        given = dict(zip(QUOTA_COLUMNS, quotas)) | by_column  # noqa: B905 - the last ones may be left out
        if len(quotas) > len(QUOTA_COLUMNS) or not given.keys() <= set(QUOTA_COLUMNS):
            raise TypeError(f"quotas must be of {', '.join(QUOTA_COLUMNS)} (got {', '.join(given)})")
        object.__setattr__(self, "rate", rate)
        object.__setattr__(self, "burst", burst)
        object.__setattr__(self, "quotas", tuple(given.get(column) for column in QUOTA_COLUMNS))

    def below(self, cost: int) -> dict[str, int]:
        """The limits that a request of `cost` could never fit, however long it waits, by their names in a record.

        Credits are none of them: a request that does not fit what is left of them may after the next grant.
        """
        sizes = zip(("burst", *QUOTA_COLUMNS), (self.burst, *self.quotas), strict=True)
        return {name: size for name, size in sizes if size is not None and size < cost}

    @property
    def further(self) -> tuple[int | None, ...]:
        """Those quotas that are counted only where there is one."""
        return tuple(size for size, always in zip(self.quotas, ALWAYS, strict=True) if not always)

    def has(self, windows: int) -> bool:
        """Whether there is a quota of such windows (see core/limit_kinds.py)."""
        return any(
            size is not None and quota.windows == windows for quota, size in zip(QUOTAS, self.quotas, strict=True)
        )

    def to_record(self) -> dict[str, object]:
        """The fields of a JSON record that management shows: without credits, which have one of their own."""
        return {
            "rate": None if self.rate is None else str(self.rate),
            "burst": self.burst,
            **dict(zip(QUOTA_COLUMNS, self.quotas, strict=True)),
        }

    def to_cache(self) -> dict[str, object]:
        """The same as caches keep it, with credits: what only some have takes no place where it does not exist."""
        record = {name: value for name, value in self.to_record().items() if value is not None or name not in _FURTHER}
        return record if self.credits is None else record | {CREDITS.name: self.credits}

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "Limits":
        """The limits of a record from a store; ValueError says what is wrong in it, never the value."""
        rate = record.get("rate", False)
        if rate is not None and not isinstance(rate, str):
            raise ValueError("rate must be a text")
        burst = _whole(record, "burst", 1, BURST_MAX)
        if (rate is None) != (burst is None):
            raise ValueError("rate and burst go together: both or none")
        try:
            parsed = None if rate is None else Rate.parse(rate)
        except ValueError:
            raise ValueError("rate must be one that can be stored") from None
        given = dict.fromkeys((*_FURTHER, CREDITS.name)) | dict(record)  # workers of releases without them share caches
        counts = {column: _whole(given, column, 0, QUOTA_MAX) for column in (*QUOTA_COLUMNS, CREDITS.name)}
        return _shared(cls(parsed, burst, **counts))


UNLIMITED = Limits()


@lru_cache(maxsize=4096)
def _shared(limits: Limits) -> Limits:
    """The one object of equal limits: plans are few, and what is made of them is looked up at every check."""
    return UNLIMITED if limits == UNLIMITED else limits


def _whole(record: Mapping[str, object], name: str, low: int, high: int) -> int | None:
    value = record.get(name, False)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value
