"""What all schemas of the API are made of: the strict forms of what it is sent and of what it answers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from extauthz.admin.fields import Cursor, Reference, WholeInQuery

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


Date = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]


class Strict(BaseModel):
    """No other field, and no other type."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, frozen=True)


class AnswerModel(BaseModel):
    """An answer: no field more, none less."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


class Nothing(Strict):
    """Says nothing."""


class PageQuery(Strict):
    """Which part of a list, newest first."""

    limit: WholeInQuery = Field(50, ge=1, le=200, description="How many at most.")
    cursor: Cursor | None = Field(None, description="`next` of the page before.")


class OrganizationPageQuery(PageQuery):
    """Which part of a list, perhaps of one organization alone."""

    organization_id: Reference | None = Field(None, description="The id or the name of an organization.")


class Document(BaseModel):
    """An OpenAPI 3.1 document."""

    model_config = ConfigDict(extra="allow", frozen=True)

    openapi: str
