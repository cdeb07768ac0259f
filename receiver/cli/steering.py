"""`receiver pause`, `resume`, `open-gate`: hold work and release it."""

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
    """Pause the registrations of REPOSITORY, or of all: pushes are recorded and queued."""
    from receiver.ledger import pauses
    from receiver.upkeep.operations import Source

    name = _named(repository, everything=everything)

    async def here(manual: Manual) -> Reply:
        return {"paused": await manual.pause(name, Source.COMMAND)}

    reply = _perform("/api/pause", {"repository": name}, here)
    names = ["all repositories" if name == pauses.ALL else name for name in reply["paused"]]
    click.echo(f"Paused: {', '.join(names)}. Pushes are recorded and queued until `resume`.")


@click.command()
@click.argument("repository", required=False)
@click.option("--all", "everything", is_flag=True, help="All repositories.")
@told_plainly
def resume(repository: str | None, everything: bool) -> None:
    """Resume the paused registrations of REPOSITORY, or of all."""
    from receiver.ledger import pauses
    from receiver.upkeep.operations import Source

    name = _named(repository, everything=everything)

    async def here(manual: Manual) -> Reply:
        resumed, paused = await manual.resume(name, Source.COMMAND)
        return {"resumed": resumed, "paused": paused}

    reply = _perform("/api/resume", {"repository": name}, here)
    if not reply["resumed"]:
        everything_is = (
            " (all repositories are: use `receiver resume --all`)"
            if pauses.ALL in reply["paused"]
            else ""
        )
        subject = "nothing is" if everything else f"{name} is not"
        raise Stop(f"{subject} paused{everything_is}", NOT_DONE)
    click.echo("Resumed.")
    if pauses.ALL in reply["paused"]:
        click.echo("receiver: all repositories are still paused", err=True)


@click.command("open-gate")
@click.argument("gate", type=click.Choice(["busy", "token"]))
@told_plainly
def open_gate(gate: str) -> None:
    """Open a closed gate: the work that it blocks continues.

    \b
    busy    closed because Edgegap answered 429, for the time that it named
    token   closed because Edgegap refused the API token

    If Edgegap gives the same answer, the gate closes again.
    """
    from receiver.upkeep.operations import Source

    async def here(manual: Manual) -> Reply:
        if not await manual.open_gate(gate, Source.COMMAND):
            raise Stop(f"the gate {gate} is already open", NOT_DONE)
        return {"opened": gate}

    _perform("/api/open-gate", {"gate": gate}, here)
    click.echo("Opened.")


def _perform(path: str, body: Reply, here: Callable[[Manual], Awaitable[Reply]]) -> Reply:
    settings = settings_in_spite(KEY)
    return asyncio.run(
        perform(
            settings,
            path,
            body,
            here,
            without_server="it takes effect at the next `receiver serve`",
        )
    )


def _named(repository: str | None, *, everything: bool) -> str:
    from receiver.ledger import pauses

    if everything == (repository is not None):
        raise Stop("name one repository, or use --all", USAGE)
    if repository is None:
        return pauses.ALL
    if not is_repository(repository):
        raise Stop(f"{repository!r} is not a repository name: write group/project", USAGE)
    return repository


def ask(settings: Settings, path: str, body: Reply, write: Callable[[Tx], Reply]) -> Reply:
    """Ask the running server, or write to the ledger if no server is running."""

    async def ask_or_write() -> Reply:
        async with reached(settings, begin=True) as there:
            if isinstance(there, Server):
                return await there.ask("POST", path, body)
            reply = await there.write(write)
            click.echo(
                "receiver: no server is running; it takes effect at the next `receiver serve`",
                err=True,
            )
            return reply

    return asyncio.run(ask_or_write())
