"""`receiver serve`: run the receiver."""

import os

import click

from receiver.cli.client import configured
from receiver.cli.exits import handle_errors
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
