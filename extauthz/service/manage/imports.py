"""Import of keys that another system issued: which are accepted. No refusal repeats any part of a key."""

import re

from extauthz.core.credentials import FOREIGN_LENGTH_MIN, KeyFormat
from extauthz.core.errors import InvalidInput

_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)  # RFC 9110 §11.4: what can follow `Bearer `


def check_foreign(key: str, key_format: KeyFormat) -> None:
    """Raises InvalidInput that says why `key` could never be presented, or be told from other credentials."""
    if any(character.isspace() for character in key):
        raise InvalidInput("an imported key must hold no blank and no line break")
    if not _TOKEN68.fullmatch(key):
        raise InvalidInput("an imported key is made of A-Z a-z 0-9 - . _ ~ + / with = only at its end")
    if len(key) < FOREIGN_LENGTH_MIN:
        raise InvalidInput(f"an imported key has at least {FOREIGN_LENGTH_MIN} characters")
    if key_format.is_reserved(key):
        raise InvalidInput("an imported key must not be a secret of the service: a token, a pepper or a password")
    ours = not key_format.handle(key).startswith("…")
    if key_format.plausible(key) and not ours:
        return
    if not ours and key.count(".") == 2:
        raise InvalidInput("an imported key does not have the shape of a JWT, as it would be taken for one")
    raise InvalidInput("an imported key does not begin with the prefix of our own, as it would be taken for one")
