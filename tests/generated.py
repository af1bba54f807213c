"""How many generated examples a test tries."""

from hypothesis import settings


def examples(suite: int, deep: int) -> settings:
    """So many in `make test`, and so many in `make test-deep`, to which tests with the marker `fuzz` belong too."""
    many = settings.get_current_profile_name() == "deep"
    return settings(max_examples=deep if many else suite, deadline=None)
