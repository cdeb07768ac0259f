"""The configuration for commands that go by no rule: a typo in one must not lock them out."""

import os

import click

from receiver.reading_settings import load_in_spite
from receiver.settings import Settings


def settings_in_spite(need: frozenset[str] = frozenset()) -> Settings:
    """Load the settings, and say so where receiver.toml has faults; raises ConfigError.

    What stands in the environment must be sound: it says which ledger, and which server.
    """
    settings, faults = load_in_spite(os.environ, need=need)
    if faults:
        many = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        click.echo(
            f"receiver: the configuration has {many}, which this command goes on without; "
            "`receiver check` tells them",
            err=True,
        )
    return settings
