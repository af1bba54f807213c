"""What stands in a request: JSON bodies, query parameters and preconditions, read strictly. Mistakes are Problems."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from extauthz.admin.problems import Mistake, Problem, invalid
from extauthz.core.masking import shown
from extauthz.core.preconditions import Precondition

BODY_MAX = 65_536  # bytes

_JSON = "application/json"
_TAG = r'(W/)?"([^\x00-\x20"\x7f]*)"'
_ETAG = re.compile(_TAG)
_ETAGS = re.compile(rf"[ \t,]*+{_TAG}(?:[ \t]*+,[ \t,]*+{_TAG})*[ \t,]*+")
_VERSION = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_CONDITIONS = (hdrs.IF_MATCH, hdrs.IF_NONE_MATCH, hdrs.IF_UNMODIFIED_SINCE)
_IDEMPOTENCY_KEY = "Idempotency-Key"
NO_VERSION = -1  # what no row has

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: web.Request) -> bytes:
    """The bytes of a body, empty where there is none. Raises Problem: 400, 413, 415."""
    if (request.content_length or 0) > BODY_MAX:
        raise _too_large()
    body = bytearray()
    try:
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > BODY_MAX:
                raise _too_large()
    except (web.RequestPayloadError, OSError):
        raise Problem(400, "malformed_body", "the body breaks off, or its chunks are malformed", closes=True) from None
    if body and not _is_json(request):
        raise Problem(415, "unsupported_media_type", f"the body must be {_JSON}, in UTF-8 and not encoded further")
    return bytes(body)


def _too_large() -> Problem:
    return Problem(413, "body_too_large", f"a body may have {BODY_MAX} bytes at most", closes=True)


def _is_json(request: web.Request) -> bool:
    return (
        len(request.headers.getall(hdrs.CONTENT_TYPE, ())) == 1
        and request.content_type == _JSON
        and (request.charset or "utf-8").lower() == "utf-8"
        and hdrs.CONTENT_ENCODING not in request.headers
    )


def parse_body(body: bytes, model: type[Model], *, optional: bool) -> Model:
    """A body as the model says. Raises Problem: 400 where it is not a JSON object, 422 where the model refuses it."""
    value = {} if optional and not body else _json(body)
    if not isinstance(value, dict):
        raise _malformed("the body is not a JSON object")
    return _validated(value, model, status=422, code="invalid_fields")


def _json(body: bytes) -> object:
    try:
        return json.loads(body.decode(), object_pairs_hook=_once_each, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _malformed(f"the body must be JSON: {error.msg} at {where}" if body else "the body is missing") from None
    except UnicodeDecodeError:
        raise _malformed("the body is not in UTF-8") from None
    except RecursionError:
        raise _malformed("the body is nested too deeply") from None
    except ValueError:  # digits beyond what Python turns into a number
        raise _malformed("the body holds a number that is too long") from None


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise invalid(shown(name), "stands more than once", status=400, code="malformed_json")
        found[name] = value
    return found


def _no_number(name: str) -> object:
    raise _malformed(f"the body must be JSON without {name}")


def _malformed(detail: str) -> Problem:
    return Problem(400, "malformed_json", detail)


def parse_query(request: web.Request, model: type[Model]) -> Model:
    """The query parameters as the model says. Raises Problem 400, which names what is wrong."""
    given = request.rel_url.query
    for name in given:
        if len(given.getall(name)) > 1:
            raise invalid(shown(name), "stands more than once", status=400, code="invalid_query")
    return _validated(dict(given), model, status=400, code="invalid_query")


def _validated(value: Mapping[str, object], model: type[Model], *, status: int, code: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        mistakes = [
            Mistake(_place(mistake["loc"]), mistake["msg"].removeprefix("Value error, "))
            for mistake in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    first = mistakes[0]
    raise Problem(status, code, f"{first.field}: {first.message}" if first.field else first.message, errors=mistakes)


def _place(steps: Sequence[int | str]) -> str:
    """The way to what is wrong: `permissions.customer.0`. That a name of a map is wrong, pydantic calls `[key]`."""
    return ".".join(shown(str(step)) for step in steps if step != "[key]")


def parse_precondition(request: web.Request, *, match: bool, none_match: bool) -> Precondition | None:
    """What a request asks of the version of the thing (RFC 9110 §13), None where it asks nothing. Raises Problem 400.

    `match`, `none_match`: whether If-Match and If-None-Match are heeded here. One that is not is refused, and so is
    If-Unmodified-Since, except beside If-Match, where the RFC has it ignored.
    """
    given = {name: ",".join(request.headers.getall(name, ())) for name in _CONDITIONS if name in request.headers}
    for name, taken in ((hdrs.IF_MATCH, match), (hdrs.IF_NONE_MATCH, none_match)):
        if name in given and not taken:
            raise invalid(name, "is not taken here", status=400, code="invalid_header")
    if hdrs.IF_UNMODIFIED_SINCE in given and hdrs.IF_MATCH not in given:
        raise invalid(hdrs.IF_UNMODIFIED_SINCE, "is not taken; ask with If-Match", status=400, code="invalid_header")
    if not given:
        return None
    wanted = _tags(hdrs.IF_MATCH, given.get(hdrs.IF_MATCH, "*"))
    known = _tags(hdrs.IF_NONE_MATCH, given[hdrs.IF_NONE_MATCH]) if hdrs.IF_NONE_MATCH in given else []
    return Precondition(
        # A weak ETag never matches in If-Match, and always may in If-None-Match.
        match=None if wanted is None else frozenset(version for version, weak in wanted if not weak),
        none_match=frozenset(version for version, _ in known or ()),
        absent=known is None,
    )


def _tags(name: str, value: str) -> list[tuple[int, bool]] | None:
    """The versions that a list of ETags names, and whether each is weak; None for `*`. Raises Problem 400."""
    if value.strip(" \t") == "*":
        return None
    if not _ETAGS.fullmatch(value):
        raise invalid(name, 'must be ETags, as "3" or "3", "4", or *', status=400, code="invalid_header")
    found = [(match[2], match[1] is not None) for match in _ETAG.finditer(value)]
    # An ETag is compared as it is written: "03" matches nothing.
    return [(int(tag) if _VERSION.fullmatch(tag) else NO_VERSION, weak) for tag, weak in found]


def refuse_idempotency_key(request: web.Request) -> None:
    """Raises Problem 400 for an idempotency key: calls are not made idempotent by it."""
    if _IDEMPOTENCY_KEY in request.headers:
        message = "is not taken: see with GET whether a call was done before it is sent again"
        raise invalid(_IDEMPOTENCY_KEY, message, status=400, code="unsupported_header")
