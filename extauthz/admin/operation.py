"""One operation of the API: a row of the table that requests are answered by and OpenAPI is made from."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from extauthz.admin.schemas.base import Nothing
from extauthz.admin.services import AllServices, Explains, Services
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.management import Listing
from extauthz.core.preconditions import Precondition
from extauthz.service.tails import Tail, Tails

REDIS_NOT_TOLD, LIMIT_BELOW_COST = "redis_not_told", "limit_below_cost"

Body = TypeVar("Body", bound=BaseModel)
Query = TypeVar("Query", bound=BaseModel)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Call(Generic[Body, Query]):
    """A request that was let in and read. `ref` is what its path names, `version` what it asks of the version."""

    all_services: AllServices
    tails: Tails
    actor: str
    ref: str
    body: Body
    query: Query
    version: Precondition | None
    explain: Explains

    @property
    def services(self) -> Services:
        """The services, which write down what is changed under the caller's name."""
        return self.all_services.as_actor(self.actor)


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `version` becomes the ETag, `location` where the new thing is; `told` is whether Redis was told.

    `limits` are those that hold now, for a warning where a route costs more than they can ever hold.
    `unchanged`: the caller has that version already. `stream` is the body of an answer that has no end.
    """

    body: Mapping[str, object] | None = None
    version: int | None = None
    location: str | None = None
    told: bool = True
    limits: Limits = UNLIMITED
    unchanged: bool = False
    stream: AbstractAsyncContextManager[Tail] | None = None

    def warnings(self, highest_cost: int) -> list[str]:
        """What the caller should know of although it succeeded; `highest_cost` is that of the dearest route."""
        below = [LIMIT_BELOW_COST] if self.limits.below(highest_cost) else []
        return [*([] if self.told else [REDIS_NOT_TOLD]), *below]


@dataclass(frozen=True, slots=True)
class Operation:
    """What is answered to `method` on `path`, which may hold one `{name}`.

    `answer` None is an answer without a body, `body` None a request without one; an `optional` body may be absent.
    `conditional` operations take If-Match and If-None-Match. Those that need no services are answered where keys are
    kept elsewhere, too; those that ask no store skip the concurrency limit; one that `streams` answers a line of JSON
    for each `answer`. `handle` may raise ExtauthzError and Problem; its docstring describes it.
    """

    method: str
    path: str
    handle: Callable[[Call[Any, Any]], Coroutine[Any, Any, Answer]]
    answer: type[BaseModel] | None
    body: type[BaseModel] | None = None
    query: type[BaseModel] = Nothing
    status: int = 200
    optional: bool = False
    conditional: bool = False
    needs_services: bool = True
    asks_stores: bool = True
    streams: bool = False

    @property
    def versioned(self) -> bool:
        """Whether it answers one thing with its version, so that a caller may ask whether that is a new one."""
        return self.method == "GET" and self.answer is not None and "version" in self.answer.model_fields


@dataclass(frozen=True, slots=True)
class Found:
    """The operations of the path that a request asked for, by method."""

    methods: Mapping[str, Operation]
    ref: str

    @property
    def allow(self) -> str:
        """The value of the header Allow."""
        return ", ".join(sorted([*self.methods, "HEAD"] if "GET" in self.methods else self.methods))


class Paths:
    """All operations, found by path."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        # Literal paths come before those with a name in them: `import` does not name a key.
        self._paths = sorted(
            ((path.split("/"), by_path[path]) for path in by_path), key=lambda entry: "{" in str(entry[0])
        )

    def find(self, segments: Sequence[str]) -> Found | None:
        """The operations of a path, given as the decoded texts between its slashes."""
        for pattern, methods in self._paths:
            if len(pattern) == len(segments):
                named = [text for step, text in zip(pattern, segments, strict=True) if step.startswith("{")]
                if all(step.startswith("{") or step == text for step, text in zip(pattern, segments, strict=True)):
                    return Found(methods, named[0] if named else "")
        return None


def page(listing: Listing[Item], to_json: Callable[[Item], dict[str, object]]) -> Answer:
    """One page of records, each in its JSON form."""
    return Answer({"items": [to_json(item) for item in listing.items], "next": listing.next})
