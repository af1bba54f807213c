"""`extauthz doctor`: what is wrong, and what helps."""

import textwrap
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extauthz.cli import options, output
from extauthz.cli.session import read_settings

if TYPE_CHECKING:
    from extauthz.config import Settings
    from extauthz.doctor.finding import Finding

WIDTH = 80  # columns
WORDS = {"fail": "red", "note": "yellow", "ok": "green"}


def doctor(
    proxy: Annotated[
        str | None, typer.Option("--proxy", metavar="URL", help="A proxy in front: asks through it for a path.")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Check stores, rights, schema, clocks, listeners and settings. The exit status is 0 when all is well, else 1."""
    import asyncio

    settings, mistakes = _settings(config)
    from extauthz.doctor.examination import Unwell, examine

    through = None if proxy is None else _proxied(settings, proxy)

    async def examined() -> "list[Finding]":
        async with output.progress("Asking PostgreSQL, Redis and the listeners"):
            return await examine(settings, mistakes, None if through is None else through())

    findings = asyncio.run(examined())
    if as_json:
        output.print_json([finding.to_json() for finding in findings])
    else:
        _print(findings)
    if not all(finding.ok for finding in findings):
        raise Unwell(findings)


def _settings(config: "options.Config") -> "tuple[Settings, Sequence[str]]":
    """The settings, and what would stop `serve`. Raises ConfigError where nothing can be looked at with them."""
    from extauthz.core.errors import ConfigError

    settings = read_settings(config)
    try:
        return read_settings(config, serves=True), ()
    except ConfigError as error:
        return settings, error.mistakes


def _proxied(settings: "Settings", text: str) -> "Callable[[], Coroutine[Any, Any, list[Finding]]]":
    """What asks through the proxy at an address that was typed. Raises InvalidInput."""
    from functools import partial

    from extauthz.doctor.proxy import proxy, proxy_url

    return partial(proxy, settings, proxy_url(text))


def _print(findings: "Sequence[Finding]") -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        word = "fail" if not finding.ok else "note" if finding.remedy else "ok"
        lines = list(_lines(finding, width))
        output.print_marked(f"{word:4}", WORDS[word], lines)


def _lines(finding: "Finding", width: int) -> Iterator[str]:
    """What stands behind the word, within 80 columns with it."""
    indent = " " * (width + 2)
    detail = output.one_line(finding.detail)
    yield from textwrap.wrap(
        detail, WIDTH - 6, initial_indent=f"{finding.check:{width}}  ", subsequent_indent=indent, break_on_hyphens=False
    )
    if finding.remedy:
        remedy = output.one_line(finding.remedy)
        yield from textwrap.wrap(
            remedy, WIDTH - 6, initial_indent=f"{indent}→ ", subsequent_indent=f"{indent}  ", break_on_hyphens=False
        )
