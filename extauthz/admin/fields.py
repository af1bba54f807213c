"""The types of fields: what they take, what they say where they refuse, and how OpenAPI describes them.

Nothing is turned into what it is not: true is not 1, "5" is not 5; 5.0 is. No refusal repeats what was sent.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    create_model,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from extauthz.core.limits import BURST_MAX, QUOTA_MAX, Rate
from extauthz.core.management import METADATA_MAX, METADATA_NAME_MAX, METADATA_VALUE_MAX
from extauthz.core.parsing import (
    BLANKS,
    INVISIBLE,
    UNPRINTABLE,
    parse_day,
    parse_duration,
    parse_moment,
    parse_month,
    parse_since,
)
from extauthz.core.permissions import MODES

Model = TypeVar("Model", bound=BaseModel)

_UNFIT = UNPRINTABLE + INVISIBLE
_UUID = "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"


@dataclass(frozen=True, slots=True)
class Shape:
    """A text that matches `pattern` as a whole; `words` say what that is."""

    pattern: str
    words: str
    regex: "re.Pattern[str]" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "regex", re.compile(self.pattern))

    def check(self, text: str) -> str:
        """The text; ValueError says what is right."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half a character") from None
        if not self.regex.fullmatch(text):
            raise ValueError(self.words)
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"pattern": f"^(?:{self.pattern})$"}


