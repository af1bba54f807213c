"""An explanation as a list of steps that fits 80 columns, with what to do next."""

import re
from collections.abc import Callable, Iterator, Mapping
from textwrap import wrap
from typing import Any

from extauthz.cli import output
from extauthz.core.explanation import Explanation, Step

WIDTH = 80
_INDENT = 23  # columns: the outcome, the step, and blanks between
_COMMAND = re.compile(r"(?:^|; |: )(?=extauthz )")
_OPTION = re.compile("(--[a-z-]+) ")

Facts = Mapping[str, Any]


def print_explanation(explanation: Explanation, method: str, dialect: str) -> None:
    """The decision, every step, and what changes a refusal."""
    path = explanation.steps[0].facts["path"]
    for line in wrap(f"{method} {path}: {_decision(explanation, dialect)}", WIDTH, break_on_hyphens=False):
        output.print_line(line)
    output.print_line("")
    for step in explanation.steps:
        _print_step(step)
    output.print_line("")
    output.print_line("Nothing was charged, counted or kept.")
    for step in explanation.steps:
        if step.next:
            output.print_line("Next:")
            for line in _next(step.next):
                output.print_line(f"  {line}")


def _decision(explanation: Explanation, dialect: str) -> str:
    statuses = f"{explanation.status} to {dialect}"
    if explanation.true_status != explanation.status:
        statuses += f", {explanation.true_status} to the client"
    return f"{explanation.reason.value} ({statuses})"


def _print_step(step: Step) -> None:
    texts = [*_TEXTS[step.name](step.facts), *([step.why] if step.why else [])] if step.outcome != "skipped" else []
    lines = [line for text in texts or [step.why] for line in _wrapped(text)]
    label = f"{step.outcome:8} {step.name:12}  "
    for line in lines or [""]:
        output.print_line(f"{label}{line}".rstrip())
        label = " " * _INDENT


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH - _INDENT, break_on_hyphens=False, subsequent_indent="  ")


def _next(text: str) -> Iterator[str]:
    """Sentences, and commands on lines of their own; one that is too long goes on behind a backslash."""
    for part in _COMMAND.split(text):
        whole = _OPTION.sub("\\1\u00a0", part)  # an option stays beside its value
        ends = wrap(whole, WIDTH - 6, break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")
        ends = [end.replace("\u00a0", " ") for end in ends]
        yield from (f"{line} \\" for line in ends[:-1]) if part.startswith("extauthz ") else ends[:-1]
        yield from ends[-1:]


def _path(facts: Facts) -> Iterator[str]:
    yield facts["path"]


def _host(facts: Facts) -> Iterator[str]:
    yield facts["host"] or "none"


def _route(facts: Facts) -> Iterator[str]:
    route = facts["route"]
    if route is not None:
        yield _place(route)
        asks = "asks for nothing: it is public" if route["public"] else f"asks for {route['resource']}:{route['mode']}"
        notes = {
            f"cost {route['cost']}": not route["public"],
            "uncached": not route["cache"],
            "limits in shadow": route["limits"] == "shadow",
        }
        yield ", ".join([asks, *(note for note, holds in notes.items() if holds)])
    for near in facts["near"]:
        yield f"not {_place(near)}: {near['detail']}"


def _place(route: Facts) -> str:
    methods = " ".join(route["methods"] or ())
    return " ".join(filter(None, (methods, route["host"] or "", route["path"])))


def _credential(facts: Facts) -> Iterator[str]:
    yield {"key": "has the form of a key", "key_id": "by its id", "none": "none"}[facts["given"]]


def _key(facts: Facts) -> Iterator[str]:
    if facts["api_key_id"] is not None:
        yield " ".join(filter(None, (facts["name"], facts["api_key_id"])))
    yield from _layer(facts)
    if "process" not in facts["layers"] and "redis" in facts["layers"]:
        yield "workers may have it in their own memory, which is not seen from here"


def _organization(facts: Facts) -> Iterator[str]:
    names = facts["name"], facts["organization_id"] and f"({facts['organization_id']})"
    plan = facts["plan"] and f"plan {facts['plan']}"
    yield ", ".join(filter(None, (" ".join(filter(None, names)), plan)))
    yield from _layer(facts)


def _layer(facts: Facts) -> Iterator[str]:
    if facts["layer"] is not None and facts["age_seconds"] is not None:
        store = {"process": "this process", "redis": "Redis", "postgresql": "PostgreSQL"}[facts["layer"]]
        yield f"from {store}, {facts['age_seconds']:g} s old"


def _permission(facts: Facts) -> Iterator[str]:
    yield f"asks for {facts['asked']}"
    yield f"the key holds {', '.join(facts['held']) or 'nothing'}"


def _limits(facts: Facts) -> Iterator[str]:
    yield f"cost {facts['cost']}"
    for limit in facts["limits"]:
        refused = ", too few" if limit["refused"] else ""
        more = "" if limit["reset"] is None else f", more in {limit['reset']} s"
        yield f"{limit['name']}: {limit['remaining']} of {limit['limit']} left{refused}{more}"
    for limit in facts["too_small"]:
        yield f"{limit['name']}: {limit['limit']} is below the cost"


_TEXTS: Mapping[str, Callable[[Facts], Iterator[str]]] = {
    "path": _path,
    "host": _host,
    "route": _route,
    "credential": _credential,
    "key": _key,
    "organization": _organization,
    "permission": _permission,
    "limits": _limits,
}
