"""The way of one request through the API, and everything under `/v1/` put on an application."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import unquote

import structlog
from aiohttp import hdrs, web
from pydantic import BaseModel

from extauthz.admin import (
    audit,
    explain,
    keys,
    openapi,
    organizations,
    plans,
    problems,
    rejections,
    tail,
    usage,
)
from extauthz.admin import credits as granted
from extauthz.admin.auth import BearerAuth, Crowded, one_second
from extauthz.admin.concurrency import ConcurrencyLimit
from extauthz.admin.operation import Answer, Call, Found, Operation, Paths
from extauthz.admin.problems import Problem
from extauthz.admin.request import parse_body, parse_precondition, parse_query, read_body, refuse_idempotency_key
from extauthz.admin.schemas.base import Document, Nothing
from extauthz.admin.services import AllServices, Explains, Services
from extauthz.core.errors import ExtauthzError, InvalidInput
from extauthz.core.explanation import ExplainQuestion, Explanation
from extauthz.service.tails import Tails


async def describe(_: Call[Nothing, Nothing]) -> Answer:
    """This document."""
    return Answer(_document())


OPERATIONS: tuple[Operation, ...] = (
    *plans.OPERATIONS,
    *organizations.OPERATIONS,
    *keys.OPERATIONS,
    *granted.OPERATIONS,
    *usage.OPERATIONS,
    *audit.OPERATIONS,
    *rejections.OPERATIONS,
    *explain.OPERATIONS,
    *tail.OPERATIONS,
    Operation("GET", "/v1/openapi.json", describe, Document, needs_services=False, asks_stores=False),
)


@cache
def _document() -> dict[str, Any]:
    return openapi.document(OPERATIONS)


async def _no_workers(_: object) -> None:
    """What is told of tails where nothing is decided."""


class _Elsewhere:
    """The services of a process that only looks keys up."""

    places = 1
    highest_cost = 0

    def as_actor(self, actor: str) -> Services:  # noqa: ARG002 - no actor has services here
        raise Problem(409, "keys_kept_elsewhere", "keys come from [keys] lookup_sql; manage them where they are kept")


class _Unexplained:
    """An API that was given nothing to explain decisions with."""

    async def explain(self, question: ExplainQuestion) -> Explanation:  # noqa: ARG002 - there is no answer
        raise Problem(409, "explains_nothing", "this API cannot explain decisions")


class AdminApi:
    """The private REST API, for bearers of `tokens`."""

    def __init__(
        self,
        services: AllServices | None,
        tokens: Mapping[str, bytes],
        *,
        pause: Callable[[], Awaitable[None]] = one_second,
        concurrency: ConcurrencyLimit | None = None,
        explain: Explains | None = None,
        tails: Tails | None = None,
    ) -> None:
        """`services` None: keys are in external tables, and are not managed here.

        `tokens` are the tokens by their owners' names; with none, every call is refused. `pause` is what the answer
        to a wrong token waits for, `concurrency` what operations wait for, by default as many at once as the pool has.
        `explain` explains decisions. `tails` end with the API; None: nothing is decided here.
        """
        self._tails = tails or Tails(_no_workers)
        self._services: AllServices = _Elsewhere() if services is None else services
        self._gate = BearerAuth(tokens, pause=pause)
        self._concurrency = concurrency or ConcurrencyLimit(self._services.places)
        self._explain: Explains = explain or _Unexplained()
        self._paths = Paths(OPERATIONS)

    @property
    def held(self) -> int:
        """How many answers to wrong tokens are held back now."""
        return self._gate.held

    def mount(self, app: web.Application) -> None:
        """Adds everything under `/v1/`, whatever the method."""

        async def close(_: web.Application) -> None:
            await self._concurrency.close()

        async def end_tails(_: web.Application) -> None:
            self._tails.close()

        app.on_shutdown.append(end_tails)
        app.on_cleanup.append(close)
        app.router.add_route(hdrs.METH_ANY, "/v1", self.answer)
        app.router.add_route(hdrs.METH_ANY, "/v1/{rest:(?s:.*)}", self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The answer to any request."""
        try:
            actor = await self._gate.admit(request.headers)
            operation, ref = self._operation(request)
            answer = await self._perform(operation, ref, request, f"token:{actor}")
            if answer.stream is not None:
                return await tail.send(request, answer.stream)
            return _success(operation, answer, self._services.highest_cost)
        except Problem as problem:
            return _refusal(problem)
        except Crowded:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # the client has left
        except Exception as error:  # noqa: BLE001 - told whole to the log, and to the client that it was not its fault
            structlog.get_logger().error("unhandled_exception", exc_info=error)
            return _refusal(Problem(500, "internal_error", "this is a mistake of extauthz; its log says more"))

    def _operation(self, request: web.Request) -> tuple[Operation, str]:
        found = self._find(request.rel_url.raw_path)
        method = "GET" if request.method == "HEAD" else request.method
        if found is None:
            raise Problem(404, "not_found", "no such endpoint")
        if method not in found.methods:
            detail = f"this takes {found.allow}"
            raise Problem(405, "method_not_allowed", detail, headers={hdrs.ALLOW: found.allow})
        return found.methods[method], found.ref

    def _find(self, raw_path: str) -> Found | None:
        try:
            segments = [unquote(part, errors="strict") for part in raw_path.split("/")]
        except UnicodeDecodeError:
            return None
        return None if "\0" in "".join(segments) else self._paths.find(segments)  # no name holds NUL

    async def _perform(self, operation: Operation, ref: str, request: web.Request, actor: str) -> Answer:
        if operation.needs_services:
            self._services.as_actor(actor)  # where there are none, nothing else is said
        query = parse_query(request, operation.query)
        conditional = operation.conditional
        version = parse_precondition(request, match=conditional, none_match=conditional or operation.versioned)
        if operation.method != "GET":
            refuse_idempotency_key(request)
        raw = await read_body(request)
        body = parse_body(raw, operation.body or Nothing, optional=operation.body is None or operation.optional)
        try:
            work = operation.handle(Call(self._services, self._tails, actor, ref, body, query, version, self._explain))
            answer = await (self._concurrency.take(work) if operation.asks_stores else work)
        except ExtauthzError as error:
            raise _problem(error, operation, body) from error
        known = operation.versioned and version is not None and not version.holds(answer.version or 0)
        return replace(answer, unchanged=known)


