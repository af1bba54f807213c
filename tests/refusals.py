"""What a call refuses, for tests with many cases."""

from collections.abc import Callable


def refusal(call: Callable[..., object], *args: object) -> str:
    """The text of the ValueError that a call raises; empty where it raises none."""
    try:
        call(*args)
    except ValueError as error:
        return str(error)
    return ""
