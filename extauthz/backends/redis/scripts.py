"""Scripts that Redis runs whole or not at all."""

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import hiredis
from redis.exceptions import NoScriptError

from extauthz.backends.redis.commands import Commands
from extauthz.backends.redis.wire import Wire

# What a script that charges stands on, in this order.
CHARGING = ("layout", "leases", "asked", "bucket", "counters", "limits", "save")


def read(*names: str) -> str:
    """The texts of `scripts/<name>.lua` as one script; the header of the last names its keys, arguments and result."""
    folder = files("extauthz.backends.redis").joinpath("scripts")
    return "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names)


class Begun(NamedTuple):
    """A packed command, and what is called with its answer."""

    command: bytes
    answered: Callable[[Any], None]


class Script:
    """One that runs where its keys are."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def send(self, client: Commands, key: str, *arguments: int | str) -> Any:
        """What the script returns for one key; it is sent whole, and Redis keeps it from then on."""
        return await client.execute_command("EVAL", self._text, 1, key, *arguments)

    async def run(self, client: Commands, key: str, *arguments: int | str) -> Any:
        """What the script returns for one key. It is sent once more only where Redis said that it did not know it."""
        return await self.run_many(client, (key,), arguments)

    async def run_many(self, client: Commands, keys: Sequence[str], arguments: Sequence[int | str | bytes]) -> Any:
        """What the script returns. It is sent once more only where Redis said that it did not know it."""
        try:
            return await client.execute_command("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.execute_command("EVAL", self._text, len(keys), *keys, *arguments)

    def begin(
        self,
        wire: Wire,
        keys: Sequence[str],
        arguments: Sequence[int | str | bytes],
        *,
        answered: Callable[[Any], None],
        before: "Begun | None" = None,
    ) -> None:
        """Runs the script without waiting, in one write with what is to run `before` it.

        `answered` is called once with what the script returns, or with a refusal. It must not raise.
        """
        begun = self.begun(wire, keys, arguments, answered=answered)
        if before is None:
            wire.send(begun.command, begun.answered)
        else:
            wire.send(before.command + begun.command, before.answered, begun.answered)

    def begun(
        self,
        wire: Wire,
        keys: Sequence[str],
        arguments: Sequence[int | str | bytes],
        *,
        answered: Callable[[Any], None],
    ) -> "Begun":
        """The same as a command that is yet to be sent."""
        asked: tuple[Any, ...] = (len(keys), *keys, *arguments)

        def known(answer: Any) -> None:
            if isinstance(answer, NoScriptError) and wire.open:
                wire.send(hiredis.pack_command(("EVAL", self._text, *asked)), answered)
            else:
                answered(answer)

        return Begun(hiredis.pack_command(("EVALSHA", self._sha, *asked)), known)
