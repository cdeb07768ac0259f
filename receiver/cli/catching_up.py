"""`receiver catch-up`: take in what Docker Hub has and no webhook told of."""

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click
import httpx

from receiver.cli.configured import configured
from receiver.cli.exits import NOT_DONE, NOT_FOUND, Stop, told_plainly
from receiver.cli.moments import moment
from receiver.cli.reaching import Server, reached
from receiver.dockerhub.fetching import Unavailable
from receiver.dockerhub.hub import Hub, waiting_as_asked
from receiver.ledger.cursors import Cursor, read_cursors
from receiver.ledger.ledger import Ledger
from receiver.ledger.transactions import Tx
from receiver.logs import configure_logs
from receiver.missed import Missed, login_for, not_known, pushed_since, take_all
from receiver.rules import rule_on
from receiver.settings import Settings
from receiver.telling import iso

LONGEST_WAIT_SECONDS = 3600.0  # in all, for one repository
A_BITE = 100
Row = dict[str, Any]
T = TypeVar("T")

wait_for = asyncio.sleep


@click.command("catch-up", short_help="Take in what no webhook told of.")
@click.option(
    "--since", help="From then on: 2026-01-01, or 3d for three days ago; default where it left off."
)
@click.option("--repository", help="Only this group/project; default all that rules name.")
@click.option("--dry-run", is_flag=True, help="Only list what would be taken in.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@told_plainly
def catch_up(since: str | None, repository: str | None, dry_run: bool, as_json: bool) -> None:
    """List the tags on Docker Hub and take in those that the ledger does not know.

    They go through the same rules as webhooks. `serve` does this by itself from the time it first
    knew a repository; --since brings in older tags on purpose.
    """
    settings = configured(frozenset({"RECEIVER_SECRET_KEY", "rule"}))
    names = sorted({rule.repository for rule in settings.rules})
    if repository is not None and repository not in names:
        raise Stop(f"no rule names {repository}; rules name {', '.join(names)}", NOT_FOUND)
    chosen = [repository] if repository is not None else names
    bound = None if since is None else moment(since)
    configure_logs(secrets=settings.secrets(), level="WARNING")
    found = asyncio.run(_catch_up(settings, chosen, bound, dry_run=dry_run, as_json=as_json))
    if not found and not as_json:
        click.echo("Nothing was missed.")


async def _catch_up(
    settings: Settings, repositories: list[str], since: int | None, *, dry_run: bool, as_json: bool
) -> int:
    """Catch up with one repository after another, each told before the next; return how many."""
    found = 0
    async with httpx.AsyncClient() as http:
        hub = Hub(http, settings.hub_api_url)
        for repository in repositories:
            bound = since if since is not None else _cursor(settings, repository)
            missed = await _listed(hub, settings, repository, bound)
            fresh = _read(settings, partial(not_known, missed=missed), missed)
            if not dry_run and fresh:
                await _take(settings, fresh)
            found += len(fresh)
            for one in fresh:
                _tell(_row(settings, one), "would take" if dry_run else "took", as_json=as_json)
    return found


def _tell(row: Row, verb: str, *, as_json: bool) -> None:
    reason = f" ({row['reason']})" if row["reason"] else ""
    line = f"{verb}  {row['repository']}:{row['tag']}  {row['verdict']}{reason}"
    click.echo(json.dumps(row) if as_json else line)


async def _listed(hub: Hub, settings: Settings, repository: str, since: int) -> list[Missed]:
    """List a repository's tags with a progress bar, waiting where Docker Hub asks to."""
    login = login_for(settings.rules, repository)
    waiting = waiting_as_asked(_rest, longest=LONGEST_WAIT_SECONDS)
    missed: list[Missed] = []
    try:
        with click.progressbar(length=1, label=repository, file=sys.stderr) as bar:
            pages = pushed_since(hub, repository, login, since, waiting)
            async for page, total in pages:
                missed += page
                bar.length = max(total, 1)
                bar.update(len(page))
            bar.update((bar.length or 1) - bar.pos)  # what is older need not be read
    except Unavailable as error:
        sentence = f"Docker Hub could not be asked of {repository}: {error}"
        raise Stop(sentence, NOT_DONE) from None
    return sorted(missed, key=lambda one: one.push.pushed_at or 0)


async def _rest(seconds: float) -> None:
    click.echo(f"Docker Hub asks to wait {seconds:.0f} s …", err=True)
    await wait_for(seconds)


def _cursor(settings: Settings, repository: str) -> int:
    none: list[Cursor] = []
    cursors = _read(settings, read_cursors, none)
    own = [cursor.looks_back_to for cursor in cursors if cursor.repository == repository]
    if not own:
        raise Stop(f"{repository} was never served here; say --since", NOT_DONE)
    return own[0]


def _read(settings: Settings, read: Callable[[Tx], T], without: T) -> T:
    """Read the ledger; `without` where there is none yet."""
    ledger = Ledger(settings.database_url)
    try:
        if ledger.path is not None and not ledger.path.exists():
            return without
        ledger.open_to_read()
        return ledger.read_now(read)
    finally:
        ledger.close()


async def _take(settings: Settings, missed: list[Missed]) -> None:
    async with reached(settings, begin=True) as there:
        if isinstance(there, Server):
            for first in range(0, len(missed), A_BITE):
                told = [_told(one) for one in missed[first : first + A_BITE]]
                await there.ask("POST", "/api/catch-up", {"missed": told})
            return
        rules, notices = settings.rules, settings.notices
        await there.write(lambda tx: take_all(tx, rules, missed, notices, up_since=None))
        click.echo("receiver: no server is running; `receiver serve` works them", err=True)


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
