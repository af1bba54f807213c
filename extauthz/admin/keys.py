"""`/v1/api-keys` and `/v1/peppers`."""

from datetime import UTC, datetime

from extauthz.admin.operation import Answer, Call, Operation, page
from extauthz.admin.schemas import keys as schemas
from extauthz.admin.schemas.base import Nothing, OrganizationPageQuery
from extauthz.core.errors import Conflict, LastUsableKey
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.management import KeyDetails

_ALL, _ONE = "/v1/api-keys", "/v1/api-keys/{api_key}"


async def list_api_keys(call: Call[Nothing, OrganizationPageQuery]) -> Answer:
    """Keys, newest first, of all organizations or of one."""
    query = call.query
    listing = await call.services.keys.list_keys(query.organization_id, limit=query.limit, cursor=query.cursor)
    return page(listing, _json)


async def create_api_key(call: Call[schemas.NewApiKey, Nothing]) -> Answer:
    """Make a key. The answer holds the key itself, this once; without permissions it may do everything."""
    key, secret = await call.services.keys.create(call.body.organization_id, call.body.terms())
    return _key(key, secret=secret, location=f"{_ALL}/{key.id}", limits=key.limits)


async def import_api_key(call: Call[schemas.ImportedApiKey, Nothing]) -> Answer:
    """Take in a key that another system issued, so that its clients need no new one. Only its digest is kept."""
    body = call.body
    key = await call.services.keys.import_key(body.organization_id, body.key, body.terms())
    return _key(key, location=f"{_ALL}/{key.id}", limits=key.limits)


async def show_api_key(call: Call[Nothing, Nothing]) -> Answer:
    """One key, without the key itself."""
    return _key(await call.services.keys.show(call.ref))


async def update_api_key(call: Call[schemas.ApiKeyChanges, Nothing]) -> Answer:
    """Change what its owner says of a key."""
    key, told = await call.services.keys.update(call.ref, call.body.changes(), version=call.version)
    return _key(key, told=told, limits=key.limits)


async def disable_api_key(call: Call[Nothing, Nothing]) -> Answer:
    """Refuse a key until it is enabled again."""
    key, told = await call.services.keys.disable(call.ref, version=call.version)
    return _key(key, told=told)


async def enable_api_key(call: Call[Nothing, Nothing]) -> Answer:
    """Take back that a key was disabled."""
    key, told = await call.services.keys.enable(call.ref, version=call.version)
    return _key(key, told=told)


async def rotate_api_key(call: Call[schemas.Rotation, Nothing]) -> Answer:
    """Put a new key in place of a key. The old one works until its grace is over, by default an hour."""
    rotated = await call.services.keys.rotate(call.ref, grace=call.body.grace, expires_at=call.body.expires_at)
    new = _key(rotated.key, secret=rotated.secret, location=f"{_ALL}/{rotated.key.id}", told=rotated.told)
    old = _json(rotated.old)
    return Answer({**(new.body or {}), "old": old}, version=new.version, location=new.location, told=new.told)


async def revoke_api_key(call: Call[schemas.Revocation, schemas.RevocationQuery]) -> Answer:
    """End a key for good. The last usable key of an organization only where `last` says so."""
    return await _revoke(call, last=call.body.last or call.query.last)


async def delete_api_key(call: Call[Nothing, schemas.RevocationQuery]) -> Answer:
    """The same as revoke: the key ends for good, and what is known of it stays."""
    return await _revoke(call, last=call.query.last)


async def list_peppers(call: Call[Nothing, Nothing]) -> Answer:
    """How many keys still depend on which pepper."""
    uses = await call.services.keys.peppers()
    return Answer({"items": [use.to_json() for use in uses], "next": None})


async def _revoke(
    call: Call[schemas.Revocation, schemas.RevocationQuery] | Call[Nothing, schemas.RevocationQuery], *, last: bool
) -> Answer:
    try:
        key, told = await call.services.keys.revoke(call.ref, last=last)
    except LastUsableKey as error:
        raise Conflict(f"{error}; to revoke it all the same, ask with ?last=true") from error
    return _key(key, told=told)


def _key(
    key: KeyDetails,
    *,
    secret: str | None = None,
    location: str | None = None,
    told: bool = True,
    limits: Limits = UNLIMITED,
) -> Answer:
    shown = {} if secret is None else {"key": secret}
    return Answer({**_json(key), **shown}, version=key.row_version, location=location, told=told, limits=limits)


def _json(key: KeyDetails) -> dict[str, object]:
    return key.to_json(datetime.now(UTC))


OPERATIONS = (
    Operation("GET", _ALL, list_api_keys, schemas.ApiKeys, query=OrganizationPageQuery),
    Operation("POST", _ALL, create_api_key, schemas.CreatedApiKey, body=schemas.NewApiKey, status=201),
    Operation("POST", f"{_ALL}/import", import_api_key, schemas.ApiKey, body=schemas.ImportedApiKey, status=201),
    Operation("GET", _ONE, show_api_key, schemas.ApiKey),
    Operation("PATCH", _ONE, update_api_key, schemas.ApiKey, body=schemas.ApiKeyChanges, conditional=True),
    Operation("DELETE", _ONE, delete_api_key, schemas.ApiKey, query=schemas.RevocationQuery),
    Operation(
        "POST", f"{_ONE}/disable", disable_api_key, schemas.ApiKey, body=Nothing, optional=True, conditional=True
    ),
    Operation("POST", f"{_ONE}/enable", enable_api_key, schemas.ApiKey, body=Nothing, optional=True, conditional=True),
    Operation(
        "POST",
        f"{_ONE}/revoke",
        revoke_api_key,
        schemas.ApiKey,
        body=schemas.Revocation,
        optional=True,
        query=schemas.RevocationQuery,
    ),
    Operation(
        "POST",
        f"{_ONE}/rotate",
        rotate_api_key,
        schemas.RotatedApiKey,
        body=schemas.Rotation,
        optional=True,
        status=201,
    ),
    Operation("GET", "/v1/peppers", list_peppers, schemas.Peppers),
)
