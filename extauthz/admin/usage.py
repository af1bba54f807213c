"""`/v1/usage`."""

from extauthz.admin.operation import Answer, Call, Operation
from extauthz.admin.schemas import usage as schemas
from extauthz.admin.schemas.base import Nothing


async def show_usage(call: Call[Nothing, schemas.UsageQuery]) -> Answer:
    """What an organization used on a day, in a month or from one day to another, with a page of rows.

    A row is what a key used, in the order of ids, or what was used on a day or in a month, the oldest first. Days and
    months are those of the organization's calendar; a month is the one that begins in a month of the year. A range has
    at most 1096 days and none that has not begun.
    Live: what checks have counted is there before it is saved. Refusals follow within 10 seconds.
    """
    query = call.query
    usage = await call.services.usage.report(
        query.organization_id, query.days(), by=query.by, limit=query.limit, cursor=query.cursor
    )
    return Answer(usage.to_json())


OPERATIONS = (Operation("GET", "/v1/usage", show_usage, schemas.Usage, query=schemas.UsageQuery),)
