"""Values as Grafana writes them, for the units that our dashboards use."""

from collections.abc import Callable, Sequence
from datetime import datetime

Number = float

_DURATIONS = ((365 * 86400, "years"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
_SHORT = ((1e9, "G"), (1e6, "M"), (1e3, "K"), (1, ""))


def written(value: object, unit: str) -> str:
    """A value in a panel or a cell of that unit."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, str) or unit not in _FORMS:
        return str(value)
    return _FORMS[unit](float(value))  # type: ignore[arg-type]  # a number of Prometheus or PostgreSQL


def _scaled(value: Number, steps: Sequence[tuple[float, str]], between: str = " ") -> str:
    size, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{value / size:.3g}{between}{name}".strip()


def _plain(value: Number) -> str:
    return _scaled(value, _SHORT, "") if abs(value) >= 1000 else f"{value:.3g}"


_FORMS: dict[str, Callable[[Number], str]] = {
    "none": _plain,
    "short": _plain,
    "percentunit": lambda value: f"{value * 100:.3g} %",
    "reqps": lambda value: f"{_plain(value)} req/s",
    "ops": lambda value: f"{_plain(value)} ops/s",
    "s": lambda value: _scaled(value, _DURATIONS) if value else "0 s",
    "bytes": lambda value: _scaled(value, _BYTES),
}
