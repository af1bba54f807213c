"""Who passed, and what was granted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of an allowed request, as the upstream is told. `granted` is `resource:mode`."""

    organization_id: str
    api_key_id: str
    granted: str
    plan: str
