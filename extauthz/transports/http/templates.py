"""Text of answers whose numbers are filled in: rendered once, by the general rendering, with marks in their place.

So a template says what the general rendering says, whatever a dialect's answers are like.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import TypeVar

from extauthz.core.balance import Balance, LimitStatus
from extauthz.core.decision import Allow, Deny

# A mark ends with the place of its number among those of `LimitNumbers`. Its beginning is drawn at random, so that
# nothing else that stands in an answer is one.
_BEGIN = 10**15 + int.from_bytes(os.urandom(6))
_MARKS = re.compile(rf"{_BEGIN}(\d{{3}})")

Limited = TypeVar("Limited", Allow, Deny)
Pick = Callable[[Sequence[int]], tuple[int, ...]]


class Template:
    """Text with room for numbers."""

    __slots__ = ("_pick", "_text")

    def __init__(self, text: str) -> None:
        """`text` is of an answer to a marked decision."""
        self._pick = _pick([int(place) for place in _MARKS.findall(text)])
        self._text = _MARKS.sub("%d", text.replace("%", "%%")).encode("latin-1")

    def fill(self, numbers: Sequence[int]) -> bytes:
        """The text with numbers in the order of `LimitNumbers`."""
        return self._text % self._pick(numbers)


def marked(decision: Limited) -> Limited:
    """The decision with a mark in place of each number that differs from one spend to the next."""
    if decision.balance is None:
        return decision
    balance = _marked(decision.balance)
    if isinstance(decision, Deny):
        return replace(decision, balance=balance, retry_after=balance.retry_after)
    return replace(decision, balance=balance)


def _marked(balance: Balance) -> Balance:
    marks = iter(range(_BEGIN * 1_000, (_BEGIN + 1) * 1_000))
    limit_statuses = tuple([_marked_status(each, (next(marks), next(marks))) for each in balance.limit_statuses])
    binding = balance.binding
    if binding is not None:
        binding = _marked_status(binding._replace(size=next(marks)), (next(marks), next(marks)))
    wait = next(marks)
    return Balance(limit_statuses, balance.refused, None if balance.retry_after is None else wait, binding)


def _marked_status(status: LimitStatus, marks: tuple[int, int]) -> LimitStatus:
    """A limit with marks; one that does not renew has no reset, and no mark for it."""
    remaining, reset = marks
    return status._replace(remaining=remaining, reset=None if status.reset is None else reset)


def _pick(places: Sequence[int]) -> Pick:
    """Takes the numbers at some places, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda numbers: tuple([numbers[place] for place in places])
