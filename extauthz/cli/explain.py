"""`extauthz explain`: why a request would pass or be refused."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import explain_texts, key_input, options, output
from extauthz.cli.session import read_settings, run
from extauthz.core.errors import InvalidInput
from extauthz.core.explain_input import NOW, check_method, parse_at, parse_url
from extauthz.core.explanation import ExplainQuestion
from extauthz.core.masking import shown

if TYPE_CHECKING:
    from extauthz.core.explanation import Explanation


def explain(
    context: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The method, as the client sends it.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="The raw path with its query, or a whole URL.")],
    key_id: Annotated[
        str | None,
        typer.Option(
            "--key-id",
            metavar="ID",
            help="The key, by its id. Default: on standard input.",
            callback=options.maybe_key_id,
        ),
    ] = None,
    at: Annotated[
        str,
        typer.Option("--at", metavar="T", help="When: a time (2030-01-31T12:00:00Z), a duration ago (24h), or now."),
    ] = NOW,
    dialect: Annotated[
        str, typer.Option("--dialect", metavar="D", help="The listener that is asked: envoy, nginx, forward.")
    ] = "envoy",
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="The host, in place of that of the URL.")
    ] = None,
    address: Annotated[
        str, typer.Option("--address", metavar="IP", help="The client's address, for limits of public routes.")
    ] = "",
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Explain why a request would pass or be refused, step by step. Nothing is charged, counted or kept.

    The key that the request carries is read from standard input, one line; with none, it carries no key.
    """
    if context.args:
        raise InvalidInput(key_input.NO_ARGUMENT)
    question = _question(method, url, host=host, at=at)
    settings = read_settings(config, serves=True)
    key = None if key_id is not None else _given_key()
    question = ExplainQuestion(
        method=question.method,
        path=question.path,
        host=question.host,
        dialect=dialect,
        key=key,
        key_id=key_id,
        at=question.at,
        address=address,
    )

    async def work() -> "Explanation":
        from extauthz.app.explain import ExplainAlone

        return await ExplainAlone(settings).explain(question)

    explanation = run(work(), settings, doing="Waiting for PostgreSQL and Redis")
    if as_json:
        output.print_json(explanation.to_json())
    else:
        explain_texts.print_explanation(explanation, method, dialect)


def _question(method: str, url: str, *, host: str | None, at: str) -> ExplainQuestion:
    """What was typed, but for the key and the dialect. Raises InvalidInput that names the argument."""
    try:
        check_method(method)
    except ValueError as error:
        raise InvalidInput(f"METHOD {error} (got {shown(method)!r})") from None
    try:
        asked = parse_url(url)
    except ValueError as error:
        raise InvalidInput(f"URL {error}") from None
    try:
        moment = parse_at(at, datetime.now(UTC))
    except ValueError as error:
        raise InvalidInput(f"--at {shown(at)!r} {error}") from None
    return ExplainQuestion(
        method=method,
        path=asked.path,
        host=asked.host if host is None else host,
        at=None if moment is None else moment.timestamp(),
    )


def _given_key() -> str | None:
    """The key of standard input; None where there is none."""
    if sys.stdin.isatty():
        return key_input.typed("Key (none: Enter): ") or None
    return key_input.piped(sys.stdin.fileno(), instead="give one line with the key, or none") or None
