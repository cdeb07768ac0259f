"""`receiver pause` and `resume`: hold back and let go on the pushes of a repository."""

import asyncio
from collections.abc import Callable
from typing import Any

import click

from receiver.cli.configured import settings_in_spite
from receiver.cli.exits import NOT_DONE, USAGE, Stop, told_plainly
from receiver.cli.reaching import Server, reached
from receiver.images import is_repository
from receiver.ledger import pauses
from receiver.ledger.transactions import Tx
from receiver.settings import Settings
from receiver.steering import pause_known

KEY = frozenset({"RECEIVER_SECRET_KEY"})
Told = dict[str, Any]


@click.command(short_help="Hold back a repository's registrations.")
@click.argument("repository", required=False)
@click.option("--all", "everything", is_flag=True, help="All repositories.")
@told_plainly
def pause(repository: str | None, everything: bool) -> None:
    """Hold back the registrations of REPOSITORY, or of all: pushes are recorded and queue."""
    name = _named(repository, everything=everything)
    settings = settings_in_spite(KEY)

    def write(tx: Tx) -> Told:
        pause_known(tx, name, settings.rules)
        return {"paused": pauses.paused(tx)}

    told = ask(settings, "/api/pause", {"repository": name}, write)
    names = ["all repositories" if one == pauses.ALL else one for one in told["paused"]]
    click.echo(f"Paused: {', '.join(names)}. Pushes are recorded and queue until `resume`.")


@click.command(short_help="Let paused registrations go on.")
@click.argument("repository", required=False)
@click.option("--all", "everything", is_flag=True, help="All repositories.")
@told_plainly
def resume(repository: str | None, everything: bool) -> None:
    """Let the registrations of REPOSITORY, or of all, go on."""
    name = _named(repository, everything=everything)

    def write(tx: Tx) -> Told:
        return {"resumed": pauses.resume(tx, name), "paused": pauses.paused(tx)}

    told = ask(settings_in_spite(KEY), "/api/resume", {"repository": name}, write)
    if not told["resumed"]:
        everything_is = (
            " (all are: `receiver resume --all`)" if pauses.ALL in told["paused"] else ""
        )
        what = "nothing is" if everything else f"{name} is not"
        raise Stop(f"{what} paused{everything_is}", NOT_DONE)
    click.echo("Resumed.")
    if pauses.ALL in told["paused"]:
        click.echo("receiver: all repositories are paused still", err=True)


def _named(repository: str | None, *, everything: bool) -> str:
    if everything == (repository is not None):
        raise Stop("name one repository, or say --all", USAGE)
    if repository is None:
        return pauses.ALL
    if not is_repository(repository):
        raise Stop(f"{repository!r} is no repository: write group/project", USAGE)
    return repository


def ask(settings: Settings, path: str, asked: Told, write: Callable[[Tx], Told]) -> Told:
    """Ask the running server, or write the ledger when there is none."""

    async def asking() -> Told:
        async with reached(settings, begin=True) as there:
            if isinstance(there, Server):
                return await there.ask("POST", path, asked)
            told = await there.write(write)
            click.echo("receiver: no server is running; `receiver serve` goes by it", err=True)
            return told

    return asyncio.run(asking())
