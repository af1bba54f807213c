"""What sends commands to Redis, as scripts and caches need it."""

from typing import Any, Protocol


class Commands(Protocol):
    """Whatever sends a command to Redis and awaits its answer: a Link, or the client library."""

    async def execute_command(self, *args: Any) -> Any:
        """The answer of one command; raises what `errors.translated` translates."""
        ...
