"""`receiver serve`: run the receiver."""

import os

import click

from receiver.cli.configured import configured
from receiver.cli.exits import told_plainly
from receiver.variables import NEEDED


@click.command()
@click.option("--host", help="Address to listen on; default HOST or 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default PORT or 8000.")
@click.pass_obj
@told_plainly
def serve(environ: dict[str, str], host: str | None, port: int | None) -> None:
    """Run the receiver: the door for Docker Hub, the worker, the API.

    \b
    SIGHUP    reads .env and receiver.toml again, whole, or keeps what was and says why
    SIGTERM   stops accepting, finishes or hands back what is in hand within 10 s, exits 0

    Put a proxy with TLS in front that limits header time and body size; see the README.
    """
    from receiver.cli.server import start

    for name, value in (("HOST", host), ("PORT", port)):
        if value is not None:
            environ[name] = os.environ[name] = str(value)
    start(configured(NEEDED), environ)
