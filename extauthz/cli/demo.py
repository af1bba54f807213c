"""`extauthz demo`: everything embedded, Envoy and nginx in front, and a tour of requests through both."""

from typing import Annotated

import typer


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the tour: 0, or 1 if an answer differed.")] = False,
) -> None:
    """Run everything on this machine, send sample requests through Envoy and nginx, and show what each got and why."""
    from extauthz.demo.show import show

    if not show(once=once):
        raise typer.Exit(1)
