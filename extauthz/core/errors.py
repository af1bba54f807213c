"""The exceptions that cross rooms. A denial is not among them: a denial is a value."""


class ExtauthzError(Exception):
    """Anything that a person can mend; its text is one line and names what is wrong."""


class ConfigError(ExtauthzError):
    """Settings or routes that cannot work. `mistakes` holds one line for each, named by where it was read."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = tuple(mistakes)


class InvalidInput(ExtauthzError):
    """A value that a person gave to a command cannot be taken; nothing was changed."""


class NotFound(ExtauthzError):
    """No organization, plan or key of that name or id."""


class Conflict(ExtauthzError):
    """What was asked for contradicts what is stored, for example a name that is taken; nothing was changed."""


class VersionMismatch(Conflict):
    """What is stored is no longer the version that a change was meant for."""

    def __init__(self, current: int) -> None:
        super().__init__(f"it was changed in between: its version is {current} now")
        self.current = current


class LastUsableKey(Conflict):
    """A key is the last usable one of its organization, and its end was not confirmed."""

    def __init__(self) -> None:
        super().__init__("this is the organization's last usable key")


class AlreadyImported(Conflict):
    """The key that was to be imported is a key of that organization already."""


class StoreUnavailable(ExtauthzError):
    """A store did not answer, or not in time. `reason` is a short word for metrics: `timeout`, `connection`, `busy`.

    `said` is what the store or the network says of it, in one line without a secret, and `remedy` what helps; both may
    be empty. The outcome of what was asked is unknown, so it is never sent a second time.
    """

    def __init__(self, store: str, reason: str, *, said: str = "", remedy: str = "") -> None:
        self.store = store
        self.reason = reason
        self.said = said
        self.remedy = remedy
        super().__init__(f"{store} is away ({self.detail})")

    @property
    def detail(self) -> str:
        """The reason, and the words where there are some."""
        return f"{self.reason}: {self.said}; {self.remedy}" if self.said else self.reason


class StoreCorrupt(ExtauthzError):
    """A record is corrupt. `what` says which part, never the value itself."""

    def __init__(self, store: str, what: str) -> None:
        super().__init__(f"{store} holds a corrupt record: {what}")
        self.store = store
        self.what = what
