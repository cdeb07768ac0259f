"""`receiver pause`, `resume`, `retire`: what a person steers by hand."""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import click
import msgspec

from receiver.cli.configured import settings_in_spite
from receiver.cli.exits import NOT_DONE, USAGE, Stop, told_plainly
from receiver.cli.reaching import Server, reached
from receiver.edgegap.client import edgegap_client
from receiver.edgegap.pace import Pace
from receiver.images import is_repository
from receiver.ledger import pauses
from receiver.ledger.ledger import Ledger
from receiver.ledger.transactions import Tx
from receiver.reading_settings import load_settings
from receiver.retiring import kept_by, would_go
from receiver.retiring import retire as retire_versions
from receiver.secret import Secret
from receiver.settings import Settings
from receiver.steering import pause_known

MOST_RETIRED = 100
RETIRING_SECONDS = 300.0  # three calls to Edgegap for each version, at its pace
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


@click.command(short_help="Let old versions of an app go.")
@click.argument("app")
@click.option(
    "--keep", type=click.IntRange(1), help="How many in all; default each rule's own `keep`."
)
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told_plainly
def retire(app: str, keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Delete versions of APP that this receiver made, beyond the newest that are kept.

    Never the newest, a channel's, a pinned one, or one of which anything runs.
    """
    settings = load_settings(os.environ, need=KEY | {"EDGEGAP_TOKEN", "rule"})
    known = sorted({rule.app for rule in settings.rules})
    if app not in known:
        raise Stop(f"no rule names the app {app}; rules name: {', '.join(known)}", USAGE)
    if keep is None and kept_by(settings, app) is None:
        raise Stop(f"no rule of the app {app} has `keep`; say --keep N", USAGE)
    told = asyncio.run(_retire(settings, {"app": app, "keep": keep, "dry_run": dry_run}))
    if as_json:
        click.echo(json.dumps(told))
        return
    for version in told["would_go"] if dry_run else []:
        click.echo(f"would go  {app}/{version}, unless it runs")
    for one in told["retired"]:
        click.echo(
            f"{'retired' if one['retired'] else 'left   '}  {app}/{one['version']}: {one['why']}"
        )
    if not told["would_go"]:
        click.echo(f"Nothing to retire of {app}.")


async def _retire(settings: Settings, asked: Told) -> Told:
    async with reached(settings) as there:
        if isinstance(there, Server):
            return await there.ask("POST", "/api/retire", asked, seconds=RETIRING_SECONDS)
        going = await would_go(there, settings, asked["app"], asked["keep"])
        found: Told = {"would_go": [one.version for one in going], "retired": []}
        if not asked["dry_run"]:
            found["retired"] = await _retire_here(there, settings, asked)
        return found


async def _retire_here(ledger: Ledger, settings: Settings, asked: Told) -> list[Told]:
    token = settings.edgegap_token or Secret("")
    pace = Pace(settings.requests_per_second, settings.concurrency)
    connect = edgegap_client(settings.edgegap_base_url, token, pace, settings.secrets())
    async with connect as client:
        results = await retire_versions(
            ledger, client, settings, asked["app"], keep=asked["keep"], most=MOST_RETIRED
        )
    return [dict(msgspec.to_builtins(one)) for one in results]


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
