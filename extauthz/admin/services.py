"""What the API stands on: the services of management, for the actor of each request."""

from typing import Protocol

from extauthz.core.explanation import ExplainQuestion, Explanation
from extauthz.service.manage.audit import AuditService
from extauthz.service.manage.credits import CreditService
from extauthz.service.manage.keys import KeyService
from extauthz.service.manage.organizations import TenantService
from extauthz.service.manage.rejections import RejectionLog
from extauthz.service.manage.usage import UsageService


class Services(Protocol):
    """What one caller may use; changes are written down under the caller's name."""

    @property
    def keys(self) -> KeyService:
        """The life of keys."""
        ...

    @property
    def tenants(self) -> TenantService:
        """Plans and organizations."""
        ...

    @property
    def credits(self) -> CreditService:
        """What organizations and keys were granted that does not renew."""
        ...

    @property
    def audit(self) -> AuditService:
        """The audit log."""
        ...

    @property
    def usage(self) -> UsageService:
        """What organizations have used."""
        ...

    @property
    def rejections(self) -> RejectionLog:
        """Why requests were refused."""
        ...


class Explains(Protocol):
    """What explains decisions."""

    async def explain(self, question: ExplainQuestion) -> Explanation:
        """The decision and its steps. Raises InvalidInput, NotFound, StoreUnavailable."""
        ...


class AllServices(Protocol):
    """Where the rooms of each caller come from."""

    @property
    def places(self) -> int:
        """How many may ask at once without waiting for each other."""
        ...

    @property
    def highest_cost(self) -> int:
        """The cost of the dearest route whose limits are enforced."""
        ...

    def as_actor(self, actor: str) -> Services:
        """The rooms for `actor`, as `token:ops`. Cheap: one call for every request."""
        ...
