"""The wall: whatever the driver raises becomes one of our exceptions, by table, with its cause kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from extauthz.backends.postgres import error_texts
from extauthz.core.errors import Conflict, ExtauthzError, InvalidInput, StoreUnavailable
from extauthz.core.masking import shown
from extauthz.core.ports import POSTGRESQL


class NoConnection(Exception):
    """A pool has no connection for a caller; `cause` is why, None where there is no other cause than the wait.

    `busy`: too many callers wait already, which says nothing of the server.
    """

    def __init__(self, cause: Exception | None, *, busy: bool = False) -> None:
        super().__init__("there are too many callers" if busy else "no connection in time")
        self.cause = cause
        self.busy = busy


class Silent(psycopg.OperationalError):
    """The server did not answer although it should have ended the statement long before; its connection is lost."""


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    # The circuit breaker admits no more calls than there are connections, so a wait in vain is one for the server.
    (NoConnection, "connection"),
    (pg.ConnectionTimeout, "timeout"),
    (Silent, "timeout"),
    (pg.QueryCanceled, "timeout"),
    (pg.DeadlockDetected, "conflict"),
    (pg.SerializationFailure, "conflict"),
    (psycopg.IntegrityError, "refused"),
    (pg.RaiseException, "refused"),
    (pg.UndefinedTable, "schema"),
    (pg.UndefinedColumn, "schema"),
    (pg.InsufficientPrivilege, "authentication"),
    (pg.InvalidAuthorizationSpecification, "authentication"),
    (pg.ReadOnlySqlTransaction, "read_only"),
    (pg.DiskFull, "disk_full"),
    (psycopg.OperationalError, "connection"),
    (OSError, "connection"),
)
_TOLD = frozenset({"connection", "authentication", "read_only", "disk_full"})  # with the words of the server

_ENDED = (pg.AdminShutdown, pg.CrashShutdown, pg.IdleSessionTimeout, pg.ProtocolViolation)


def ended_before(error: psycopg.OperationalError) -> bool:
    """Whether a statement failed because its connection had ended: its server, a pooler or a router ended it."""
    return isinstance(error, _ENDED) or (type(error) is psycopg.OperationalError and error.sqlstate is None)


@contextmanager
def translated() -> Iterator[None]:
    """Turns every failure of the driver into StoreUnavailable; InvalidInput where a text cannot even be sent."""
    try:
        yield
    except ExtauthzError:
        raise
    except Exception as error:
        if isinstance(error, UnicodeEncodeError) or (isinstance(error, psycopg.DataError) and error.sqlstate is None):
            # A person's: nothing that a check asks for comes unseen from a client.
            raise InvalidInput("PostgreSQL cannot hold NUL or half a character in a text") from error
        raise _unavailable(error) from _cause(error)


def _cause(error: Exception) -> Exception:
    """What is at the bottom of a failure: why there is no connection."""
    return error.cause if isinstance(error, NoConnection) and error.cause is not None else error


def _unavailable(error: Exception) -> StoreUnavailable:
    if isinstance(error, NoConnection) and error.busy:
        return StoreUnavailable(POSTGRESQL, "busy")
    cause = _cause(error)
    reason = next((reason for kind, reason in _REASONS if isinstance(cause, kind)), "client")
    said = error_texts.said(cause) if reason in _TOLD else ""
    if reason == "connection" and error_texts.is_authentication(said):
        reason = "authentication"
    return StoreUnavailable(POSTGRESQL, reason, said=said, remedy=error_texts.remedy(said) if said else "")


_PLAN_NAME = (
    "a plan's name is 1 to 64 letters, digits, blanks and . _ -, begins with a letter or digit, ends with no blank, and"
    " does not look like an id"
)

# What the constraints and triggers of the schema ask for, in a person's words.
_RULES = {
    "plans_name_valid": _PLAN_NAME,
    "plans_name_no_id": _PLAN_NAME,
    "organizations_name_valid": "an organization's name is 1 to 255 characters, none a control or invisible one, no"
    " blank at its ends, and does not look like an id",
    "api_keys_name_valid": "a key's name is at most 255 characters, none of them a control or invisible one",
    "plans_name_taken": "a plan of that name is there already",
    "organizations_name_taken": "an organization of that name is there already",
    "plans_rate_and_burst_go_together": "rate and burst go together: give both",
    "api_keys_rate_and_burst_go_together": "rate and burst go together: give both",
    "organizations_rate_and_burst_go_together": "rate and burst go together, its own or its plan's: both or none",
    "organizations_timezone_valid": "timezone must be one that PostgreSQL has; one is Europe/Berlin",
    "organizations_overrides_until_valid": "until is a time from 1970 to 9998, in UTC",
    "plans_bucket_is_overridden": "organizations override half of this plan's bucket; clear that first",
    "organizations_until_ends_own_limits": "until is the end of an organization's own limits, and it has none",
    "api_keys_metadata_valid": "metadata is at most 50 texts of up to 500 characters, under names of 1 to 64",
    "api_keys_hash_taken": "the key is there already",
    "api_keys_hash_retired": "the key was revoked and deleted; a revoked key never comes back",
    "api_keys_revoked_for_good": "the key is revoked, for good",
}


@contextmanager
def refused() -> Iterator[None]:
    """Turns what the database refuses of a person's change into Conflict or InvalidInput, in words that name it."""
    try:
        with translated():
            yield
    except StoreUnavailable as error:
        cause = error.__cause__
        constraint = cause.diag.constraint_name or "" if isinstance(cause, psycopg.Error) else ""
        if isinstance(cause, pg.UniqueViolation):
            raise Conflict(_RULES.get(constraint, f"it is there already ({constraint})")) from cause
        if isinstance(cause, pg.ForeignKeyViolation | pg.RestrictViolation):
            rule = _RULES.get(constraint, "it is still in use, or what it refers to is gone")
            raise Conflict(rule + _named(cause, constraint)) from cause
        if error.reason == "conflict":
            raise Conflict("others changed the same at this moment; nothing was changed, try it again") from cause
        if isinstance(cause, pg.InvalidParameterValue):
            raise InvalidInput(f"the database refuses it: {cause.diag.message_primary}") from cause
        if isinstance(cause, pg.CheckViolation | pg.NotNullViolation | psycopg.DataError):
            raise InvalidInput(
                _RULES.get(constraint, f"the database refuses it ({constraint or type(cause).__name__})")
            ) from cause
        raise


def _named(cause: psycopg.Error, constraint: str) -> str:
    """Which organizations are in the way, where our trigger says so."""
    names = cause.diag.message_detail if constraint == "plans_bucket_is_overridden" else None
    return f": {shown(names)}" if names else ""
