"""`/v1/rejections`."""

from extauthz.admin.operation import Answer, Call, Operation, page
from extauthz.admin.schemas import rejections as schemas
from extauthz.admin.schemas.base import Nothing
from extauthz.core.rejections import Rejection


async def list_rejections(call: Call[Nothing, schemas.RejectionsQuery]) -> Answer:
    """Why requests were refused, newest first; without an organization, those of clients that none is known of.

    Refusals are there within 10 seconds.
    """
    query = call.query
    listing = await call.services.rejections.page(
        query.organization_id, query.only(), limit=query.limit, cursor=query.cursor
    )
    return page(listing, Rejection.to_json)


OPERATIONS = (Operation("GET", "/v1/rejections", list_rejections, schemas.Rejections, query=schemas.RejectionsQuery),)
