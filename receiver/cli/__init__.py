"""The command line: `main`, the list of all commands, and how each of them ends.

A command's module is imported only when the command runs, so that `receiver --help` is fast.
"""

import os
import sys
from importlib import import_module
from typing import Any

import click

from receiver.cli.output import (
    EPILOG,
    INTERRUPTED,
    NOT_DONE,
    CommandError,
    output_failure,
    prepare_streams,
)
from receiver.config.variables import variables_of
from receiver.version import VERSION

COMPLETE = "_RECEIVER_COMPLETE"  # set by a shell that asks for completions


# The module in `receiver.cli` that defines each command, and its summary.
COMMANDS = {
    "serve": ("serve", "Run the receiver: webhook, worker, API, page."),
    "reload": ("operations", "Have the server read its configuration again."),
    "demo": ("serve", "Run a demo: no account, no configuration."),
    "init": ("init", "Write the configuration, step by step."),
    "check": ("config", "Check the configuration and report all faults."),
    "config": ("config", "Print the settings in force, or their JSON Schema."),
    "doctor": ("config", "Check everything that a push needs."),
    "link": ("config", "Print the link to paste into Docker Hub."),
    "connect": ("connect", "Create the webhook on Docker Hub."),
    "api-token": ("config", "Print or revoke an API token."),
    "deliveries": ("deliveries", "List deliveries, newest first."),
    "status": ("status", "Show health, parked work and the last pushes."),
    "show": ("deliveries", "Show everything about one delivery."),
    "push": ("deliveries", "Register one image manually."),
    "wait": ("deliveries", "Wait for the result of a push."),
    "replay": ("deliveries", "Apply the rules to recorded deliveries again."),
    "dismiss": ("operations", "Close parked registrations."),
    "catch-up": ("operations", "Find pushes whose webhook never arrived."),
    "channels": ("channels", "List channels, their holds and their last moves."),
    "rollback": ("channels", "Move a channel back to an earlier tag, and hold it."),
    "promote": ("channels", "Move a channel manually, and hold it."),
    "trial": ("versions", "Try a version: deploy it once, watch it, stop it."),
    "release": ("channels", "Release the hold of a channel."),
    "pause": ("operations", "Pause the registrations of a repository."),
    "resume": ("operations", "Resume paused registrations."),
    "open-gate": ("operations", "Open a closed gate and retry now."),
    "diff": ("versions", "Show what differs between two versions."),
    "export": ("versions", "Print the settings of a version as TOML."),
    "prune": ("versions", "Delete old versions of an app."),
    "notify-test": ("operations", "Send a test message to each destination."),
    "ledger": ("ledger", "Back up the ledger, or copy it to another database."),
}


class Program(click.Group):
    """A command group that ends with one line and a documented exit code, even on Ctrl-C."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command; None if no command has this name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"receiver.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)  # noqa: S101 - for the type
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

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


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(VERSION, prog_name="receiver")
@click.pass_context
def main(context: click.Context) -> None:
    """Register each tag pushed to Docker Hub as an Edgegap app version, hands-off.

    \b
    Begin with:
      receiver demo                      run a demo, no account needed
      receiver init                      write the configuration, step by step
      receiver doctor                    check everything that a push needs
      receiver serve                     run the receiver
      receiver connect                   create the webhook on Docker Hub

    Secrets are read from the environment (RECEIVER_SECRET_KEY, EDGEGAP_TOKEN, DOCKERHUB_USERNAME,
    DOCKERHUB_TOKEN; each also as NAME_FILE) or from a file .env in the working directory or next to
    receiver.toml. All other settings are read from receiver.toml.

    All times are UTC, those that are passed and those that are printed. On a terminal, lists have
    headers and colors; NO_COLOR turns the colors off.
    """
    context.obj = dict(os.environ)  # a reload starts from this environment
    os.environ.update(variables_of(os.environ).from_dotenv)  # for proxies and certificates
