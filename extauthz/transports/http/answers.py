"""Answers as bytes, up to their date: what does not change from check to check is rendered once."""

from collections.abc import Sequence

from extauthz.core.balance import Balance, balance
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, Deny, conclude
from extauthz.core.limit_kinds import NAMES, OWNER, QUOTAS
from extauthz.core.limit_numbers import LimitNumbers
from extauthz.core.spend import Row, Spend, empty_row, spent_by
from extauthz.core.subject import Subject
from extauthz.core.usage import THRESHOLDS, passed_at
from extauthz.service.check.rate_limit import jitter
from extauthz.service.check.remembered import Bounded, Remembered
from extauthz.transports.http.dialect import in_lines
from extauthz.transports.http.handler import STATUS_LINES, CheckHandler, head_of
from extauthz.transports.http.render import WITHOUT_SUBJECT, to_log
from extauthz.transports.http.templates import Template, marked

SHAPES_MAX = 2_048
NO_LENGTH = b"Content-Length: 0\r\n"

AnswerBytes = tuple[bytes, bytes]  # the head up to its date, and the body


class Refusal:
    """The refusal by some limits, of which one binds."""

    __slots__ = ("body", "length", "reason", "template")

    def __init__(self, denial: Deny, handler: CheckHandler) -> None:
        answer = handler.dialect.render(marked(denial))
        self.reason = denial.reason
        self.template = Template(f"{STATUS_LINES[answer.status]}{answer.fixed.text}{in_lines(answer.varying)}")
        self.body = answer.body
        self.length = b"Content-Length: %d\r\n" % len(answer.body)


class Shape:
    """What answers to spends with the same limits have in common, in the middle one of their windows.

    `notices` are places in rows, each with the count from which on a threshold of its quota is passed.
    """

    def __init__(self, spend: Spend, handler: CheckHandler) -> None:
        self.window = window = 1 if spend.windows is None else 2
        self._handler = handler
        self._cost = spend.cost
        self._balance = balance(spend, spent_by(0, empty_row(spend, window)))
        self._numbers = LimitNumbers(spend, window=window)
        self._refusals: dict[tuple[int, str], Refusal] = {}
        self._renewed = [each.reset is not None for each in self._balance.limit_statuses]
        self._allowed = self._allow(renewed=True)
        self.left = self._numbers.left
        self.fill = self._allowed.fill
        if not all(self._renewed):
            self._allowed_by_credits = self._allow(renewed=False)
            self.fill = self._fill_by_binding
        self.tokens = spend.cost if self._balance.has_bucket else 0
        self.notices = tuple(
            (quota.places[OWNER], passed_at(size, THRESHOLDS[0]))
            for quota, size in zip(QUOTAS, spend.limits.quotas, strict=True)
            if size and spend.windows is not None
        )

    def refuse(self, now: int, row: Row) -> tuple[Refusal, bytes]:
        """The refusal of a row, and its head up to what the proxy's log is told."""
        name, numbers = self._numbers.refused(now, row, jitter())
        refusal = self._refusals.get((row[0], name))
        if refusal is None:
            refusal = self._refusals[row[0], name] = self._refusal(row[0], name)
        return refusal, refusal.template.fill(numbers)

    def _allow(self, *, renewed: bool) -> Template:
        """An allow where the limit with the least left renews, or does not and has no reset to tell."""
        statuses = self._balance.limit_statuses
        binding = next((each for each in statuses if (each.reset is not None) is renewed), self._balance.binding)
        answer = self._handler.dialect.render(marked(Allow(None, Balance(statuses, (), 0, binding))))
        return Template(in_lines(answer.varying))

    def _fill_by_binding(self, numbers: Sequence[int]) -> bytes:
        left = numbers[:-3:2]
        renewed = self._renewed[left.index(min(left))]
        return (self._allowed if renewed else self._allowed_by_credits).fill(numbers)

    def _refusal(self, bits: int, name: str) -> Refusal:
        refused = tuple(each for place, each in enumerate(NAMES) if bits >> place & 1)
        limit_statuses = self._balance.limit_statuses
        binding = next(status for status in limit_statuses if status.name == name)
        denial = conclude(
            None, Balance(limit_statuses, refused, None if binding.reset is None else 1, binding), self._cost
        )
        assert isinstance(denial, Deny)  # noqa: S101 - a limit has refused
        return Refusal(denial, self._handler)


class Kept:
    """What answers to one credential at one route begin with, and what the proxy's log is told of a refusal."""

    __slots__ = ("_log", "allowed", "shape")

    def __init__(self, found: Remembered, shape: Shape, handler: CheckHandler) -> None:
        answer = handler.dialect.render(Allow(found.identity))
        self.shape = shape
        self.allowed = f"{STATUS_LINES[answer.status]}{answer.fixed.text}".encode("latin-1")
        self._log = b""  # most are never refused

    def log(self, subject: Subject | None) -> bytes:
        """What the proxy's log is told of a refusal of `subject`, which is always the same one here."""
        if not self._log:
            said = WITHOUT_SUBJECT if subject is None else to_log(subject.organization_id, subject.id)
            self._log = in_lines(said).encode("latin-1")
        return self._log


class Answers:
    """The answers of one listener."""

    def __init__(self, handler: CheckHandler) -> None:
        self._handler = handler
        self._shapes: Bounded[object, Shape] = Bounded(SHAPES_MAX)

    def decided(self, found: Remembered) -> AnswerBytes:
        """The answer to a check that asks no limits."""
        kept: AnswerBytes | None = found.kept
        if kept is None:
            decision = found.decision
            assert decision is not None  # noqa: S101 - limits are not asked
            result = CheckResult(self._handler.dialect.name, None, 0.0, decision, found.route, found.subject, found.why)
            answer = self._handler.render(result)
            kept = found.kept = head_of(answer).encode("latin-1"), answer.body
        return kept

    def kept(self, found: Remembered, spend: Spend) -> Kept:
        """What answers to a check that asks limits begin with."""
        kept: Kept | None = found.kept
        if kept is None:
            name = spend.limits, spend.key_limits, spend.windows, spend.cost
            shape = self._shapes.get(name)
            if shape is None:
                shape = Shape(spend, self._handler)
                self._shapes.put(name, shape)
            kept = found.kept = Kept(found, shape, self._handler)
        return kept
