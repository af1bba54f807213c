"""The secrets among the settings, seen together: each is a secret of its own."""

import base64
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from extauthz.config import urls, values
from extauthz.config.settings import Settings

_COMPARED_MIN = 16  # bytes; something shorter is part of another by chance


class HeldSecret(NamedTuple):
    """One secret of the settings: the setting's name, what it is called there, and every form in which it is known."""

    setting: str
    name: str
    forms: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"{self}:***"

    def __str__(self) -> str:
        return f"{self.setting} {self.name}".strip()


def held(settings: Settings) -> list[HeldSecret]:
    """Every secret that is set: peppers, tokens, the webhook's, and the passwords of stores."""
    named = {"EXTAUTHZ_KEY_PEPPER": settings.key_pepper, "EXTAUTHZ_ADMIN_TOKEN": settings.admin_token}
    found = [HeldSecret(setting, each.name, (each.value,)) for setting, secrets in named.items() for each in secrets]
    if signing := settings.webhook_secret.get_secret_value():
        found.append(HeldSecret("EXTAUTHZ_WEBHOOK_SECRET", "", _forms(signing)))
    addresses = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    for setting, address in addresses.items():
        password = urls.password(address.get_secret_value()).encode("utf-8", "surrogateescape")
        if len(password) >= _COMPARED_MIN:
            found.append(HeldSecret(setting, "(password)", (password,)))
    return found


def clashes(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each secret that is or holds another one of the settings: its setting's name, and what is wrong."""
    for first, second in combinations(held(settings), 2):
        # Two of one setting were compared when it was read; stores may share a password.
        if first.setting == second.setting or {first.name, second.name} == {"(password)"}:
            continue
        if any(one in other or other in one for one in first.forms for other in second.forms):
            name = f"{first.name} " if first.name else ""
            yield first.setting, f"the value {name}must not be that of {second}: each secret is one of its own"


def _forms(signing: bytes) -> tuple[bytes, ...]:
    if not signing.startswith(values.IN_BASE64):
        return (signing,)
    encoded = signing.removeprefix(values.IN_BASE64)
    return (signing, encoded, base64.b64decode(encoded))
