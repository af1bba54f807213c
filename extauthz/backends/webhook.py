"""The HTTP server that webhooks are sent to. It is not trusted: nothing that it answers is used or repeated."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)

DELIVERY_TIMEOUT_SECONDS = 10.0  # for a delivery, from the look-up of the name to the head of the answer
AGENT = "extauthz"

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "timeout"),
    (ClientSSLError, "tls"),
    (ClientConnectionError, "connection"),
    (OSError, "connection"),
    (ClientError, "answer"),
    (ValueError, "address"),
)
_FAILURES = tuple(kind for kind, _ in _REASONS)


class WebhookReceiver:
    """The server at one address, which may hold a credential and is never shown."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def post(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Hands it over. Empty for an answer of 200 to 299, else a few words that say why not.

        Redirects are not followed, and the body of an answer is not read.
        """
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                return "" if 200 <= answer.status <= 299 else f"status {answer.status}"
        except _FAILURES as error:  # their own words may hold the address
            return next(reason for kind, reason in _REASONS if isinstance(error, kind))


@asynccontextmanager
async def webhook_receiver(url: str, *, timeout: float = DELIVERY_TIMEOUT_SECONDS) -> AsyncIterator[WebhookReceiver]:  # noqa: ASYNC109 - of each delivery
    """The receiver at `url`, given `timeout` seconds for each delivery. Every delivery has a connection of its own."""
    async with ClientSession(
        connector=TCPConnector(force_close=True),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=timeout),
        headers={"user-agent": AGENT},
    ) as session:
        yield WebhookReceiver(session, url)
