"""How far another machine's clock is from ours, as far as one answer can tell."""


def certain_skew(asked_at: float, theirs: float, answered_at: float) -> float:
    """Seconds by which a clock is certainly ahead of this machine's, negative where behind; 0 where it may be right.

    It said `theirs` between `asked_at` and `answered_at` of this machine, all in Unix seconds: a slow network,
    or a loop that is late, only makes that less certain.
    """
    if theirs > answered_at:
        return theirs - answered_at
    return min(theirs - asked_at, 0.0)
