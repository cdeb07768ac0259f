"""The group of all commands as a program: its streams, and one line for Ctrl-C."""

import sys
from typing import Any

import click

from receiver.cli.exits import INTERRUPTED, NOT_DONE, Stop
from receiver.cli.streams import output_failure, prepare_streams


class Program(click.Group):
    """Ends in a line and a documented exit code, whatever is pressed or closed."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, and say so if what it printed could not be written."""
        prepare_streams()
        try:
            return super().main(*args, **kwargs)
        except SystemExit as end:
            failure = output_failure()
            if failure is not None and not end.code:
                click.echo(f"receiver: the output could not be written: {failure}", err=True)
                sys.exit(NOT_DONE)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it was stopped in says more than click's "Aborted!"."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stop("stopped", INTERRUPTED) from None
