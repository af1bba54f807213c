"""`/v1/explain`."""

from extauthz.admin.operation import Answer, Call, Operation
from extauthz.admin.schemas.base import Nothing
from extauthz.admin.schemas.explanation import ExplainedRequest, Explanation


async def explain_decision(call: Call[ExplainedRequest, Nothing]) -> Answer:
    """Explain why a request would pass or be refused, step by step. Nothing is charged, counted or kept.

    The steps are those of a check, in their order; what follows a refusal is skipped.
    """
    return Answer((await call.explain.explain(call.body.question())).to_json())


OPERATIONS = (
    Operation("POST", "/v1/explain", explain_decision, Explanation, body=ExplainedRequest, needs_services=False),
)
