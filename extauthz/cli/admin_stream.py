"""A client of the private REST API for commands that watch a running service."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from extauthz.config.values import Listen, listen
from extauthz.core.errors import ExtauthzError, InvalidInput
from extauthz.core.masking import masked
from extauthz.doctor.finding import system_words

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 30.0  # the service says at least every ten that it is there
FIELD_SECONDS = 1.0

_URL = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?/?")
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - asked on the loopback


class StreamFailed(ExtauthzError):
    """The service could not be watched, or ended; the text says what to do next."""


class AdminStream:
    """One connection to the private listener of an instance. `where` is its address, as operators write it."""

    def __init__(self, given: str | None, configured: Listen | None, token: bytes) -> None:
        """`given` is what was typed, None: the service is where `configured` says. Raises InvalidInput."""
        self.where, self._base, self._socket = _address(given, configured)
        self._headers = {"Authorization": f"Bearer {token.decode('ascii')}"}
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """With a connection, until left."""
        connector = aiohttp.TCPConnector() if self._socket is None else aiohttp.UnixConnector(self._socket)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers) as session:
            self._session = session
            yield

    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The lines of an answer as they come, until it ends, which is a failure. Raises StreamFailed."""
        try:
            async with self._get(path, query) as answer:
                if answer.status != 200:
                    raise StreamFailed(await self._refusal(answer))
                async for line in answer.content:
                    yield line
        except TimeoutError:
            raise StreamFailed(
                f"extauthz at {self.where} does not answer: see that it runs, and ask its /livez"
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise StreamFailed(
                f"nothing answers at {self.where} ({system_words(error.os_error)}): see that extauthz serves and that"
                " EXTAUTHZ_ADMIN_LISTEN is right, or name the place with --admin"
            ) from None
        except (aiohttp.ClientError, ValueError):
            raise StreamFailed(f"the connection to extauthz at {self.where} broke off; try again") from None
        raise StreamFailed(f"extauthz at {self.where} has ended the stream, because it stops; try again when it is up")

    async def field(self, path: str, name: str) -> str:
        """One field of a JSON object; empty where it cannot be had soon."""
        try:
            async with asyncio.timeout(FIELD_SECONDS), self._get(path, {}) as answer:
                return str((await answer.json())[name]) if answer.status == 200 else ""
        except (TimeoutError, aiohttp.ClientError, ValueError, KeyError):
            return ""

    def _get(self, path: str, query: Mapping[str, str]) -> Any:
        if self._session is None:
            raise RuntimeError("the stream is not open")
        return self._session.get(f"{self._base}{path}", params=dict(query), allow_redirects=False)

    async def _refusal(self, answer: aiohttp.ClientResponse) -> str:
        try:
            problem = await answer.json(content_type="application/problem+json")
            code, detail = str(problem["code"]), str(problem["detail"])
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            return f"{self.where} is not the private listener of extauthz, or of an older one (status {answer.status})"
        if answer.status == 401:
            return (
                f"extauthz at {self.where} refuses the token: EXTAUTHZ_ADMIN_TOKEN must be one that it was started with"
            )
        if code == "admin_token_not_set":
            return f"extauthz at {self.where} has no EXTAUTHZ_ADMIN_TOKEN: set one and start it again"
        return masked(detail)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs what watches, to its end."""
    asyncio.run(work)


def _address(given: str | None, configured: Listen | None) -> tuple[str, str, str | None]:
    """The name of the address in messages, the beginning of its URLs, and the Unix socket if it is one."""
    if given is not None and _URL.fullmatch(given):
        return given.rstrip("/"), given.rstrip("/"), None
    place = configured
    if given is not None:
        try:
            place = listen(given)
        except ValueError:
            place = None
        if place is None:
            raise InvalidInput("--admin must be http://host:port, host:port or unix:/path")
    if place is None:
        raise InvalidInput("EXTAUTHZ_ADMIN_LISTEN is off: name the private listener of the service with --admin URL")
    if place.path is not None:
        return str(place), "http://localhost", place.path
    if place.port == 0:
        raise InvalidInput("EXTAUTHZ_ADMIN_LISTEN has port 0: name the port that the service logged with --admin URL")
    where = f"{_EVERYWHERE.get(place.host, place.host)}:{place.port}"
    return where, f"http://{where}", None
