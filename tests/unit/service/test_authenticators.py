"""Which authenticator is asked for a token: the first that recognises it."""

from dataclasses import dataclass

from extauthz.core.credentials import NoCredential
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.service.check.authenticate import Authenticated, Authentication, Refused
from tests.unit.service.fakes import KEY, TENANT


@dataclass
class Tokens:
    """An Authenticator of tokens that begin with a letter; those that end with a slash are malformed."""

    letter: str

    def read(self, token: str) -> str | NoCredential | None:
        if not token.startswith(self.letter):
            return None
        return NoCredential(Reason.INVALID_CREDENTIALS, "wrong_form") if token.endswith("/") else token

    async def prove(self, credential: str, *_: object, **__: object) -> Authenticated:
        assert credential.startswith(self.letter)
        return Authenticated(KEY, TENANT)


def asked(token: str) -> CheckRequest:
    return CheckRequest("envoy", "GET", "/", "", (f"Bearer {token}",), "", "", 0.0, 0.0, 0.0)


async def test_the_first_that_recognises_a_token_decides() -> None:
    """Another kind of token goes on to the next authenticator; one that it recognises is refused or proved there."""
    authentication = Authentication([Tokens("a"), Tokens("b"), Tokens("ab")])
    assert await authentication.authenticate(asked("abc")) == Authenticated(KEY, TENANT)
    assert await authentication.authenticate(asked("bcd")) == Authenticated(KEY, TENANT)
    for token in ("ab/", "xyz"):
        refused = await authentication.authenticate(asked(token))
        assert isinstance(refused, Refused)
        assert (refused.decision.reason, refused.why) == (Reason.INVALID_CREDENTIALS, "wrong_form")
