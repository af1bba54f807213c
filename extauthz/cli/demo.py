"""`extauthz demo`: everything embedded, Envoy and nginx in front, and a tour of requests through both."""

from typing import Annotated

import typer


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the tour: 0, or 1 if an answer differed.")] = False,
    monitored: Annotated[
        bool, typer.Option("--monitor", help="Continuous traffic and Prometheus with our rules in place of the tour.")
    ] = False,
) -> None:
    """Run everything on this machine, send sample requests through Envoy and nginx, and show what each got and why."""
    if monitored:
        from extauthz.demo.monitor import monitor as run
    else:
        from extauthz.demo.show import show as run

    if not run(once=once):
        raise typer.Exit(1)
