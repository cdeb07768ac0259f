"""`receiver prune`: delete old versions of an app."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from receiver.cli.client import Server, configured, reached
from receiver.cli.exits import NOT_DONE, USAGE, CommandError, handle_errors
from receiver.config.variables import NEEDED

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.ledger.ledger import Ledger

PRUNING_SECONDS = 300.0  # many rate-limited calls to Edgegap
COMMAND = "command"
Row = dict[str, Any]


@click.command()
@click.argument("app")
@click.option("--dry-run", is_flag=True, help="Only list the versions; delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def prune(app: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete versions of APP that this receiver created, except the newest `keep` of their rule.

    Never deletes the newest version, a version of a channel, a pinned version, an older tag that
    was pushed manually, or a version with running deployments.
    """
    from receiver.pipeline.prune import keep_count

    settings = configured(NEEDED)
    known = sorted({rule.app for rule in settings.rules})
    if app not in known:
        raise CommandError(f"no rule names the app {app}; rules name: {', '.join(known)}", USAGE)
    if keep_count(settings, app) is None:
        raise CommandError(
            f"no rule of the app {app} has `keep`; add it, for instance keep = 10", USAGE
        )
    found = asyncio.run(_planned(settings, app))
    names = [row["version"] for row in found["prunable"]]
    if names and not dry_run:
        if not yes and is_terminal():
            question = f"Delete {', '.join(names)} of {app} at Edgegap?"
            if not click.confirm(question, err=True):
                raise CommandError("nothing was deleted", NOT_DONE)
        found["results"] = asyncio.run(_pruned(settings, app, names))
    if as_json:
        click.echo(json.dumps(found))
        return
    for row in found["prunable"] if dry_run else []:
        click.echo(f"would delete  {app}/{row['version']}: {row['why']}, unless it is deployed")
    for row in found["results"]:
        word = "deleted" if row["deleted"] else "kept   "
        click.echo(f"{word}  {app}/{row['version']}: {row['why']}")
    if not names:
        click.echo(f"{app} has no versions to delete.")


def is_terminal() -> bool:
    """Return whether standard input is a terminal."""
    return sys.stdin.isatty()


async def _planned(settings: Settings, app: str) -> Row:
    """Return the versions that would be deleted, as the API returns them for a dry run."""
    from receiver.pipeline.prune import MOST_AT_ONCE, Scope, plan

    async with reached(settings) as there:
        if isinstance(there, Server):
            return await there.ask("POST", "/api/prune", {"app": app, "dry_run": True})
        planned = await plan(there, settings, Scope(app, most=MOST_AT_ONCE))
        prunable = [{"version": item.made.version, "why": item.why} for item in planned]
        return {"app": app, "prunable": prunable, "results": []}


async def _pruned(settings: Settings, app: str, names: list[str]) -> list[Row]:
    """Delete the versions with these names only, even if more became prunable since."""
    async with reached(settings) as there:
        if isinstance(there, Server):
            body = {"app": app, "versions": names, "source": COMMAND}
            answer = await there.ask("POST", "/api/prune", body, seconds=PRUNING_SECONDS)
            return list(answer["results"])
        return await _prune_here(there, settings, app, names)


async def _prune_here(ledger: Ledger, settings: Settings, app: str, names: list[str]) -> list[Row]:
    from receiver.config.settings import LiveSettings
    from receiver.edgegap.client import RateLimiter, edgegap_client
    from receiver.pipeline.prune import MOST_AT_ONCE, Scope, log_pruned
    from receiver.pipeline.prune import prune as prune_versions
    from receiver.secret import Secret

    token = settings.edgegap_token or Secret("")
    pace = RateLimiter(settings.requests_per_second, settings.concurrency)
    connect = edgegap_client(settings.edgegap_base_url, token, pace, settings.secrets())
    async with connect as client:
        scope = Scope(app, most=MOST_AT_ONCE, only=names)
        results = await prune_versions(ledger, client, LiveSettings(settings), scope)
    log_pruned(app, results, source=COMMAND)
    return [dict(msgspec.to_builtins(result)) for result in results]
