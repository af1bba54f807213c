"""What Redis or the network say of a failure, in their own words, and what helps."""

import os
import re
import socket

from redis import exceptions as redis

LONGEST = 300  # characters

# The first that fits the words. Other words are not told: a script's error may repeat what it was given.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"^WRONGPASS", "see that user and password in REDIS_URL are right"),
    (r"^NOAUTH", "give the password in REDIS_URL"),
    (r"AUTH.*(without any password|no password is set)", "take the password out of REDIS_URL"),
    (
        r"^NOPERM|^(ERR )?(The user executing the script can't|ACL failure in script)",
        "give the user the rights that docs/howto/run-it.md lists",
    ),
    (r"^READONLY|^MASTERDOWN", "point REDIS_URL at the master"),
    (r"^OOM", "raise maxmemory, with the policy noeviction"),
    (r"^NOREPLICAS", "see that its replicas are connected, or lower min-replicas-to-write"),
    (r"^MISCONF", "see in its log why it cannot save: its disk, its folder"),
    (r"^LOADING", "wait until it has read its data"),
    (r"^BUSY", "end the script that runs there: SCRIPT KILL, FUNCTION KILL"),
    (r"^ERR DB index", "mend the number of the database in REDIS_URL"),
    (r"^ERR unknown command", "REDIS_URL must lead to a Redis or Valkey that has this command"),
    (
        r"Name or service not known|No address associated|name resolution",
        "mend the host in REDIS_URL, or its name service",
    ),
    (r"CERTIFICATE|certificate|SSL|TLS", "see that rediss:// and the certificates fit the server"),
    (r"refused|No such file|unreachable|No route", "see that it runs and that REDIS_URL is right"),
)


def said_and_remedy(error: BaseException) -> tuple[str, str]:
    """The words in one line and what helps; both empty where no words are known to repeat nothing secret."""
    words = _text(error).rstrip(".")
    remedy = next((text for pattern, text in _REMEDIES if re.search(pattern, words)), "")
    return (words, remedy) if remedy else ("", "")


def _text(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return error.strerror or ""
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno and error.errno > 0 else _line(error)
    if type(error) is redis.ConnectionError:  # the client library's words for an OSError
        return _line(error).rpartition("connecting to ")[2].partition(". ")[2]
    return _line(error) if isinstance(error, redis.RedisError) else ""


def _line(error: BaseException) -> str:
    text = next(iter(str(error).strip().splitlines()), "")
    return "".join(letter if letter.isprintable() else " " for letter in text)[:LONGEST].strip()
