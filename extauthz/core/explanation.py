"""Why a request would be let in or refused: the steps of a check in their order, each with what it saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from extauthz.core.reason import OUTCOMES, Reason

StepName = Literal["path", "host", "route", "credential", "key", "organization", "permission", "limits"]
StepOutcome = Literal["ok", "refused", "skipped"]

KEY_MAX = 8192  # characters; a longer key fits into no request


@dataclass(frozen=True, slots=True)
class ExplainQuestion:
    """What is to be explained. `path` is raw and may have a query; `host` is empty where none is known.

    `key` is the key that the request carries, `key_id` the id of one that it shall be taken to carry; neither: it
    carries none. `at` is Unix seconds; None is now. `address` is that of the client.
    """

    method: str
    path: str
    host: str = ""
    dialect: str = "envoy"
    key: str | None = field(default=None, repr=False)
    key_id: str | None = None
    at: float | None = None
    address: str = ""


class NamedKey(NamedTuple):
    """A key with its name: `digest` is what it is stored under, `pepper_id` the pepper that made that.

    `organization` is the name of its organization.
    """

    digest: str
    pepper_id: str
    name: str
    handle: str
    organization: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `facts` are its inputs, the same names whatever the outcome; `why` and `next` are sentences.

    `why` says what decided it, `next` what changes that; both may be empty.
    """

    name: StepName
    outcome: StepOutcome
    facts: Mapping[str, object]
    why: str = ""
    next: str = ""

    def to_json(self) -> dict[str, object]:
        """One JSON object."""
        return {"step": self.name, "outcome": self.outcome, **self.facts, "why": self.why, "next": self.next}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with the steps to it.

    `status` is what the listener of the dialect would answer to its proxy, `code` what the client sees; None where the
    request passes.
    """

    reason: Reason
    status: int
    code: str | None
    steps: Sequence[Step]

    @property
    def true_status(self) -> int:
        """The status that the client gets, whatever the proxy understands."""
        return OUTCOMES[self.reason].status

    def to_json(self) -> dict[str, object]:
        """One JSON object."""
        return {
            "decision": self.reason.value,
            "status": self.status,
            "true_status": self.true_status,
            "code": self.code,
            "charged": False,
            "steps": [step.to_json() for step in self.steps],
        }
