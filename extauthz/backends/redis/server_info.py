"""What a server says of itself: whose memory it has, whether it follows another server, and what it evicts."""

import asyncio
import hashlib
import re
from time import time
from typing import NamedTuple

from redis.exceptions import ResponseError

from extauthz.backends.redis.commands import Commands
from extauthz.core.clock import certain_skew

NO_EPOCH = "0"
_SECTIONS = ("server", "replication", "memory")
_SERVER, _HISTORY = re.compile(r"run_id:([0-9a-f]{40})"), re.compile(r"master_replid:([0-9a-f]{40})")
_REPLICA, _POLICY = re.compile(r"^role:slave\b", re.MULTILINE), re.compile(r"maxmemory_policy:([a-z-]{1,40})")
_EVICTS_NOTHING, _CLOCK = "noeviction", re.compile(r"server_time_usec:([0-9]{1,18})")


class ServerInfo(NamedTuple):
    """`epoch` is of the server and of the history of its data: the same server is another once it has followed another.

    `evicting` is its maxmemory-policy where that drops our keys when memory is short. NO_EPOCH, False, an empty
    text and None where the server does not say.
    """

    epoch: str = NO_EPOCH
    replica: bool = False
    evicting: str = ""
    clock_skew: float | None = None  # seconds, see core/clock.py


async def read(client: Commands) -> ServerInfo:
    """What the server says; nothing where the user may not ask: lost memory is then seen where it is empty."""
    asked_at = time()
    answers = await asyncio.gather(
        *(client.execute_command("INFO", section) for section in _SECTIONS), return_exceptions=True
    )
    answered_at = time()
    texts: list[str] = []
    for answer in answers:
        if isinstance(answer, ResponseError):
            return ServerInfo()
        if isinstance(answer, BaseException):
            raise answer
        texts.append(answer.decode("utf-8", "replace"))
    server, replication, memory = texts
    clock = _CLOCK.search(server)
    identity, history, policy = _SERVER.search(server), _HISTORY.search(replication), _POLICY.search(memory)
    epoch = NO_EPOCH
    if identity is not None and history is not None:
        epoch = hashlib.sha256((identity[1] + history[1]).encode()).hexdigest()[:12]
    return ServerInfo(
        epoch,
        _REPLICA.search(replication) is not None,
        policy[1] if policy and policy[1] != _EVICTS_NOTHING else "",
        None if clock is None else certain_skew(asked_at, int(clock[1]) / 1e6, answered_at),
    )
