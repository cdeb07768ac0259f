"""`receiver config schema` and `receiver config show`."""

import os

import click

from receiver.cli.exits import handle_errors
from receiver.config.variables import variables_of


@click.group()
def config() -> None:
    """Print the configuration in force, or the JSON Schema of receiver.toml."""


@config.command()
@handle_errors
def schema() -> None:
    """Print the JSON Schema of receiver.toml, for editors and for check-jsonschema.

    \b
    For completion and checks while you type, in editors with Taplo or Even Better TOML:
      receiver config schema > receiver.schema.json
    and write as the first line of receiver.toml:
      #:schema ./receiver.schema.json
    """
    from receiver.config.model import schema_text

    click.echo(schema_text(), nl=False)


@config.command()
@handle_errors
def show() -> None:
    """Print the settings in force, with all defaults, and where each is from.

    Secrets are shown as ***. The part after the variables is a valid receiver.toml.
    """
    from receiver.config.effective import effective
    from receiver.config.load import load

    environ = variables_of(os.environ)
    click.echo(effective(load(environ), environ))
