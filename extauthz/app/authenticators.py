"""What proves credentials: one row for each kind, in the order in which they are asked."""

from collections.abc import Callable, Sequence
from typing import Any

from extauthz.app.management import key_format
from extauthz.config import Settings
from extauthz.service.check.authenticate import ApiKeys, Authentication, Authenticator
from extauthz.service.directory.lookup import Lookup

# The first that recognises a token decides. API keys of other systems have any form, so they are asked last.
AUTHENTICATORS: Sequence[Callable[[Settings, Lookup], Authenticator[Any]]] = (
    lambda settings, lookup: ApiKeys(key_format(settings), lookup),
)


def authentication(settings: Settings, lookup: Lookup) -> Authentication:
    """What proves the credentials of requests, of callers that ask for their usage, and of explained requests."""
    return Authentication([row(settings, lookup) for row in AUTHENTICATORS])
