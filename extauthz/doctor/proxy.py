"""A proxy in front: whether it asks extauthz, refuses what extauthz refuses, and drops clients' identity headers."""

import secrets
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import ClientError, ClientSession, ClientTimeout, InvalidURL
from yarl import URL

from extauthz.app.management import key_format
from extauthz.config import Settings
from extauthz.core.credentials import SECRET_BYTES
from extauthz.core.errors import InvalidInput
from extauthz.core.headers import CODE, DECISION, IDENTITY
from extauthz.doctor.finding import ANSWER_TIMEOUT_SECONDS, Finding, system_words

REACHABLE = "proxy reachable"
_FILES = "take the lines of envoy/, nginx/, caddy/ or haproxy/; the README beside them says which go together"
# What a client could say in a proxy's place, to each dialect; `PATH` becomes a public path, where there is one.
_FORGED: Mapping[str, str] = {
    **dict.fromkeys(IDENTITY, "forged"),
    DECISION: "allow",
    "x-original-method": "OPTIONS",
    "x-original-uri": "PATH",
    "x-original-url": "PATH",
    "x-rewrite-url": "PATH",
    "x-forwarded-method": "OPTIONS",
    "x-forwarded-uri": "PATH",
    "x-envoy-auth-failure-mode-allowed": "true",
    "x-envoy-original-path": "PATH",
}


class Answer(NamedTuple):
    """What the proxy answered; `decision` and `code` are empty where extauthz was not asked."""

    status: int
    decision: str
    code: str

    @property
    def refused(self) -> bool:
        """Whether nothing was let through."""
        return self.status >= 400 and self.decision != "allow"

    def __str__(self) -> str:
        return f"{self.status} {self.decision or 'without a decision of extauthz'}"


def proxy_url(text: str) -> URL:
    """The address of a proxy as it was typed. Raises InvalidInput, which does not repeat it."""
    try:
        url = URL(text)
    except ValueError:
        raise InvalidInput("--proxy must be http://host:port/path or https://…") from None
    if url.scheme not in ("http", "https") or not url.host or url.user or url.password or url.fragment:
        raise InvalidInput("--proxy must be http://host:port/path or https://…, without user and password")
    return url


async def proxy(settings: Settings, url: URL) -> list[Finding]:
    """What can be seen of it from outside, without a key."""
    form = key_format(settings)
    where = form.hide(str(url.with_query(None)))  # a query may hold a key of any form
    async with ClientSession(timeout=ClientTimeout(total=ANSWER_TIMEOUT_SECONDS)) as client:
        try:
            plain = await _ask(client, url)
            findings = [_asks_us(where, plain)]
            if not findings[0].ok or plain.decision == "allow":
                return findings
            unknown = form.issue(secrets.token_bytes(SECRET_BYTES))
            with_key = await _ask(client, url, {"authorization": f"Bearer {unknown}"})
            forged = await _ask(client, url, {name: _value(settings, text) for name, text in _FORGED.items()})
            path = await _ask(client, _detour(settings, url))
        except (ClientError, InvalidURL, OSError, TimeoutError) as error:
            return [
                Finding(REACHABLE, False, f"{where}: {_why(error)}", "see that it runs and that the address is right")
            ]
    return [*findings, _unknown_key(with_key), _forgery(plain, forged), _ambiguous(path)]


def _asks_us(where: str, answer: Answer) -> Finding:
    if answer.decision == "allow":
        detail = f"{where} is a public route: it says little of the proxy"
        return Finding(REACHABLE, True, detail, "give --proxy the address of a path that needs a key")
    if answer.status < 400:
        detail = f"{where} lets a request without a key through, and extauthz was not asked ({answer.status})"
        return Finding(REACHABLE, False, detail, _FILES)
    if answer.code == "authentication_unavailable" or answer.status in (502, 503, 504):
        detail = f"{where}: the proxy gets no answer from extauthz ({answer})"
        return Finding(REACHABLE, False, detail, "see that extauthz runs, and its address in the proxy's configuration")
    if not answer.decision:
        detail = f"{where} answers {answer.status}, and extauthz was not asked, or its headers do not pass"
        return Finding(REACHABLE, False, detail, _FILES)
    if answer.decision == "bad_proxy_request":
        detail = f"{where}: the proxy does not tell extauthz what is asked ({answer})"
        return Finding(REACHABLE, False, detail, _FILES)
    if answer.decision != "no_credentials":
        detail = f"{where} is refused by extauthz ({answer}), before it looks at a key"
        return Finding(REACHABLE, True, detail, "give --proxy the address of a path that a route has")
    return Finding(REACHABLE, True, f"{where} is refused without a key ({answer})")


def _unknown_key(answer: Answer) -> Finding:
    check = "proxy key"
    if not answer.refused:
        return Finding(check, False, f"a request with an invented key is let through ({answer})", _FILES)
    if answer.decision in ("no_credentials", "malformed_credentials"):
        detail = f"the key of a request does not arrive at extauthz as it was sent ({answer})"
        return Finding(check, False, detail, "let the proxy hand on Authorization to extauthz")
    return Finding(check, True, f"an invented key is refused ({answer})")


def _forgery(plain: Answer, answer: Answer) -> Finding:
    """Headers that only a proxy may send must change nothing. Some proxies refuse the request for them."""
    check = "proxy headers"
    if not answer.refused:
        return Finding(check, False, f"a request that forges a proxy's headers is let through ({answer})", _FILES)
    if answer.decision not in ("", plain.decision):
        detail = f"a client's own headers reach extauthz: {answer} instead of {plain}"
        return Finding(check, False, detail, _FILES)
    return Finding(check, True, "forged identity and proxy headers let nothing through")


def _ambiguous(answer: Answer) -> Finding:
    check = "proxy paths"
    if not answer.refused:
        return Finding(check, False, f"a path with %2e%2e in it is let through ({answer})", _FILES)
    return Finding(check, True, "a path that two readers understand differently is refused")


async def _ask(client: ClientSession, url: URL, headers: Mapping[str, str] | None = None) -> Answer:
    async with client.get(url, headers=headers, allow_redirects=False) as answer:
        return Answer(answer.status, answer.headers.get(DECISION, ""), answer.headers.get(CODE, ""))


def _public_path(settings: Settings) -> str:
    """A path of a public route; the root where there is none."""
    for route in settings.routes.routes:
        if route.public:
            return "/".join("doctor" if part in ("*", "**") else part for part in route.path.split("/"))
    return "/"


def _value(settings: Settings, text: str) -> str:
    return text.replace("PATH", _public_path(settings))


def _detour(settings: Settings, url: URL) -> URL:
    """The same resource by way of a public path: open where the check precedes normalisation."""
    path = f"{_public_path(settings).rstrip('/')}/%2e%2e/%2e%2e{url.raw_path}"
    return URL(f"{url.origin()}{path}", encoded=True)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_TIMEOUT_SECONDS:g} seconds"
    cause = getattr(error, "os_error", error)
    return system_words(cause) if isinstance(cause, OSError) else type(error).__name__
