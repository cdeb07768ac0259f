"""`receiver catch-up`: take in what Docker Hub has and no webhook told of."""

import asyncio
import json
import os
import sys
from typing import Any

import click
import httpx

from receiver.catch_up import OVERLAP_MS, Missed, login_for, pushed_since, take_missed
from receiver.cli.exits import NOT_DONE, NOT_FOUND, Stop, told_plainly
from receiver.cli.moments import moment
from receiver.cli.reaching import Server, reached
from receiver.dockerhub.fetching import Unavailable
from receiver.dockerhub.hub import Hub
from receiver.errors import LedgerError
from receiver.ledger.cursors import is_known, read_cursors
from receiver.ledger.ledger import Ledger
from receiver.ledger.transactions import Tx
from receiver.rules import rule_on
from receiver.settings import Settings, load_settings
from receiver.telling import iso

MOST_WAITS = 5
LONGEST_WAIT_SECONDS = 3600.0
Row = dict[str, Any]


@click.command("catch-up", short_help="Take in what no webhook told of.")
@click.option("--since", help="From then on: 2026-01-01, or 3d ago; default where it left off.")
@click.option("--repository", help="Only this group/project; default all that rules name.")
@click.option("--dry-run", is_flag=True, help="Only list what would be taken in.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@told_plainly
def catch_up(since: str | None, repository: str | None, dry_run: bool, as_json: bool) -> None:
    """List the tags on Docker Hub and take in those that the ledger does not know.

    They go through the same rules as webhooks. `serve` does this by itself from the time it first
    knew a repository; --since brings in older tags on purpose.
    """
    settings = load_settings(os.environ, need=frozenset({"RECEIVER_SECRET_KEY", "rule"}))
    names = sorted({rule.repository for rule in settings.rules})
    if repository is not None and repository not in names:
        raise Stop(f"no rule names {repository}", NOT_FOUND)
    chosen = [repository] if repository is not None else names
    bound = None if since is None else moment(since)
    found = asyncio.run(_catch_up(settings, chosen, bound, dry_run=dry_run))
    for row in found:
        verb = "would take" if dry_run else "took"
        line = f"{verb}  {row['repository']}:{row['tag']}  {row['verdict']}"
        click.echo(json.dumps(row) if as_json else line)
    if not found and not as_json:
        click.echo("Nothing was missed.")


async def _catch_up(
    settings: Settings, repositories: list[str], since: int | None, *, dry_run: bool
) -> list[Row]:
    found: list[Row] = []
    async with httpx.AsyncClient() as http:
        hub = Hub(http, settings.hub_api_url)
        for repository in repositories:
            bound = since if since is not None else await _cursor(settings, repository)
            missed = await _listed(hub, settings, repository, bound)
            fresh = await _unknown(settings, missed)
            if not dry_run and fresh:
                await _take(settings, fresh)
            found += [_row(settings, one) for one in fresh]
    return found


async def _listed(hub: Hub, settings: Settings, repository: str, since: int) -> list[Missed]:
    """List a repository's tags with a progress bar, waiting where Docker Hub asks to."""
    login = login_for(settings.rules, repository)
    for _ in range(MOST_WAITS):
        missed: list[Missed] = []
        try:
            bar = click.progressbar(length=1, label=repository, file=sys.stderr)
            with bar:
                async for page, total in pushed_since(hub, repository, login, since):
                    missed += page
                    bar.length = max(total, 1)
                    bar.update(len(page))
        except Unavailable as error:
            if error.wait is None:
                raise Stop(
                    f"Docker Hub could not be asked of {repository}: {error}", NOT_DONE
                ) from None
            wait = min(error.wait, LONGEST_WAIT_SECONDS)
            click.echo(f"Docker Hub asks to wait {wait:.0f} s …", err=True)
            await asyncio.sleep(wait)
        else:
            return missed[::-1]
    raise Stop(f"Docker Hub kept asking to wait; {repository} is not done", NOT_DONE)


async def _cursor(settings: Settings, repository: str) -> int:
    try:
        ledger = await _reading(settings)
        cursors = ledger.read_now(read_cursors)
        ledger.close()
    except LedgerError:
        cursors = []
    own = [cursor.since for cursor in cursors if cursor.repository == repository]
    if not own:
        raise Stop(f"{repository} was never served here; say --since", NOT_DONE)
    return own[0] - OVERLAP_MS


async def _unknown(settings: Settings, missed: list[Missed]) -> list[Missed]:
    try:
        ledger = await _reading(settings)
    except LedgerError:
        return missed  # there is no ledger yet, so nothing is known

    def read(tx: Tx) -> list[Missed]:
        return [one for one in missed if not _known(tx, one)]

    fresh = ledger.read_now(read)
    ledger.close()
    return fresh


async def _reading(settings: Settings) -> Ledger:
    ledger = Ledger(settings.database_url)
    try:
        ledger.open_to_read()
    except LedgerError:
        ledger.close()
        raise
    return ledger


async def _take(settings: Settings, missed: list[Missed]) -> None:
    async with reached(settings, begin=True) as there:
        if isinstance(there, Server):
            for first in range(0, len(missed), 100):
                told = [_told(one) for one in missed[first : first + 100]]
                await there.ask("POST", "/api/catch-up", {"missed": told})
            return
        await there.write(lambda tx: [take_missed(tx, settings.rules, one) for one in missed])
        click.echo("receiver: no server is running; `receiver serve` works them", err=True)


def _known(tx: Tx, one: Missed) -> bool:
    push = one.push
    return is_known(
        tx,
        repository=push.repository,
        tag=push.tag or "",
        digest=one.digest,
        pushed_at=push.pushed_at,
    )


def _told(one: Missed) -> Row:
    push = one.push
    return {
        "repository": push.repository,
        "tag": push.tag,
        "pushed_at": push.pushed_at,
        "digest": one.digest,
        "media_type": push.media_type,
    }


def _row(settings: Settings, one: Missed) -> Row:
    ruling = rule_on(one.push, settings.rules)
    pushed = one.push.pushed_at
    return {
        **_told(one),
        "pushed_at": None if pushed is None else iso(pushed),
        "verdict": ruling.verdict.value,
        "reason": ruling.reason,
    }
