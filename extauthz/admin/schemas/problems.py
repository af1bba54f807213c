"""Refusals."""

from typing import Literal

from extauthz.admin.schemas.base import AnswerModel


class Mistake(AnswerModel):
    """What is wrong with one field, query parameter or header."""

    field: str
    message: str


class Problem(AnswerModel):
    """A refusal (RFC 9457). `code` is for programs, `detail` a sentence."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str
    errors: list[Mistake]
