"""The wall: whatever the client library raises becomes StoreUnavailable, by table."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis

from extauthz.backends.redis.error_texts import said_and_remedy
from extauthz.core.errors import ExtauthzError, StoreUnavailable
from extauthz.core.ports import REDIS


class NoReplicasError(redis.ResponseError):
    """A master without enough replicas takes no writes: after a failover it may be the one that was left behind."""


class DiskError(redis.ResponseError):
    """The server cannot save its data, and takes no writes until it can."""


class MasterDownError(redis.ResponseError):
    """A replica has lost its master, and does not answer from what it has."""


class ScriptBusyError(redis.ResponseError):
    """Another client's script or function does not end."""


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (redis.MaxConnectionsError, "busy"),
    (redis.AuthenticationError, "authentication"),
    (redis.AuthorizationError, "authentication"),
    (redis.NoPermissionError, "permission"),
    (redis.BusyLoadingError, "loading"),
    (redis.ReadOnlyError, "readonly"),
    (redis.OutOfMemoryError, "memory"),
    (NoReplicasError, "replicas"),
    (DiskError, "disk"),
    (MasterDownError, "replica"),
    (ScriptBusyError, "script"),
    (redis.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (redis.ConnectionError, "connection"),
    (OSError, "connection"),
    (redis.ResponseError, "response"),
)

_BY_FIRST_WORD: dict[str, type[redis.RedisError]] = {
    "BUSY": ScriptBusyError,
    "LOADING": redis.BusyLoadingError,
    "MASTERDOWN": MasterDownError,
    "MISCONF": DiskError,
    "NOAUTH": redis.AuthenticationError,
    "NOPERM": redis.NoPermissionError,
    "NOREPLICAS": NoReplicasError,
    "NOSCRIPT": redis.NoScriptError,
    "OOM": redis.OutOfMemoryError,
    "READONLY": redis.ReadOnlyError,
    "WRONGPASS": redis.AuthenticationError,
}


# Inside a script a missing permission has no word of its own: Redis 7.0, then Redis 7.2 and Valkey.
_NO_PERMISSION = re.compile(r"(ERR )?(The user executing the script can't |ACL failure in script)")
# A password for a server that asks for none has no word of its own either.
_NO_PASSWORD_WANTED = re.compile(r"ERR (AUTH <password> called without any password|Client sent AUTH, but no password)")


def refusal(words: str) -> redis.RedisError:
    """What Redis said as an error, in its own words."""
    if _NO_PASSWORD_WANTED.match(words):
        return redis.AuthenticationError(words)
    if _NO_PERMISSION.match(words):
        return redis.NoPermissionError(words)
    return _BY_FIRST_WORD.get(words.partition(" ")[0], redis.ResponseError)(words)


def reason_of(error: Exception) -> str:
    """The short word of a failure."""
    if type(error) is redis.ResponseError:  # the client library has no class for some refusals
        error = refusal(str(error))
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "client")


def unavailable(error: Exception) -> StoreUnavailable:
    """A failure with its short word, and what Redis says of it."""
    said, remedy = said_and_remedy(error)
    return StoreUnavailable(REDIS, reason_of(error), said=said, remedy=remedy)


@contextmanager
def translated() -> Iterator[None]:
    """Turns every failure of the client library into StoreUnavailable, with its cause kept.

    The library leaks errors that are not its own (AttributeError, TypeError from a torn reply), so the catch is broad.
    """
    try:
        yield
    except ExtauthzError:
        raise
    except Exception as error:
        raise unavailable(error) from error