def _problem(error: ExtauthzError, operation: Operation, body: BaseModel) -> Exception:
    """The answer to what a handler raised."""
    if isinstance(error, InvalidInput) and operation.method == "GET":  # its text begins with the parameter's name
        field, _, words = str(error).partition(" ")
        return problems.invalid(field, words, status=400, code="invalid_query")
    return problems.from_error(error, body.model_fields_set) or error


def _success(operation: Operation, answer: Answer, highest_cost: int) -> web.Response:
    headers: dict[str, str] = {}
    if answer.version is not None:
        headers[hdrs.ETAG] = f'"{answer.version}"'
    if answer.location is not None:
        headers[hdrs.LOCATION] = answer.location
    if warnings := answer.warnings(highest_cost):
        headers[openapi.WARNING_HEADER] = ", ".join(warnings)
    if answer.unchanged:
        return web.Response(status=304, headers=headers)
    if operation.answer is None:
        return web.Response(status=operation.status, headers=headers)
    # What the document promises of an answer is what it is held to.
    held = operation.answer.model_validate(answer.body).model_dump(by_alias=True)
    headers[hdrs.CONTENT_TYPE] = "application/json"
    return web.Response(status=operation.status, headers=headers, body=json.dumps(held).encode())


def _refusal(problem: Problem) -> web.Response:
    headers = {hdrs.CONTENT_TYPE: problems.MEDIA_TYPE, **problem.headers}
    response = web.Response(status=problem.status, headers=headers, body=problem.body())
    if problem.closes:
        response.force_close()
    return response
