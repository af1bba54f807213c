"""The wall: whatever the client library raises becomes StoreUnavailable, by table."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis

from extauthz.core.errors import ExtauthzError, StoreUnavailable
from extauthz.core.ports import REDIS

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (redis.MaxConnectionsError, "busy"),
    (redis.AuthenticationError, "authentication"),
    (redis.AuthorizationError, "authentication"),
    (redis.NoPermissionError, "authentication"),
    (redis.BusyLoadingError, "loading"),
    (redis.ReadOnlyError, "readonly"),
    (redis.OutOfMemoryError, "memory"),
    (redis.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (redis.ConnectionError, "connection"),
    (OSError, "connection"),
    (redis.ResponseError, "response"),
)

_BY_FIRST_WORD: dict[str, type[redis.RedisError]] = {
    "LOADING": redis.BusyLoadingError,
    "NOAUTH": redis.AuthenticationError,
    "NOPERM": redis.NoPermissionError,
    "NOSCRIPT": redis.NoScriptError,
    "OOM": redis.OutOfMemoryError,
    "READONLY": redis.ReadOnlyError,
    "WRONGPASS": redis.AuthenticationError,
}


def refusal(words: str) -> redis.RedisError:
    """What Redis said as an error, in its own words."""
    return _BY_FIRST_WORD.get(words.partition(" ")[0], redis.ResponseError)(words)


def reason_of(error: Exception) -> str:
    """The short word of a failure."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "client")


@contextmanager
def translated() -> Iterator[None]:
    """Turns every failure of the client library into StoreUnavailable, with its cause kept.

    The library leaks errors that are not its own (AttributeError, TypeError from a torn reply), hence the broad catch.
    """
    try:
        yield
    except ExtauthzError:
        raise
    except Exception as error:
        raise StoreUnavailable(REDIS, reason_of(error)) from error
