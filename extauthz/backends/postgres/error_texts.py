"""What PostgreSQL, a pooler or the network say of a failure, in their own words, and what helps."""

import re

import psycopg
from psycopg import errors as pg

LONGEST = 300  # characters

# The first that fits the words. libpq names host, port, user and database in them, never a password.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"password authentication failed|no password supplied|SASL|role .* does not exist|not permitted to log in"
        r"|no such user|wrong password type|auth.* failed",
        "see that user and password in {setting} are right",
    ),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", "allow this user and address in pg_hba.conf"),
    (r"database .* does not exist|no such database", "create the database, or mend its name in {setting}"),
    (r"not currently accepting connections", "ALTER DATABASE … ALLOW_CONNECTIONS true"),
    (
        r"unsupported startup parameter|command-line options|startup parameter",
        "take the parameter out of {setting}, or add it to ignore_startup_parameters of PgBouncer",
    ),
    (r"statement pooling mode", "PgBouncer must pool transactions or sessions: pool_mode = transaction"),
    (
        r"too many (clients|connections)|remaining connection slots|no more connections allowed",
        "raise the limit of connections, or run fewer workers",
    ),
    (r"server_login_retry|server login (has been )?fail", "see that PostgreSQL runs behind PgBouncer"),
    (r"resolve host|translate host name", "mend the host in {setting}, or the name service"),
    (r"Connection refused|No such file or directory", "see that it runs and that {setting} is right"),
    (r"SSL|certificate", "see that sslmode and certificates in {setting} fit the server"),
    (r"starting up|shutting down|recovery mode", "wait until PostgreSQL has started"),
    (r"read-only transaction|during recovery", "point {setting} at a server that takes writes"),
    (r"No space left|could not (extend|write)|disk full", "free space on PostgreSQL's disk"),
    (r"permission denied", "grant it to the user in {setting}"),
)
_ANY = "see that it runs and that {setting} is right"
_AUTHENTICATION = re.compile(_REMEDIES[0][0] + "|" + _REMEDIES[1][0])


def said(error: BaseException) -> str:
    """The words in one line; empty where the failure is none of the server or the network."""
    if not isinstance(error, psycopg.OperationalError | psycopg.ProgrammingError | pg.ReadOnlySqlTransaction | OSError):
        return ""
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return ""  # the driver speaks of what it was given, and may repeat it
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    first = next(iter((primary or str(error)).strip().splitlines()), "")
    words = re.sub(r"^(FATAL|ERROR): *", "", first.rpartition("failed: ")[2])
    return "".join(letter if letter.isprintable() else " " for letter in words)[:LONGEST].strip()


def remedy(words: str, setting: str = "DATABASE_URL") -> str:
    """What helps against what was said."""
    text = next((text for pattern, text in _REMEDIES if re.search(pattern, words)), _ANY)
    return text.format(setting=setting)


def is_authentication(words: str) -> bool:
    """Whether the server does not let this user in."""
    return _AUTHENTICATION.search(words) is not None