def _integer(value: object) -> object:
    """5.0 is 5, as JSON Schema has it; 5.5 and true are not integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_INTEGER = BeforeValidator(_integer)

PlanName = Annotated[
    str,
    Shape(
        r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-])?",
        "is 1 to 64 letters, digits, blanks and . _ -, begins with a letter or digit and ends in no blank",
    ),
]
OrganizationName = Annotated[
    str,
    Shape(
        rf"(?!{_UUID}$)[^{_UNFIT}{BLANKS} ](?:[^{_UNFIT}]{{0,253}}[^{_UNFIT}{BLANKS} ])?",
        "is 1 to 255 characters, none a control or invisible one, no blank at its ends, and does not look like an id",
    ),
]
Status = Literal["active", "suspended"]
LimitsMode = Annotated[
    Literal["enforce", "shadow"], Field(description="Shadow: what limits would refuse is counted and allowed.")
]
TimeZone = Annotated[
    str,
    Shape(r"(?!.{65})[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", "is the name of a time zone, as Europe/Berlin"),
    Field(examples=["Europe/Berlin"], description="Where its days begin, from the next one on."),
]
Anchor = Annotated[
    int,
    _INTEGER,
    Field(ge=1, le=31, description="The day on which its months begin, from the next one on; or their last."),
]
KeyName = Annotated[
    str, Shape(rf"[^{_UNFIT}]{{0,255}}", "is at most 255 characters, none of them a control or invisible one")
]
Reference = Annotated[str, Shape(rf"[^{UNPRINTABLE}]{{1,255}}", "is an id or a name: 1 to 255 characters")]
RoutePattern = Annotated[str, Shape(rf"[^{UNPRINTABLE}]{{1,1024}}", "is the path of a route: 1 to 1,024 characters")]
KeyId = Annotated[str, Shape(_UUID, "must be the id of a key")]
Cursor = Annotated[str, Shape(r"[A-Za-z0-9_=-]{1,512}", "is none that this API has given out as `next`")]


def _rate(text: str) -> str:
    return str(Rate.parse(text))


RateText = Annotated[
    str,
    AfterValidator(_rate),
    WithJsonSchema(
        {
            "type": "string",
            "description": "Tokens per time, above 0: `0.5` or `0.5/s`, `100/min`, `20/h`, `1/d`.",
            "examples": ["100/min"],
            "pattern": r"^(?=.*[1-9])[0-9]{1,9}((\.[0-9]{1,3})?(/s)?|(\.[0-9]{1,2})?/(min|h)|(\.[0-9])?/d)$",
        }
    ),
]
Burst = Annotated[int, _INTEGER, Field(ge=1, le=BURST_MAX, description="The size of the token bucket.")]
Quota = Annotated[int, _INTEGER, Field(ge=0, le=QUOTA_MAX, description="Tokens in one window; 0 allows nothing.")]

CreditsAddition = Annotated[int, _INTEGER, Field(ge=1, le=QUOTA_MAX, description="So many more tokens.")]
CreditsTotal = Annotated[int, _INTEGER, Field(ge=0, le=QUOTA_MAX, description="In total; 0 allows nothing.")]
ChangeReason = Annotated[
    str, Shape(rf"[^{_UNFIT}]{{0,500}}", "is at most 500 characters, none of them a control or invisible one")
]


def _moment(value: object) -> datetime:
    return parse_moment(value if isinstance(value, str) else "")


Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]


def _since(value: object) -> datetime:
    return parse_since(value if isinstance(value, str) else "", datetime.now(UTC))


Since = Annotated[
    datetime,
    BeforeValidator(_since),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$"}]}
    ),
]


def _day(value: object) -> date:
    return parse_day(value if isinstance(value, str) else "")


Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]


def _month(value: object) -> date:
    return parse_month(value if isinstance(value, str) else "")


Month = Annotated[
    date,
    BeforeValidator(_month),
    WithJsonSchema({"type": "string", "pattern": "^(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])$", "examples": ["2030-01"]}),
]

GRACE_MAX = timedelta(days=365)


def _grace(value: object) -> timedelta:
    value = _integer(value)
    length: timedelta | None = None
    if isinstance(value, str):
        length = parse_duration(value)
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= GRACE_MAX.total_seconds():
        length = timedelta(seconds=value)
    if length is None or length > GRACE_MAX:
        raise ValueError("must be a whole number of seconds or a duration like 90s, 15m, 1h, 30d, up to 365 days")
    return length


Grace = Annotated[
    timedelta,
    BeforeValidator(_grace),
    WithJsonSchema(
        {
            "description": "How long the old key still works: seconds, or a duration; at most 365 days, else an hour.",
            "examples": ["1h"],
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": int(GRACE_MAX.total_seconds())},
                {"type": "string", "pattern": "^(?:[0-9]{1,7}s|[0-9]{1,5}m|[0-9]{1,3}h|[12]?[0-9]{1,2}d)$"},
            ],
        }
    ),
]


@dataclass(frozen=True, slots=True)
class Closed:
    """An object whose names all have the shape of its key type."""

    extra: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "additionalProperties": False, **self.extra}


ResourceName = Annotated[str, Shape(r"\*|[A-Za-z0-9_-]{1,64}", "is * or 1 to 64 of A-Z a-z 0-9 _ -")]
PermissionMap = Annotated[
    dict[ResourceName, list[Literal["read", "write"]]],
    Closed({"description": "Resource to modes; `*` is every resource.", "examples": [{"customer": list(MODES)}]}),
]
Metadata = Annotated[
    dict[
        Annotated[str, Shape(rf"[^\x00]{{1,{METADATA_NAME_MAX}}}", f"a name is 1 to {METADATA_NAME_MAX} characters")],
        Annotated[
            str, Shape(rf"[^\x00]{{0,{METADATA_VALUE_MAX}}}", f"a value is at most {METADATA_VALUE_MAX} characters")
        ],
    ],
    Field(max_length=METADATA_MAX),
    Closed({"description": "Your own texts by your own names; extauthz does not use them."}),
]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value, re.ASCII) else value


def _truth(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


WholeInQuery = Annotated[int, BeforeValidator(_whole)]
TruthInQuery = Annotated[bool, BeforeValidator(_truth)]


def with_fields(
    added: Mapping[str, object], *, behind: str = "", default: object = ...
) -> Callable[[type[Model]], type[Model]]:
    """Makes a model with further fields, all with one default, behind a field of its own or at the end."""

    def extended(model: type[Model]) -> type[Model]:
        further = {name: (annotation, default) for name, annotation in added.items()}
        fields: dict[str, Any] = {}
        for name, info in model.model_fields.items():
            fields[name] = info.annotation, info
            if name == behind:
                fields |= further
        base: Any = model.__base__
        made: type[Model] = create_model(
            model.__name__, __base__=base, __doc__=model.__doc__, __module__=model.__module__, **(fields | further)
        )
        return made

    return extended
