"""`receiver pause`, `resume`, `open-gate`: hold back work, and let it continue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from receiver.cli.configured import settings_in_spite
from receiver.cli.exits import NOT_DONE, USAGE, Stop, told_plainly
from receiver.cli.reaching import Server, perform, reached
from receiver.images import is_repository

if TYPE_CHECKING:
    from receiver.ledger.transactions import Tx
    from receiver.settings import Settings
    from receiver.upkeep.manual import Manual

KEY = frozenset({"RECEIVER_SECRET_KEY"})
Reply = dict[str, Any]


@click.command()
@click.argument("repository", required=False)
@click.option("--all", "everything", is_flag=True, help="All repositories.")
@told_plainly
def pause(repository: str | None, everything: bool) -> None:
    """Hold back the registrations of REPOSITORY, or of all: pushes are recorded and queue."""
    from receiver.ledger import pauses
    from receiver.upkeep.operations import Source

    name = _named(repository, everything=everything)

    async def here(manual: Manual) -> Reply:
        return {"paused": await manual.pause(name, Source.COMMAND)}

    reply = _perform("/api/pause", {"repository": name}, here)
    names = ["all repositories" if one == pauses.ALL else one for one in reply["paused"]]
    click.echo(f"Paused: {', '.join(names)}. Pushes are recorded and queue until `resume`.")


@click.command()
@click.argument("repository", required=False)
@click.option("--all", "everything", is_flag=True, help="All repositories.")
@told_plainly
def resume(repository: str | None, everything: bool) -> None:
    """Let the registrations of REPOSITORY, or of all, go on."""
    from receiver.ledger import pauses
    from receiver.upkeep.operations import Source

    name = _named(repository, everything=everything)

    async def here(manual: Manual) -> Reply:
        resumed, paused = await manual.resume(name, Source.COMMAND)
        return {"resumed": resumed, "paused": paused}

    reply = _perform("/api/resume", {"repository": name}, here)
    if not reply["resumed"]:
        everything_is = (
            " (all are: `receiver resume --all`)" if pauses.ALL in reply["paused"] else ""
        )
        what = "nothing is" if everything else f"{name} is not"
        raise Stop(f"{what} paused{everything_is}", NOT_DONE)
    click.echo("Resumed.")
    if pauses.ALL in reply["paused"]:
        click.echo("receiver: all repositories are paused still", err=True)


@click.command("open-gate")
@click.argument("gate", type=click.Choice(["busy", "token"]))
@told_plainly
def open_gate(gate: str) -> None:
    """Let all work go on that a gate holds back.

    \b
    busy    Edgegap asked to be called less often (429), and named how long
    token   Edgegap refused the API token

    If Edgegap answers as before, the gate closes again.
    """
    from receiver.upkeep.operations import Source

    async def here(manual: Manual) -> Reply:
        if not await manual.open_gate(gate, Source.COMMAND):
            raise Stop(f"the gate {gate} is open: it holds nothing back", NOT_DONE)
        return {"opened": gate}

    _perform("/api/open-gate", {"gate": gate}, here)
    click.echo("Opened.")


def _perform(path: str, asked: Reply, here: Callable[[Manual], Awaitable[Reply]]) -> Reply:
    settings = settings_in_spite(KEY)
    return asyncio.run(
        perform(settings, path, asked, here, without_server="`receiver serve` goes by it")
    )


def _named(repository: str | None, *, everything: bool) -> str:
    from receiver.ledger import pauses

    if everything == (repository is not None):
        raise Stop("name one repository, or say --all", USAGE)
    if repository is None:
        return pauses.ALL
    if not is_repository(repository):
        raise Stop(f"{repository!r} is no repository: write group/project", USAGE)
    return repository


def ask(settings: Settings, path: str, asked: Reply, write: Callable[[Tx], Reply]) -> Reply:
    """Ask the running server, or write the ledger when there is none."""

    async def asking() -> Reply:
        async with reached(settings, begin=True) as there:
            if isinstance(there, Server):
                return await there.ask("POST", path, asked)
            reply = await there.write(write)
            click.echo("receiver: no server is running; `receiver serve` goes by it", err=True)
            return reply

    return asyncio.run(asking())
