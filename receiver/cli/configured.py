"""The configuration of a command: the environment, `.env` and receiver.toml."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from receiver.variables import variables_of

if TYPE_CHECKING:
    from receiver.settings import Settings

NOTHING: frozenset[str] = frozenset()


def configured(need: frozenset[str] = NOTHING) -> Settings:
    """Load the settings; raises ConfigError with all faults."""
    from receiver.reading_settings import load_settings

    return load_settings(variables_of(os.environ), need=need)


def settings_in_spite(need: frozenset[str] = NOTHING) -> Settings:
    """Load the settings, and print a warning if receiver.toml has faults; raises ConfigError.

    For commands that use no rule: a typo in a rule must not block them. The environment must be
    valid, because it names the ledger and the server.
    """
    from receiver.reading_settings import load_in_spite

    settings, faults = load_in_spite(variables_of(os.environ), need=need)
    if faults:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        click.echo(
            f"receiver: the configuration has {count}, ignored by this command; "
            "see `receiver check`",
            err=True,
        )
    return settings
