"""`/v1/tail`: decisions as they are made, a line of JSON each, until the client goes."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from uuid import UUID

from aiohttp import hdrs, web

from extauthz.admin.operation import Answer, Call, Operation
from extauthz.admin.problems import Problem, store_problem
from extauthz.admin.schemas import decisions as schemas
from extauthz.admin.schemas.base import Nothing
from extauthz.core.errors import StoreUnavailable
from extauthz.core.tail import TailFilter
from extauthz.service.tails import Tail, TooManyTails

MEDIA_TYPE = "application/x-ndjson"
CLIENT_CHECK_INTERVAL_SECONDS = 1.0  # between two looks whether the client is still there
SILENT_SECONDS = 10  # after which a line says that nothing happens
STALLED_SECONDS = 600.0  # for which a client may read nothing before its tail ends

_HEADERS = {
    hdrs.CONTENT_TYPE: MEDIA_TYPE,
    hdrs.CACHE_CONTROL: "no-store",
    hdrs.SERVER: "extauthz",
    "x-content-type-options": "nosniff",
}


async def watch_decisions(call: Call[Nothing, schemas.TailQuery]) -> Answer:
    """Decisions of all workers as they are made, a line of JSON each, until the client goes.

    A line that has `dropped` alone says how many decisions are missing, because the client or the network was too slow;
    0 says that the stream lives: it is the first line, and comes every ten seconds in which nothing happens.
    """
    query = call.query
    organization_id = await _organization_id(call, query.organization_id)
    key_id = None if query.api_key_id is None else query.api_key_id.lower()  # as records have it
    only = TailFilter(organization_id, key_id, query.decision)
    return Answer(stream=call.tails.open(only))


async def _organization_id(call: Call[Nothing, schemas.TailQuery], reference: str | None) -> str | None:
    """The id of an organization. Where it cannot be looked up, a reference that may be an id is taken for one."""
    if reference is None:
        return None
    try:
        return (await call.services.tenants.show_organization(reference)).id
    except Problem:  # keys, and organizations with them, are kept elsewhere
        return reference
    except StoreUnavailable:
        if _is_id(reference):
            return reference.lower()
        raise


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


async def send(request: web.Request, opening: AbstractAsyncContextManager[Tail]) -> web.StreamResponse:
    """Sends the lines of a tail until either side ends. Raises Problem 503."""
    async with AsyncExitStack() as stack:
        try:
            tail = await stack.enter_async_context(opening)
        except TooManyTails as error:
            raise store_problem("too_many_tails", str(error)) from error
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            try:
                await _send_lines(request, response, tail)
            except (ConnectionError, TimeoutError):  # the client is gone, or reads no more
                if request.transport is not None:
                    request.transport.abort()
        return response


async def _send_lines(request: web.Request, response: web.StreamResponse, tail: Tail) -> None:
    await response.write(_dropped(0))
    silent = 0
    while not tail.ended and request.transport is not None and not request.transport.is_closing():
        lines, dropped = await tail.take(CLIENT_CHECK_INTERVAL_SECONDS)
        silent = 0 if lines or dropped else silent + 1
        if not silent or silent % SILENT_SECONDS == 0:
            notice = b"" if lines and not dropped else _dropped(dropped)
            async with asyncio.timeout(STALLED_SECONDS):
                await response.write(notice + lines)


def _dropped(count: int) -> bytes:
    return b'{"dropped":%d}\n' % count


OPERATIONS = (
    Operation(
        "GET",
        "/v1/tail",
        watch_decisions,
        schemas.Decision,
        query=schemas.TailQuery,
        needs_services=False,
        streams=True,
    ),
)
