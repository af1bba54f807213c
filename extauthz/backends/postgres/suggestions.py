"""What a name that nothing has may mean: one that differs by case, or by one edit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import fetch
from extauthz.core.errors import NotFound, StoreUnavailable
from extauthz.core.management import looks_like_id
from extauthz.core.masking import shown
from extauthz.core.parsing import normal_name, visible

Kind = Literal["plan", "organization"]

_SHORTEST, _LONGEST = 3, 64  # characters of a name that is looked for with an edit: a pattern for each of them
_MISSING = {"plan": "no plan is called", "organization": "no organization has the id or name"}


class NothingCalled(NotFound):
    """No plan or organization has the name or id that was typed."""

    def __init__(self, kind: Kind, ref: str) -> None:
        super().__init__(f"{_MISSING[kind]} {shown(ref)!r}")
        self.kind = kind
        self.ref = ref


@asynccontextmanager
async def meant(pool: Pool) -> AsyncIterator[None]:
    """Adds to a NothingCalled the name that is meant. Opened outside a transaction, which is over by then."""
    try:
        yield
    except NothingCalled as error:
        name = ""
        with suppress(StoreUnavailable):  # that nothing has the name is known, and remains the answer
            name = await _similar(pool, error.kind, error.ref)
        if not name:
            raise
        raise NotFound(f"{error} (did you mean '{visible(name)}'?)") from None


async def _similar(pool: Pool, kind: Kind, ref: str) -> str:
    """The name that differs from `ref` by case or else by one edit; empty where there is none."""
    typed = normal_name(ref).strip()
    if not typed or "\x00" in typed or looks_like_id(ref):
        return ""
    lowered = typed.lower()
    edited = _SHORTEST <= len(lowered) <= _LONGEST
    arguments = {
        "normal": typed,
        "patterns": _patterns(lowered) if edited else [],
        "shortest": len(lowered) - 1,
        "longest": len(lowered) + 1,
    }
    names = [row["name"] for row in await fetch(pool, f"{kind}s_called_like", arguments)]
    same = (name for name in names if name.lower() == lowered)
    near = (name for name in names if edited and one_edit(lowered, name.lower()))
    return str(next(same, None) or next(near, ""))


def _patterns(name: str) -> list[str]:
    """Patterns of LIKE that every name matches from which one edit leads to `name`; a few others match, too."""
    swapped = [name[:at] + name[at + 1] + name[at] + name[at + 2 :] for at in range(len(name) - 1)]
    around = [(name[:at], name[at + 1 :]) for at in range(len(name))] + [(name, "")]
    return [*map(_literal, swapped), *(f"{_literal(before)}%{_literal(after)}" for before, after in around)]


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def one_edit(one: str, other: str) -> bool:
    """Whether a character more, less or another, or two neighbours in the other order, make one text the other."""
    short, long = sorted((one, other), key=len)
    at = next(
        (place for place, (left, right) in enumerate(zip(short, long, strict=False)) if left != right), len(short)
    )
    if len(long) - len(short) == 1:
        return short[at:] == long[at + 1 :]
    swapped = short[at : at + 2][::-1] == long[at : at + 2] and short[at + 2 :] == long[at + 2 :]
    return len(short) == len(long) and short != long and (swapped or short[at + 1 :] == long[at + 1 :])
