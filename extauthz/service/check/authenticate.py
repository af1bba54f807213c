"""A credential becomes a subject and its organization, or a refusal. Listeners and commands use this."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from extauthz.core import failure
from extauthz.core.credentials import Credential, CredentialReader, NoCredential, bearer_token
from extauthz.core.decision import Deny, deny
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ended_by
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.subject import Subject
from extauthz.core.tenants import Tenant
from extauthz.service.directory.lookup import Lookup

CredentialT = TypeVar("CredentialT")


class Authenticated(NamedTuple):
    """A subject that may make requests, and its organization, which is not suspended."""

    subject: Subject
    tenant: Tenant


class Refused(NamedTuple):
    """Why a credential is refused. `subject` is what it belongs to, where that is known.

    `why` says more than the decision does where there is more, as in CheckResult.
    """

    decision: Deny
    subject: Subject | None = None
    why: str = ""


class Authenticator(Protocol[CredentialT]):
    """Proves the subjects of one kind of credential."""

    def read(self, token: str) -> CredentialT | NoCredential | None:
        """The credential in a bearer token, without the token; None where the token is of another kind."""
        ...

    async def prove(
        self, credential: CredentialT, request: CheckRequest, *, cached: bool, noted: bool
    ) -> Authenticated | Refused:
        """The subject of a credential. `cached`: caches may answer; `noted`: the request counts as a use.

        Never raises for a store that is away.
        """
        ...


class Presented(NamedTuple, Generic[CredentialT]):
    """A credential, and the authenticator that recognised it."""

    authenticator: Authenticator[CredentialT]
    credential: CredentialT


class Authentication:
    """Asks the authenticators in order: the first that recognises a token decides."""

    def __init__(self, authenticators: Sequence[Authenticator[Any]]) -> None:
        self._authenticators = tuple(authenticators)

    def read(self, authorization: Sequence[str]) -> Presented[Any] | NoCredential:
        """The credential of a request's `Authorization` headers, or why there is none."""
        token = bearer_token(authorization)
        if isinstance(token, NoCredential):
            return token
        for authenticator in self._authenticators:
            credential = authenticator.read(token)
            if credential is not None:
                return credential if isinstance(credential, NoCredential) else Presented(authenticator, credential)
        return NoCredential(Reason.INVALID_CREDENTIALS, "wrong_form")

    async def authenticate(
        self, request: CheckRequest, *, cached: bool = True, noted: bool = True
    ) -> Authenticated | Refused:
        """The subject of a request, or the refusal; the options as for Authenticator. The raw token stays inside."""
        presented = self.read(request.authorization)
        if isinstance(presented, NoCredential):
            return Refused(deny(presented.reason), why=presented.flaw)
        return await presented.authenticator.prove(presented.credential, request, cached=cached, noted=noted)


class ApiKeys:
    """Proves API keys: their records come from the directory."""

    def __init__(self, key_format: CredentialReader, lookup: Lookup) -> None:
        self._key_format = key_format
        self._lookup = lookup

    def read(self, token: str) -> Credential | NoCredential:
        """The digests of a key. No token is of another kind: keys of other systems have any form."""
        return self._key_format.read(token)

    async def prove(
        self, credential: Credential, request: CheckRequest, *, cached: bool, noted: bool
    ) -> Authenticated | Refused:
        """The key, then its organization."""
        key = None
        try:
            key = await self._lookup.key(credential, request, cached=cached)
            if key is None:
                return Refused(deny(Reason.INVALID_CREDENTIALS))
            if not key.admits(request.now):
                return Refused(deny(Reason.INVALID_CREDENTIALS), key, ended_by(key))
            if noted:
                self._lookup.note_use(key, request)
            tenant = await self._lookup.tenant(key, request, cached=cached)
        except StoreUnavailable as error:
            return Refused(failure.without_identity(error), key)
        if tenant is None:
            return Refused(deny(Reason.INVALID_CREDENTIALS), key, "organization_gone")
        if tenant.suspended:
            return Refused(deny(Reason.ORGANIZATION_SUSPENDED), key)
        return Authenticated(key, tenant)
