"""Usage: what is asked, and what is answered."""

from pydantic import Field

from extauthz.admin.fields import Day, Month, Reference, with_fields
from extauthz.admin.schemas.base import AnswerModel, Date, PageQuery
from extauthz.core.limit_kinds import QUOTAS
from extauthz.core.usage_range import By, UsageRange


class _Tally(AnswerModel):
    allowed: int = Field(description="Requests.")
    cost: int = Field(description="What they were charged, in tokens.")
    rate_limited: int = Field(description="Requests refused by a bucket.")
    over_quota: int = Field(description="Requests refused by a quota or by credits.")


class PeriodUsage(_Tally):
    """What all keys used on a day or in a month."""

    from_: Date = Field(alias="from", description="The first day.")
    to: Date = Field(description="The last day; of a month under way today, at most the last one that was asked for.")


class KeyUsage(PeriodUsage):
    """What one key used."""

    api_key_id: str
    api_key_name: str | None = Field(description="Null: the key is gone.")


@with_fields({quota.name: int | None for quota in QUOTAS})
class Remaining(AnswerModel):
    """What the quotas leave now; null: without such a quota."""


class Usage(PeriodUsage):
    """What an organization used on days of its calendar, and a page of rows.

    They are its keys in the order of their ids, or days or months, the oldest first.
    """

    organization_id: str
    day: Date | None = Field(description="The day, where it is one alone.")
    remaining: Remaining = Field(description="Of the quotas of now, whichever day was asked for.")
    complete: bool = Field(description="False while Redis is away: what it counted in the last seconds is missing.")
    by: By
    items: list[KeyUsage] | list[PeriodUsage]
    next: str | None


class UsageQuery(PageQuery):
    """Whose usage, and of which days: one day, a month, or from one day to another."""

    organization_id: Reference = Field(description="The id or the name of the organization.")
    day: Day | None = Field(None, description="A day of its calendar, which has begun; by default today.")
    month: Month | None = Field(None, description="Its month that begins in a month of the year, as 2030-01.")
    from_: Day | None = Field(None, alias="from", description="The first of several days.")
    to: Day | None = Field(None, description="The last of them; by default today.")
    by: By = Field("key", description="Whether there is a row for each day, month or key.")

    def days(self) -> UsageRange:
        """The days, which may contradict each other."""
        return UsageRange(self.day, self.month, self.from_, self.to)
