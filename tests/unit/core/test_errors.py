"""What errors say of stores and of conflicts, in one line."""

from extauthz.core.errors import ConfigError, LastUsableKey, StoreCorrupt, StoreUnavailable, VersionMismatch
from extauthz.core.ports import POSTGRESQL, REDIS


def test_a_store_that_is_away() -> None:
    """Its name and the reason; the store's own words and the remedy where there are some."""
    plain = StoreUnavailable(REDIS, "timeout")
    assert (plain.store, plain.reason, plain.said, plain.remedy) == ("redis", "timeout", "", "")
    assert str(plain) == "redis is away (timeout)"
    error = StoreUnavailable(POSTGRESQL, "readonly", said="it is a replica", remedy="ask the primary")
    assert (error.said, error.remedy) == ("it is a replica", "ask the primary")
    assert str(error) == f"postgresql is away ({error.detail})"
    assert error.detail == "readonly: it is a replica; ask the primary"


def test_a_corrupt_record() -> None:
    """Which store has it, and which part is wrong."""
    error = StoreCorrupt(REDIS, "the plan")
    assert (error.store, error.what, str(error)) == ("redis", "the plan", "redis holds a corrupt record: the plan")


def test_conflicts() -> None:
    """A version that is not current names the current one; the last usable key is named as such."""
    error = VersionMismatch(7)
    assert (error.current, str(error)) == (7, "it was changed in between: its version is 7 now")
    assert str(LastUsableKey()) == "this is the organization's last usable key"
    assert ConfigError(["a", "b"]).mistakes == ("a", "b")
