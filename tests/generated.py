"""How many generated examples a test tries."""

from hypothesis import settings


def is_deep() -> bool:
    """Whether this is `make test-deep`, to which tests with the marker `fuzz` belong too."""
    return settings.get_current_profile_name() == "deep"


def examples(suite: int, deep: int) -> settings:
    """So many in `make test`, and so many in `make test-deep`."""
    return settings(max_examples=deep if is_deep() else suite, deadline=None)
