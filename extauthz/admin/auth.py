"""Bearer authentication of the API. Refusals are slowed down, and a right token never waits for them."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from extauthz.admin.problems import Problem

SETTING = "EXTAUTHZ_ADMIN_TOKEN"
WRONG_TOKEN_DELAY_SECONDS = 1.0  # that the answer to a wrong token is held back
HELD_MAX = 1000  # answers held back at once; each has a connection

_CHALLENGE = 'Bearer realm="extauthz admin"'
_OWN_SITES = ("none", "same-origin")


class Crowded(Exception):
    """Too many wrong tokens wait for their answer. This one gets none: a quick one would tell how a guess went."""


async def one_second() -> None:
    """What the answer to a wrong token waits for."""
    await asyncio.sleep(WRONG_TOKEN_DELAY_SECONDS)


class BearerAuth:
    """Checks tokens by their digests, kept by the owners' names; the tokens themselves are not kept."""

    def __init__(self, tokens: Mapping[str, bytes], *, pause: Callable[[], Awaitable[None]] = one_second) -> None:
        """`pause` is what the answer to a wrong token waits for."""
        self._digests = [(name, _digest(token)) for name, token in tokens.items()]
        self._pause = pause
        self._held = 0

    @property
    def held(self) -> int:
        """How many answers to wrong tokens are held back now."""
        return self._held

    async def admit(self, headers: CIMultiDictProxy[str]) -> str:
        """The name of the token that a request bears. Raises Problem: 403, 401; Crowded."""
        _refuse_other_sites(headers)
        if not self._digests:
            raise Problem(403, "admin_token_not_set", f"{SETTING} is not set, so this API is closed")
        given = headers.getall(hdrs.AUTHORIZATION, ())
        if not given:
            raise _unauthorized("no_credentials", "this API asks for Authorization: Bearer and a token", _CHALLENGE)
        name = self._owner(given)
        if name is None:
            await self._hold_back()
            detail = f"the credential must be a token of {SETTING}"
            raise _unauthorized("invalid_credentials", detail, f'{_CHALLENGE}, error="invalid_token"')
        return name

    def _owner(self, given: Sequence[str]) -> str | None:
        """Compares with every token, whichever fits, in a time that tells nothing of any of them."""
        scheme, _, token = given[0].partition(" ")
        token = token.lstrip(" ")  # RFC 6750 §2.1: one blank or several
        digest = _digest(token.encode("utf-8", "surrogateescape"))
        owner = None
        for name, known in self._digests:
            if hmac.compare_digest(known, digest):
                owner = name
        readable = len(given) == 1 and scheme.lower() == "bearer" and token.isascii()
        return owner if readable else None

    async def _hold_back(self) -> None:
        if self._held >= HELD_MAX:
            raise Crowded
        self._held += 1
        try:
            await self._pause()
        finally:
            self._held -= 1


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _unauthorized(code: str, detail: str, challenge: str) -> Problem:
    return Problem(401, code, detail, headers={hdrs.WWW_AUTHENTICATE: challenge})


def _refuse_other_sites(headers: CIMultiDictProxy[str]) -> None:
    """A page of another site can make a browser send requests from inside; it gets nothing, not even a challenge."""
    sites = headers.getall("Sec-Fetch-Site", ())
    if hdrs.ORIGIN in headers or any(site not in _OWN_SITES for site in sites):
        detail = "this API answers no web page: the request bears Origin, or Sec-Fetch-Site of another site"
        raise Problem(403, "cross_site_request", detail)
