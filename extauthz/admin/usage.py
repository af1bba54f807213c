"""`/v1/usage`."""

from extauthz.admin import answers
from extauthz.admin.operation import Answer, Call, Operation
from extauthz.admin.payloads import Nothing, UsageQuery


async def show_usage(call: Call[Nothing, UsageQuery]) -> Answer:
    """What an organization used on a day, with a page of its keys in the order of their ids.

    Live: what checks have counted is there before it is saved. Refusals follow within 10 seconds.
    """
    query = call.query
    usage = await call.rooms.usage.day(query.organization_id, query.day, limit=query.limit, cursor=query.cursor)
    return Answer(usage.to_json())


OPERATIONS = (Operation("GET", "/v1/usage", show_usage, answers.Usage, query=UsageQuery),)
