"""Estimates the offset of another clock from one answer."""

from extauthz.core.clock import certain_skew

READINGS = [
    (100.0, 100.0, 100.0, 0.0),
    (100.0, 100.2, 100.4, 0.0),
    (100.0, 101.0, 105.0, 0.0),  # a slow answer proves nothing
    (100.0, 107.0, 100.5, 6.5),
    (100.0, 93.0, 100.5, -7.0),
]


def test_only_what_is_certain() -> None:
    """The other clock was read between two local readings: only an offset beyond them is certain."""
    assert [case for case in READINGS if certain_skew(*case[:3]) != case[3]] == []
