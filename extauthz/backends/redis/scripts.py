"""Scripts that Redis runs whole or not at all."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from extauthz.backends.redis.commands import Commands


def read(name: str) -> str:
    """The text of `scripts/<name>.lua`; its header names its keys, arguments and result."""
    return files("extauthz.backends.redis").joinpath(f"scripts/{name}.lua").read_text("utf-8")


class Script:
    """One that runs where its keys are."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def send(self, client: Commands, key: str, *arguments: int | str) -> Any:
        """What the script returns for one key; it is sent whole, and Redis knows it from then on."""
        return await client.execute_command("EVAL", self._text, 1, key, *arguments)

    async def run(self, client: Commands, key: str, *arguments: int | str) -> Any:
        """What the script returns for one key. It is sent once more only where Redis said that it did not know it."""
        return await self.run_many(client, (key,), arguments)

    async def run_many(self, client: Commands, keys: Sequence[str], arguments: Sequence[int | str]) -> Any:
        """What the script returns. It is sent once more only where Redis said that it did not know it."""
        try:
            return await client.execute_command("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.execute_command("EVAL", self._text, len(keys), *keys, *arguments)
