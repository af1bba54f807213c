"""Decisions as they are made: what is asked, and what is streamed."""

from typing import Literal

from pydantic import ConfigDict, Field

from extauthz.admin.fields import KeyId, Reference
from extauthz.admin.schemas.base import AnswerModel, Strict, Time
from extauthz.core.tail import TAIL_DECISIONS


class Decision(AnswerModel):
    """One check, as in the decision log; or `dropped` alone: so many decisions are missing before the next line."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "required": [],
            "anyOf": [{"required": ["time", "decision"]}, {"required": ["dropped"]}],
        },
    )

    time: Time
    decision: str
    reason: str = Field(description="More than the decision where there is more, as `revoked`.")
    status: int
    dialect: str
    method: str
    path: str = Field(description="Without its query.")
    host: str
    route: str | None
    organization_id: str | None
    api_key_id: str | None
    subject: str | None
    cost: int
    request_id: str
    trace_id: str | None
    duration_us: int
    degraded: bool
    worker: int
    dropped: int = Field(0, description="0 says that the stream lives.")


class TailQuery(Strict):
    """Which decisions: of an organization, of a key, of one kind."""

    organization_id: Reference | None = Field(None, description="The id or the name of an organization.")
    api_key_id: KeyId | None = Field(None, description="The id of a key.")
    decision: Literal[TAIL_DECISIONS] | None = Field(  # type: ignore[valid-type]  # a tuple of texts, made elsewhere
        None, description="A decision, or `denials`: every one but `allow`."
    )
