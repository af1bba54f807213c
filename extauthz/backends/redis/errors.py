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
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "client")
        raise StoreUnavailable(REDIS, reason) from error
