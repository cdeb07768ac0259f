"""`receiver serve` and `demo`: run the receiver, for real or with sandboxes."""

import os

import click

from receiver.cli.client import configured
from receiver.cli.output import NOT_DONE, CommandError, handle_errors
from receiver.config.variables import NEEDED


@click.command()
@click.option("--host", help="Address to listen on; default: HOST or 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; default: PORT or 8000."
)
@click.pass_obj
@handle_errors
def serve(environ: dict[str, str], host: str | None, port: int | None) -> None:
    """Run the receiver: the webhook endpoint, the worker, the API and the admin page.

    \b
    SIGHUP    reloads .env and receiver.toml; on a fault the old configuration stays
              active and the log says why
    SIGTERM   stops accepting, finishes or releases current work within 10 s, exits 0

    Run it behind a proxy with TLS that limits header time and body size; see the README.
    """
    from receiver.cli.server import start

    for name, value in (("HOST", host), ("PORT", port)):
        if value is not None:
            environ[name] = os.environ[name] = str(value)
    start(configured(NEEDED), environ)


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
