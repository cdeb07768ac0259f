"""`receiver reload`: the running server reads its configuration again."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click

from receiver.cli.client import reached
from receiver.cli.exits import NOT_DONE, CommandError, handle_errors
from receiver.config.variables import variables_of

if TYPE_CHECKING:
    from receiver.web.bodies import Reloaded


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def reload(as_json: bool) -> None:
    """Have the running server read receiver.toml and .env again, as a SIGHUP does.

    Prints what is in force only after a restart. If the configuration has a fault, the one before
    stays in force; all faults are printed, and the exit code is 3. With replicas, only the one on
    this machine is asked. A new secret key needs a SIGHUP: the server does not know it yet.
    """
    from receiver.web.serialization import json_text

    done = asyncio.run(_reload())
    if as_json:
        click.echo(json_text(done))
        return
    rules = "1 rule" if done.rules == 1 else f"{done.rules} rules"
    click.echo(f"Reloaded: {rules}.")
    if done.needs_a_restart:
        click.echo(f"In force only after a restart: {', '.join(done.needs_a_restart)}.")
    for warning in done.warnings:
        click.echo(f"warn  {warning}", err=True)


async def _reload() -> Reloaded:
    from receiver.config.load import load_settings_lenient
    from receiver.web.bodies import Reloaded

    key = frozenset({"RECEIVER_SECRET_KEY"})
    settings, _ = load_settings_lenient(variables_of(os.environ), need=key)
    async with reached(settings) as server:
        if server.is_here:
            sentence = "no server is running: it reads the configuration at its start"
            raise CommandError(sentence, NOT_DONE)
        return await server.ask("POST", "/api/reload", Reloaded)
