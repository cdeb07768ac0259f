"""`receiver demo`: a receiver with sandboxes; no account and no configuration needed."""

import click

from receiver.cli.exits import NOT_DONE, CommandError, handle_errors


@click.command()
@click.option(
    "--once", is_flag=True, help="Stop after two pushes; exit code 0 if the version was created."
)
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    help="Port to listen on; default: any free port.",
)
@handle_errors
def demo(once: bool, port: int) -> None:
    """Run a receiver with sandboxes of Edgegap and Docker Hub, and push two tags to it.

    The version of the first passes its trial and moves a channel; that of the second fails.

    Needs no account, no configuration and no network. All files are deleted at the end.
    """
    from receiver.cli.tour import run_demo

    if not run_demo(once=once, port=port):
        raise CommandError("no version was created", NOT_DONE)
