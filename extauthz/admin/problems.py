"""What goes wrong, as problem+json (RFC 9457). Errors of other rooms become answers here, by one table."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus

from extauthz.core.errors import (
    Conflict,
    ExtauthzError,
    InvalidInput,
    NotFound,
    StoreCorrupt,
    StoreUnavailable,
    VersionMismatch,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "1"  # seconds until a store may be there again
ERRORS_MAX = 20  # mistakes named in one answer


_WORD = re.compile("[a-z_]+")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with one field of a body, one query parameter or one header."""

    field: str
    message: str


class Problem(Exception):
    """An answer that reports a failure. Its texts repeat no value of a secret field."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mistake] = (),
        headers: Mapping[str, str] | None = None,
        closes: bool = False,
    ) -> None:
        """`closes`: the connection ends with this answer."""
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)[:ERRORS_MAX]
        self.headers = dict(headers or {})
        self.closes = closes

    def body(self) -> bytes:
        """The JSON object, in ASCII: half a character that a client sent cannot break it."""
        fields = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "errors": [asdict(mistake) for mistake in self.errors],
        }
        return json.dumps(fields).encode()


def invalid(field: str, message: str, *, status: int = 422, code: str = "invalid_fields") -> Problem:
    """A refusal for the sake of one field."""
    return Problem(status, code, f"{field}: {message}", errors=[Mistake(field, message)])


def store_problem(code: str, detail: str) -> Problem:
    """A refusal because a store is away or slow."""
    return Problem(503, code, detail, headers={"retry-after": RETRY_AFTER})


# The first that fits: VersionMismatch is a Conflict.
_ANSWERS: tuple[tuple[type[ExtauthzError], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (VersionMismatch, 412, "version_mismatch"),
    (Conflict, 409, "conflict"),
    (InvalidInput, 422, "invalid_fields"),
    (StoreUnavailable, 503, "store_unavailable"),
    (StoreCorrupt, 500, "record_corrupt"),
)


def from_error(error: ExtauthzError, fields: Collection[str] = ()) -> Problem | None:
    """The answer to an error that a client can mend, None where the error is a bug of extauthz.

    `fields` are the names that stood in the body. The first of them that the error's text names is the mistake.
    """
    for kind, status, code in _ANSWERS:
        if isinstance(error, kind):
            text = str(error)
            named = next((word for word in _WORD.findall(text) if word in fields), None) if status == 422 else None
            return Problem(
                status,
                code,
                text,
                errors=[] if named is None else [Mistake(named, text.removeprefix(f"{named}: "))],
                headers={"retry-after": RETRY_AFTER} if status == 503 else None,
            )
    return None
