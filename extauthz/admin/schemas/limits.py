"""Limits, as plans, organizations and keys have them."""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from extauthz.admin.fields import Burst, Quota, RateText, with_fields
from extauthz.admin.schemas.base import Strict
from extauthz.core.limit_kinds import LIMIT_COLUMNS, QUOTA_COLUMNS

QUOTA_ANSWERS = dict.fromkeys(QUOTA_COLUMNS, int | None)


# Rate and burst are a pair: both or none.
RATE_WITH_BURST: dict[str, Any] = {
    "anyOf": [
        {"required": ["rate", "burst"], "properties": {"rate": {"type": "string"}, "burst": {"type": "integer"}}},
        {"properties": {"rate": {"type": "null"}, "burst": {"type": "null"}}},
    ]
}


def without_defaults(schema: dict[str, Any]) -> None:
    """Changes name at least one thing, and what they do not name stays as it is: there are no defaults."""
    schema["minProperties"] = 1
    for described in schema["properties"].values():
        described.pop("default", None)


@with_fields(dict.fromkeys(QUOTA_COLUMNS, Quota | None), default=None)
class _LimitFields(Strict):
    rate: RateText | None = None
    burst: Burst | None = None


class LimitFields(_LimitFields):
    """Limits that may be sent."""

    def limit_record(self) -> Mapping[str, object]:
        """All limits by their names."""
        return {name: getattr(self, name) for name in LIMIT_COLUMNS}


class NewLimits(LimitFields):
    """Limits of something new: rate and burst are a pair."""

    @model_validator(mode="after")
    def _pair(self) -> "NewLimits":
        if (self.rate is None) != (self.burst is None):
            raise ValueError("rate and burst go together: both or none")
        return self


class Changes(Strict):
    """Changes of something: at least one, and what they do not name stays as it is."""

    @model_validator(mode="after")
    def _not_empty(self) -> "Changes":
        if not self.model_fields_set:
            raise ValueError("the body names nothing to change")
        return self

    def changes(self) -> dict[str, object]:
        """What was sent, and nothing else."""
        return {name: getattr(self, name) for name in self.model_fields_set}
