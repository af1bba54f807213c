"""One result of an examination, and what several examinations share."""

import os
from dataclasses import dataclass

from extauthz.config import Settings
from extauthz.core.errors import StoreUnavailable

ANSWER_TIMEOUT_SECONDS = 5.0  # for one answer
CLOCK_SKEW_MAX_SECONDS = 2.0  # by which two clocks may differ; the alert on it says the same


@dataclass(frozen=True, slots=True)
class Finding:
    """`ok` with a `remedy` is a remark: it works, and could be better."""

    check: str
    ok: bool
    detail: str
    remedy: str = ""

    def to_json(self) -> dict[str, object]:
        """One JSON object."""
        return {"check": self.check, "ok": self.ok, "detail": self.detail, "remedy": self.remedy}


def address(settings: Settings, name: str) -> str:
    """The address of a store for messages, by the name of its setting: without a password."""
    return next(value for setting, value, _ in settings.effective() if setting == name)


def away(check: str, where: str, error: StoreUnavailable, setting: str) -> Finding:
    """A store that cannot be used, in its own words where there are some."""
    remedy = error.remedy or f"see that it runs and that {setting} is right"
    return Finding(check, False, f"{where}: {error.said or error.reason}", remedy)


def clock(check: str, store: str, ahead: float, doubt: float) -> Finding:
    """Whether a store's clock and ours agree; `doubt` is by how much the measurement may be wrong."""
    if abs(ahead) - doubt <= CLOCK_SKEW_MAX_SECONDS:
        return Finding(check, True, f"the clocks of {store} and of this machine agree")
    where = "ahead of" if ahead > 0 else "behind"
    detail = f"the clock of {store} is {abs(ahead):.1f} seconds {where} that of this machine"
    return Finding(check, False, detail, "see that both machines keep time: chrony, ntpd or systemd-timesyncd")


def system_words(error: OSError) -> str:
    """What the system says of a failed call, such as `Connection refused`; asyncio has words of its own instead."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__  # a name that cannot be resolved has no number of the system's
