"""`receiver catch-up`: find and record pushes whose webhook never arrived."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receiver.cli.configured import configured
from receiver.cli.exits import NOT_DONE, NOT_FOUND, Stop, told_plainly
from receiver.cli.moments import moment
from receiver.cli.reaching import Server, reached
from receiver.telling import iso

if TYPE_CHECKING:
    from receiver.dockerhub.hub import Hub
    from receiver.ledger.cursors import Cursor
    from receiver.ledger.transactions import Tx
    from receiver.missed import Missed
    from receiver.settings import Settings

LONGEST_WAIT_SECONDS = 3600.0  # in total, for one repository
BATCH = 100  # pushes in a request to the server
Row = dict[str, Any]
T = TypeVar("T")

wait_for = asyncio.sleep


@click.command("catch-up")
@click.option(
    "--since",
    help="Start time: 2026-01-01, or 3d for three days ago; default: where the last run stopped.",
)
@click.option("--repository", help="Only this group/project; default: every repository of a rule.")
@click.option("--dry-run", is_flag=True, help="Only list the pushes; record nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@told_plainly
def catch_up(since: str | None, repository: str | None, dry_run: bool, as_json: bool) -> None:
    """List the tags on Docker Hub and record each push that is not in the ledger.

    The same rules apply as for webhooks. `serve` does this automatically, starting from the time
    when a rule first named a repository; --since also records older tags.
    """
    from receiver.logs import configure_logs

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
    """Catch up with each repository in turn and print its pushes; return their number."""
    from receiver.dockerhub.hub import Hub
    from receiver.missed import not_known
    from receiver.outgoing import http_client

    found = 0
    async with http_client() as http:
        hub = Hub(http, settings.hub_api_url)
        for repository in repositories:
            bound = since if since is not None else _cursor(settings, repository)
            missed = await _listed(hub, settings, repository, bound)
            new = _read(settings, partial(not_known, missed=missed), missed)
            if not dry_run and new:
                await _record(settings, new)
            found += len(new)
            for item in new:
                verb = "would record" if dry_run else "recorded"
                _print(_row(settings, item), verb, as_json=as_json)
    return found


def _print(row: Row, verb: str, *, as_json: bool) -> None:
    reason = f" ({row['reason']})" if row["reason"] else ""
    line = f"{verb}  {row['repository']}:{row['tag']}  {row['verdict']}{reason}"
    click.echo(json.dumps(row) if as_json else line)


async def _listed(hub: Hub, settings: Settings, repository: str, since: int) -> list[Missed]:
    """List a repository's tags with a progress bar; wait when Docker Hub asks to."""
    from receiver.dockerhub.fetching import Unavailable
    from receiver.dockerhub.hub import waiting_as_asked
    from receiver.missed import login_for, pushed_since

    login = login_for(settings.rules, repository)
    waiting = waiting_as_asked(_wait, longest=LONGEST_WAIT_SECONDS)
    missed: list[Missed] = []
    try:
        with click.progressbar(length=1, label=repository, file=sys.stderr) as bar:
            pages = pushed_since(hub, repository, login, since, waiting)
            async for page, total in pages:
                missed += page
                bar.length = max(total, 1)
                bar.update(len(page))
            bar.update((bar.length or 1) - bar.pos)  # older pages are not read
    except Unavailable as error:
        sentence = f"Docker Hub could not list the tags of {repository}: {error}"
        raise Stop(sentence, NOT_DONE) from None
    return sorted(missed, key=lambda item: item.push.pushed_at or 0)


async def _wait(seconds: float) -> None:
    click.echo(f"Docker Hub rate limit: waiting {seconds:.0f} s …", err=True)
    await wait_for(seconds)


def _cursor(settings: Settings, repository: str) -> int:
    from receiver.ledger.cursors import read_cursors

    none: list[Cursor] = []
    cursors = _read(settings, read_cursors, none)
    own = [cursor.looks_back_to for cursor in cursors if cursor.repository == repository]
    if not own:
        raise Stop(f"no starting point is known for {repository}; use --since", NOT_DONE)
    return own[0]


def _read(settings: Settings, read: Callable[[Tx], T], without: T) -> T:
    """Read the ledger; return `without` if it does not exist yet."""
    from receiver.ledger.ledger import Ledger

    ledger = Ledger(settings.database_url)
    try:
        if ledger.path is not None and not ledger.path.exists():
            return without
        ledger.open_to_read()
        return ledger.read_now(read)
    finally:
        ledger.close()


async def _record(settings: Settings, missed: list[Missed]) -> None:
    from receiver.missed import take_all

    async with reached(settings, begin=True) as there:
        if isinstance(there, Server):
            for first in range(0, len(missed), BATCH):
                rows = [_pushed(item) for item in missed[first : first + BATCH]]
                await there.ask("POST", "/api/catch-up", {"missed": rows})
            return
        rules, notices = settings.rules, settings.notices
        await there.write(lambda tx: take_all(tx, rules, missed, notices, up_since=None))
        click.echo(
            "receiver: no server is running; start `receiver serve` to process them", err=True
        )


def _pushed(missed: Missed) -> Row:
    push = missed.push
    return {
        "repository": push.repository,
        "tag": push.tag,
        "pushed_at": push.pushed_at,
        "digest": missed.digest,
        "media_type": push.media_type,
    }


def _row(settings: Settings, missed: Missed) -> Row:
    from receiver.rules import rule_on

    ruling = rule_on(missed.push, settings.rules)
    pushed_at = missed.push.pushed_at
    return {
        **_pushed(missed),
        "pushed_at": None if pushed_at is None else iso(pushed_at),
        "verdict": ruling.verdict.value,
        "reason": ruling.reason,
    }
