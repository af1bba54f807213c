"""What the fields of all settings are made with."""

from typing import Annotated, Any

from pydantic import Field, PlainValidator

from extauthz.config import values

Boolean = Annotated[bool, PlainValidator(values.boolean)]


def setting(name: str, default: Any, about: str, *, secret: bool = False) -> Any:
    """A field that is called `name` in the environment; a default that is text is parsed like any other value."""
    parsed = isinstance(default, str) and default != ""
    return Field(default=default, alias=name, description=about, exclude=secret, validate_default=parsed)
