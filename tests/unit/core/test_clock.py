"""Estimates the offset of another clock from one answer."""

import pytest

from extauthz.core.clock import certain_skew


@pytest.mark.parametrize(
    ("asked_at", "theirs", "answered_at", "skew"),
    [
        (100.0, 100.0, 100.0, 0.0),
        (100.0, 100.2, 100.4, 0.0),
        (100.0, 101.0, 105.0, 0.0),  # a slow answer proves nothing
        (100.0, 107.0, 100.5, 6.5),
        (100.0, 93.0, 100.5, -7.0),
    ],
)
def test_only_what_is_certain(asked_at: float, theirs: float, answered_at: float, skew: float) -> None:
    """The other clock was read between two local readings: only an offset beyond them is certain."""
    assert certain_skew(asked_at, theirs, answered_at) == skew
