"""`/v1/organizations/{organization}/credits` and `/v1/api-keys/{api_key}/credits`."""

from collections.abc import Iterator

from extauthz.admin.operation import Answer, Call, Operation
from extauthz.admin.schemas import credits as schemas
from extauthz.admin.schemas.base import Nothing
from extauthz.core.changes import EntityRef, Kind
from extauthz.core.credits import Credits


async def show_organization_credits(call: Call[Nothing, Nothing]) -> Answer:
    """The credits of an organization, by id or name."""
    return _answer(await call.services.credits.show(EntityRef("organization", call.ref)))


async def add_organization_credits(call: Call[schemas.CreditsAdded, Nothing]) -> Answer:
    """Top up the credits of an organization. With If-Match, a request that is sent twice adds once."""
    return await _add(call, "organization")


async def set_organization_credits(call: Call[schemas.CreditsGranted, Nothing]) -> Answer:
    """Set what an organization is granted in total, or remove the limit."""
    return await _set(call, "organization")


async def show_api_key_credits(call: Call[Nothing, Nothing]) -> Answer:
    """The credits of a key, inside its organization's."""
    return _answer(await call.services.credits.show(EntityRef("api_key", call.ref)))


async def add_api_key_credits(call: Call[schemas.CreditsAdded, Nothing]) -> Answer:
    """Top up the credits of a key. With If-Match, a request that is sent twice adds once."""
    return await _add(call, "api_key")


async def set_api_key_credits(call: Call[schemas.CreditsGranted, Nothing]) -> Answer:
    """Set what a key is granted in total, or remove the limit."""
    return await _set(call, "api_key")


async def _add(call: Call[schemas.CreditsAdded, Nothing], kind: Kind) -> Answer:
    body = call.body
    return _answer(
        *await call.services.credits.add(EntityRef(kind, call.ref), body.add, reason=body.reason, version=call.version)
    )


async def _set(call: Call[schemas.CreditsGranted, Nothing], kind: Kind) -> Answer:
    body = call.body
    return _answer(
        *await call.services.credits.set(
            EntityRef(kind, call.ref), body.granted, reason=body.reason, version=call.version
        )
    )


def _answer(found: Credits, told: bool = True) -> Answer:
    return Answer(found.to_json(), version=found.row_version, told=told)


_PATHS = {
    "/v1/organizations/{organization}/credits": (
        show_organization_credits,
        add_organization_credits,
        set_organization_credits,
    ),
    "/v1/api-keys/{api_key}/credits": (show_api_key_credits, add_api_key_credits, set_api_key_credits),
}


def _operations() -> Iterator[Operation]:
    for path, (show, add, set_) in _PATHS.items():
        yield Operation("GET", path, show, schemas.Credits)
        yield Operation("POST", path, add, schemas.Credits, body=schemas.CreditsAdded, conditional=True)
        yield Operation("PATCH", path, set_, schemas.Credits, body=schemas.CreditsGranted, conditional=True)


OPERATIONS = tuple(_operations())
