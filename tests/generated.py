"""How many generated examples a test tries.

`FUZZ_SECONDS=3600 make test-deep ARGS=tests/unit/transports/test_plain.py` looks for differences for an hour.
"""

import os
from collections.abc import Iterator
from itertools import count
from time import monotonic

import pytest
from hypothesis import settings

FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
FUZZ_FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
_MARGIN = 120  # seconds that a long test may take beside its examples


def is_deep() -> bool:
    """Whether this is `make test-deep`, to which tests with the marker `fuzz` belong too."""
    return settings.get_current_profile_name() == "deep"


def examples(suite: int, deep: int) -> settings:
    """The number of examples in `make test` and in `make test-deep`."""
    return settings(max_examples=deep if is_deep() else suite, deadline=None)


def numbers(suite: int) -> Iterator[int]:
    """Of examples that are made from a number: so many in `make test`, as many as FUZZ_SECONDS allow in
    `make test-deep`, from FUZZ_FIRST on.
    """
    if not is_deep():
        yield from range(suite)
        return
    end = monotonic() + FUZZ_SECONDS
    for number in count(FUZZ_FIRST):
        if monotonic() > end:
            break
        yield number


def in_time() -> pytest.MarkDecorator:
    """Markers of a test that tries `numbers`."""
    return pytest.mark.timeout(FUZZ_SECONDS + _MARGIN if is_deep() else 60)
