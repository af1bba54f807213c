"""Which keys of other systems can be imported."""

import pytest

from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.core.errors import InvalidInput
from extauthz.service.manage.imports import check_foreign
from tests.unit.service.fakes import SECRET

SERVICE_SECRET = "a-token-of-the-service"
FORMAT = KeyFormat(prefix="xa", env="live", peppers=[Pepper("new", b"n" * 32)], reserved=[SERVICE_SECRET.encode()])
REFUSED = {
    "": "is made of",
    "two words of it": "no blank",
    "0123456789abcdef\n": "no blank",
    "clé-0123456789abcdef": "is made of",
    "0123=456789abcdef": "is made of",
    "0123456789abcde": "has at least 16 characters",
    SERVICE_SECRET: "a secret of the service",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln": "the shape of a JWT",
    SECRET: "the prefix of our own",
}


def test_keys_that_cannot_be_imported() -> None:
    """One that could never be presented, that is a secret of the service, or that looks like another credential."""
    for key, words in REFUSED.items():
        with pytest.raises(InvalidInput, match=words):
            check_foreign(key, FORMAT)
    for key in ("0123456789abcdef", "sk_live_0123456789abcdef==", "a.b~c/d+e-f_0123456"):
        check_foreign(key, FORMAT)
