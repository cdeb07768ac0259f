"""`receiver demo`: the newcomer's first minute, with no account and no configuration."""

import click

from receiver.cli.exits import NOT_DONE, Stop, told_plainly


@click.command()
@click.option("--once", is_flag=True, help="End after the first version; exit code 0 if it came.")
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    help="Listen here; any free port if not given.",
)
@told_plainly
def demo(once: bool, port: int) -> None:
    """See it work: a receiver with stand-ins of Edgegap and Docker Hub, and a real push.

    Needs no account, no configuration and no network; leaves nothing behind.
    """
    from receiver.cli.tour import run_demo

    if not run_demo(once=once, port=port):
        raise Stop("the demo was stopped before its version was created", NOT_DONE)
