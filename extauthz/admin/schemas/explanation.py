"""What `/v1/explain` is asked and answers."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from extauthz.admin.fields import KeyId, LimitsMode, Shape, Status
from extauthz.admin.schemas.base import AnswerModel, Strict, Time
from extauthz.core.explain_input import URL_MAX, check_method, parse_at, parse_url
from extauthz.core.explanation import KEY_MAX, ExplainQuestion


def _at(value: object) -> datetime | None:
    return parse_at(value if isinstance(value, str) else "", datetime.now(UTC))


At = Annotated[
    datetime | None,
    BeforeValidator(_at),
    WithJsonSchema(
        {
            "description": "When: `now`, a time, or a duration ago such as 24h. Limits are always those of now.",
            "anyOf": [
                {"const": "now"},
                {"type": "string", "format": "date-time"},
                {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$"},
            ],
        }
    ),
]


Method = Annotated[
    str,
    Shape(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", "must be the name of an HTTP method, as GET"),
    AfterValidator(check_method),
    Field(description="As the client sends it: methods are case-sensitive.", examples=["GET"]),
]


def _url(text: str) -> str:
    parse_url(text)
    return text


Url = Annotated[
    str,
    AfterValidator(_url),
    Shape(rf"[\s\S]{{1,{URL_MAX}}}", f"must have 1 to {URL_MAX} characters"),
    Field(
        description="A raw path, or a URL of http or https, whose host is then that of the request.",
        examples=["https://api.example.com/api/v1/customers/7"],
    ),
]


class ExplainedRequest(Strict):
    """A request whose decision is to be explained. With neither `key_id` nor `key` it carries no credential."""

    method: Method
    url: Url
    key_id: KeyId | None = Field(None, description="The id of the key that it shall be taken to carry.")
    key: str | None = Field(
        None, min_length=1, max_length=KEY_MAX, repr=False, description="The key that it carries, which is never told."
    )
    host: str | None = Field(None, max_length=1024, description="Its host, in place of that of the URL.")
    dialect: str = Field(
        "envoy", pattern="^[a-z]{1,32}$", description="The listener that is asked, as `envoy`, `nginx` or `forward`."
    )
    at: At = None
    address: str = Field("", max_length=255, description="The client's address, for limits of public routes.")

    @model_validator(mode="after")
    def _one_key(self) -> "ExplainedRequest":
        if self.key is not None and self.key_id is not None:
            raise ValueError("key and key_id exclude each other")
        return self

    def question(self) -> ExplainQuestion:
        """What is to be explained."""
        url = parse_url(self.url)
        return ExplainQuestion(
            method=self.method,
            path=url.path,
            host=url.host if self.host is None else self.host,
            dialect=self.dialect,
            key=self.key,
            key_id=self.key_id,
            at=None if self.at is None else self.at.timestamp(),
            address=self.address,
        )


class _Step(AnswerModel):
    outcome: Literal["ok", "refused", "skipped"]
    why: str = Field(description="What decided, in a sentence; may be empty.")
    next: str = Field(description="What changes that, in a sentence; may be empty.")


class PathStep(_Step):
    """Whether two readers could understand the path differently; `path` is without its query."""

    step: Literal["path"]
    path: str


class HostStep(_Step):
    """Whether the host is one that all readers understand alike, where a route names one."""

    step: Literal["host"]
    host: str | None
    needed: bool = Field(description="A route names a host.")


class _Place(AnswerModel):
    path: str
    host: str | None = Field(description="Null: any.")
    methods: list[str] | None = Field(description="Null: all.")


class MatchedRoute(_Place):
    """The route that answers, and what it asks for; a public one asks for nothing."""

    resource: str | None
    mode: Literal["read", "write"] | None
    cost: int
    public: bool
    cache: bool
    limits: LimitsMode


class NearRoute(_Place):
    """A route that nearly answered."""

    because: Literal["method", "host", "segment", "encoding", "resource", "less_specific"]
    detail: str


class RouteStep(_Step):
    """Which route answers, and which ones nearly did."""

    step: Literal["route"]
    route: MatchedRoute | None
    near: list[NearRoute]


class CredentialStep(_Step):
    """Whether the request carries something in the form of a key."""

    step: Literal["credential"]
    given: Literal["key", "key_id", "none"]


_Layer = Literal["process", "redis", "postgresql"]


class KeyStep(_Step):
    """Whose key it is, and whether it may be used. `layer` answered; `age_seconds` ago PostgreSQL was read for that."""

    step: Literal["key"]
    api_key_id: str | None
    name: str | None
    layer: _Layer | None
    age_seconds: float | None
    layers: list[_Layer] = Field(description="Those that were there to be looked at.")
    expires_at: Time | None
    revoked_at: Time | None
    disabled_at: Time | None


class OrganizationStep(_Step):
    """Which organization it is, and whether that may use the service."""

    step: Literal["organization"]
    organization_id: str | None
    name: str | None
    plan: str | None
    status: Status | None
    limits_mode: LimitsMode | None
    layer: _Layer | None
    age_seconds: float | None


class PermissionStep(_Step):
    """What the route asks for, and what the key holds, both as `customer:read`."""

    step: Literal["permission"]
    asked: str | None
    held: list[str]
    meant: str | None = Field(description="The name that was probably meant, of a permission or of a resource.")


class ExplainedLimit(AnswerModel):
    """A limit as it is now; `window` and `reset` are seconds, null where it does not renew."""

    name: str
    limit: int
    window: int | None
    remaining: int
    reset: int | None
    refused: bool


class SmallLimit(AnswerModel):
    """A limit that the cost can never fit."""

    name: str
    limit: int


class LimitsStep(_Step):
    """What the request costs, and what each limit says to that."""

    step: Literal["limits"]
    cost: int | None
    limits: list[ExplainedLimit]
    too_small: list[SmallLimit]
    shadow: bool = Field(description="Limits refuse nothing here.")
    would: str | None = Field(description="The decision if they did.")
    degraded: bool = Field(description="It would pass without being charged: Redis is away.")
    retry_after: int | None
    day: str | None = Field(description="The day that is counted on, in the organization's calendar.")
    month: str | None = Field(description="The first day of its month.")


_AnyStep = PathStep | HostStep | RouteStep | CredentialStep | KeyStep | OrganizationStep | PermissionStep | LimitsStep


class Explanation(AnswerModel):
    """A decision, and the steps to it in their order: path, host, route, credential, key and so on."""

    decision: str
    status: int = Field(description="What the listener of the dialect answers to its proxy.")
    true_status: int = Field(description="What the client gets.")
    code: str | None = Field(description="The code of a refusal.")
    charged: Literal[False]
    steps: list[Annotated[_AnyStep, Field(discriminator="step")]]
