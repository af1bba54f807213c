"""`/v1/audit-log`."""

from extauthz.admin.operation import Answer, Call, Operation, page
from extauthz.admin.schemas import audit as schemas
from extauthz.admin.schemas.base import Nothing
from extauthz.core.management import AuditEntry


async def list_audit_log(call: Call[Nothing, schemas.AuditQuery]) -> Answer:
    """Changes with their actors, newest first, of everything or of what the filters say."""
    query = call.query
    listing = await call.services.audit.page(
        query.organization_id, query.only(), limit=query.limit, cursor=query.cursor
    )
    return page(listing, AuditEntry.to_json)


OPERATIONS = (Operation("GET", "/v1/audit-log", list_audit_log, schemas.AuditLog, query=schemas.AuditQuery),)
