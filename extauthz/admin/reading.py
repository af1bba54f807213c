"""What stands in a request: JSON bodies, query parameters and If-Match, read strictly. Mistakes are Problems."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from extauthz.admin.problems import Mistake, Problem, invalid
from extauthz.core.shown import shown

BODY_MAX = 65_536  # bytes

_JSON = "application/json"
_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"', re.ASCII)
_VERSION = re.compile(r"[0-9]{1,10}", re.ASCII)
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
        raise Problem(400, "malformed_body", "the body breaks off, or its chunks make no sense", closes=True) from None
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
    """A body as the model says. Raises Problem: 400 where it is no JSON object, 422 where the model refuses it."""
    value = {} if optional and not body else _json(body)
    if not isinstance(value, dict):
        raise _malformed("the body is not a JSON object")
    return _validated(value, model, status=422, code="invalid_fields")


def _json(body: bytes) -> object:
    try:
        return json.loads(body.decode(), object_pairs_hook=_once_each, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _malformed(f"the body is no JSON: {error.msg} at {where}" if body else "the body is missing") from None
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
    raise _malformed(f"the body holds {name}, which is no JSON")


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


def parse_if_match(request: web.Request, *, taken: bool) -> int | None:
    """The version that If-Match asks for; None where it asks for none or for any. Raises Problem 400.

    Where it is not `taken` it may not stand: nobody shall believe that it was heeded.
    """
    given = request.headers.getall(hdrs.IF_MATCH, ())
    if given and not taken:
        raise invalid("If-Match", "is not taken here", status=400, code="invalid_header")
    if not given or given == ["*"]:
        return None
    match = _ETAG.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        raise invalid("If-Match", 'must be one ETag, as "3", or *', status=400, code="invalid_header")
    # A weak ETag never matches here (RFC 9110, 13.1.1), and one that is none of ours neither.
    return int(match[2]) if not match[1] and _VERSION.fullmatch(match[2]) else NO_VERSION
