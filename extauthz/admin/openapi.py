"""The OpenAPI 3.1 document, made from the table of operations and their models, so that it says what is answered."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from extauthz.admin import problems, tail
from extauthz.admin.operation import Operation
from extauthz.admin.schemas.problems import Problem

Json = dict[str, Any]

WARNING_HEADER = "x-extauthz-warning"
DESCRIPTION = """\
What the command line does with keys, plans and organizations, over HTTP. Every call bears a token of
EXTAUTHZ_ADMIN_TOKEN.
"""
_REFUSALS: Mapping[int, str] = {
    400: "Malformed: the body, a query parameter or a header; or a header that is not taken",
    401: "No token, or a wrong one",
    403: "No token is set, or a web page asks",
    404: "There is no such thing",
    409: "It contradicts what is stored, or keys are kept elsewhere",
    412: "If-Match or If-None-Match asks for another version",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "A field cannot be taken; `errors` names it",
    500: "A corrupt record, or a bug of extauthz",
    503: "A store is away or slow, or too many calls wait for it",
}
_WARNING: Json = {
    "description": "`redis_not_told`: the change stands; where no message of PostgreSQL arrives either, it takes effect"
    " when cached records end. `limit_below_cost`: a bucket or quota is smaller than the cost of a route, and refuses"
    " its requests as cost_exceeds_limit. Both stand with a comma and a blank between.",
    "schema": {"type": "string", "pattern": "^(redis_not_told|limit_below_cost|redis_not_told, limit_below_cost)$"},
}


def document(operations: Sequence[Operation]) -> Json:
    """The document for these operations."""
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Problem, "serialization")]
    for operation in operations:
        models += [(operation.body, "validation")] if operation.body else []
        models += [(operation.answer, "serialization")] if operation.answer else []
    _, definitions = models_json_schema(list(dict.fromkeys(models)), ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "extauthz admin API", "version": "1", "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> Json:
    summary, _, rest = cleandoc(operation.handle.__doc__ or "").partition("\n\n")
    described: Json = {
        "operationId": operation.handle.__name__,
        "summary": summary.removesuffix("."),
        "parameters": [*_parameters(operation)],
        "responses": {str(operation.status): _success(operation)}
        | ({"304": _unchanged()} if operation.versioned else {})
        | {str(status): _refusal(status) for status in _statuses(operation)},
    }
    if rest:
        described["description"] = rest
    if operation.body is not None:
        described["requestBody"] = {
            "required": not operation.optional,
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    return described


def _parameters(operation: Operation) -> Iterator[Json]:
    for step in operation.path.split("/"):
        if step.startswith("{"):
            yield {"name": step.strip("{}"), "in": "path", "required": True, "schema": _path_schema(step)}
    asked = operation.query.model_json_schema()
    for name, schema in asked.get("properties", {}).items():
        required = name in asked.get("required", ())
        yield {"name": name, "in": "query", "required": required, "schema": _without_null(schema)}
    if operation.conditional:
        yield _etags("If-Match", "The ETag of the version that is to be changed, or several, or `*`.")
        yield _etags("If-None-Match", "ETags of versions that are not to be changed.")
    if operation.versioned:
        yield _etags(
            "If-None-Match", "ETags of versions that the caller has; one that still holds is answered with 304."
        )


def _etags(name: str, description: str) -> Json:
    schema = {"type": "string", "pattern": r'^(?:\*|(?:W/)?"[!#-~]*"(?:, (?:W/)?"[!#-~]*")*)$'}
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


def _path_schema(step: str) -> Json:
    if step == "{api_key}":
        return {"type": "string", "format": "uuid"}
    return {"type": "string", "minLength": 1, "maxLength": 255, "description": "Its id or its name."}


def _without_null(schema: Json) -> Json:
    """A query parameter is absent or there; it cannot be null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    kept = {name: value for name, value in schema.items() if name != "anyOf" and value is not None}
    return kept if not kinds else kept | kinds[0]


def _success(operation: Operation) -> Json:
    headers: Json = {}
    if operation.answer is not None and "version" in operation.answer.model_fields:
        headers["ETag"] = {"required": True, "schema": {"type": "string"}, "description": "The version, quoted."}
    if operation.status == 201:
        headers["Location"] = {"required": True, "schema": {"type": "string", "format": "uri-reference"}}
    if operation.method not in ("GET", "HEAD") and operation.needs_services:
        headers[WARNING_HEADER] = _WARNING
    success: Json = {"description": HTTPStatus(operation.status).phrase, "headers": headers}
    if operation.answer is not None:
        media_type = tail.MEDIA_TYPE if operation.streams else "application/json"
        success["content"] = {media_type: {"schema": _reference(operation.answer)}}
    return success


def _unchanged() -> Json:
    headers = {"ETag": {"required": True, "schema": {"type": "string"}, "description": "The version, quoted."}}
    return {"description": HTTPStatus.NOT_MODIFIED.phrase, "headers": headers}


def _refusal(status: int) -> Json:
    refusal: Json = {
        "description": _REFUSALS[status],
        "content": {problems.MEDIA_TYPE: {"schema": _reference(Problem)}},
    }
    header = {401: "WWW-Authenticate", 503: "Retry-After"}.get(status)
    if header is not None:
        refusal["headers"] = {header: {"required": True, "schema": {"type": "string"}}}
    return refusal


def _statuses(operation: Operation) -> Iterator[int]:
    """How a request may be refused."""
    yield from (400, 401, 403)
    if "{" in operation.path or operation.body is not None or "organization_id" in operation.query.model_fields:
        yield 404
    if operation.needs_services:
        yield 409
    if operation.conditional:
        yield 412
    yield from (413, 415)
    if operation.method != "GET":
        yield 422
    yield 500
    if operation.asks_stores:
        yield 503


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
