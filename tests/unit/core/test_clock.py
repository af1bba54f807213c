"""What one answer tells of another clock."""

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
    """Theirs was read between our two moments: what lies within may be right, what lies outside is wrong by so much."""
    assert certain_skew(asked_at, theirs, answered_at) == skew
