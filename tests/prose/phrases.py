"""Phrases that prose of this project avoids, each with the reason and an example."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrase:
    """A banned phrase, in small letters. `wrong` contains it, `right` says the same without it."""

    pattern: re.Pattern[str]
    reason: str
    wrong: str
    right: str


def _phrase(pattern: str, reason: str, *, wrong: str, right: str) -> Phrase:
    """A phrase from a pattern whose blanks stand for any white space, a line break among them."""
    return Phrase(re.compile(pattern.replace(" ", r"\s+")), reason, wrong, right)


# After these nouns "who" means a human being, and is plain English.
_HUMANS = ("user", "users", "operator", "operators", "engineer", "engineers", "contributor", "contributors")
_NOT_A_HUMAN = "".join(rf"(?<!\b{human}\s)" for human in _HUMANS)

BANNED = (
    _phrase(
        rf"{_NOT_A_HUMAN}\b(?:who|whom)\b|\b(?:whoever|whomever|nobody|somebody|everybody|anybody)\b",
        "the subject of a sentence about code is a noun of the glossary: a key, a record, a worker, a request",
        wrong="Who is not used while others come has to leave first.",
        right="Evicts entries that were not used recently.",
    ),
    _phrase(
        r"\bpeople\b",
        "say which: users, operators, clients, or readers of a log",
        wrong="a text for people",
        right="a text for operators",
    ),
    _phrase(
        r"(?<!\bthere\s)\b(?:is|are|was|were|be) no\b(?! (?:longer|more|less|fewer|later|earlier|older|newer)\b)",
        'an error says what a field must be ("must be … (got …)"), and a sentence says "is not"',
        wrong="the value is no number",
        right="value must be a number (got 'x')",
    ),
    _phrase(
        r"\bmakes? no sense\b",
        "name the fault",
        wrong="the entry makes no sense",
        right="corrupt record",
    ),
    _phrase(
        r"\b(?:is|was|are) called so\b|\bno calendar has\b",
        "an error is told in standard words",
        wrong="nothing of this API is called so",
        right="no such endpoint",
    ),
    _phrase(
        r"\b(?:knows|believes?|believed|hears?|heard|forgets?|forgot|forgotten)\b",
        "code does not know, believe, hear or forget: it has, keeps, receives, drops",
        wrong="a worker hears of a change",
        right="a worker receives a change",
    ),
    _phrase(
        r"\b(?:of|than) (?:ours|theirs|its own kind)\b",
        "say whose: of extauthz, of this worker",
        wrong="a mistake of ours",
        right="a bug in extauthz",
    ),
    _phrase(
        r"\b(?:anew|lest|whence|thence|hitherto|wherein|thereof|hence)\b",
        "a word of today: again, so that, from which",
        wrong="drawn anew",
        right="drawn again",
    ),
    _phrase(r"\bshort way\b", "the glossary says fast path", wrong="takes the short way", right="takes the fast path"),
    _phrase(
        r"\bits twin\b|\bthe twin\b|\btwin in python\b",
        "the glossary says token_bucket, the reference arithmetic",
        wrong="the script and its twin",
        right="the script and the reference arithmetic",
    ),
    _phrase(
        r"\bherald", "the code says ChangeNotifier", wrong="a herald of changes", right="notifies processes of changes"
    ),
    _phrase(
        r"\b(?:the|its|store) guards?\b|\bguards? of (?:redis|postgresql|a store|the store)\b",
        "the glossary says circuit breaker",
        wrong="the guard of Redis",
        right="the circuit breaker of Redis",
    ),
    _phrase(r"\bseeding\b", "the glossary says restore", wrong="seeding of counters", right="restore of counters"),
    _phrase(r"\bmetering\b", "the glossary says usage flush", wrong="the metering task", right="the usage flush"),
    _phrase(
        r"\bnow and then\b|\bby and by\b|\bonce in a while\b",
        "say when or what, in figures",
        wrong="deletes them now and then",
        right="deletes them every ten minutes",
    ),
)
