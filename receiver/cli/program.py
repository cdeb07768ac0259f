"""The group of all commands: it prepares the output streams and handles Ctrl-C.

A command's module is imported only when the command runs, so that `receiver --help` is fast.
"""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from receiver.cli.exits import INTERRUPTED, NOT_DONE, CommandError
from receiver.cli.output import output_failure, prepare_streams

COMPLETE = "_RECEIVER_COMPLETE"  # set by a shell that asks for completions


class Entry(NamedTuple):
    """The module in `receiver.cli` that defines a command, its name there, and its summary."""

    module: str
    name: str
    summary: str


class Program(click.Group):
    """A command group that ends with one line and a documented exit code, even on Ctrl-C."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands, sorted."""
        return sorted(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command; None if no command has this name."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(f"receiver.cli.{entry.module}"), entry.name)
        assert isinstance(command, click.Command)  # noqa: S101 - for the type
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self._entries[name].summary) for name in self.list_commands(ctx)]
            )

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; report an error if its output could not be written."""
        if COMPLETE not in os.environ:  # click writes completions as bytes
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
        """Run a command; Ctrl-C ends it with exit code 130 instead of click's "Aborted!"."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise CommandError("stopped", INTERRUPTED) from None
