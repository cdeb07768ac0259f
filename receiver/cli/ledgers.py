"""`receiver ledger backup` and `receiver ledger copy`."""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

import click

from receiver.cli.exits import USAGE, Stop, told_plainly
from receiver.ledger.copying import COPIED, back_up, copy_ledger, rows_of
from receiver.ledger.engines import read_database_url
from receiver.ledger.ledger import Ledger
from receiver.settings import load_settings


@click.group(short_help="Back the ledger up, or move it to another database.")
def ledger() -> None:
    """Back the ledger up, or move it to another database."""


@ledger.command(short_help="Make a consistent copy of a live SQLite ledger.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@told_plainly
def backup(file: Path) -> None:
    """Make a consistent copy of the SQLite ledger in FILE, while the server runs or not."""
    found = Ledger(load_settings(os.environ).database_url)
    found.open_to_read()
    found.close()
    if found.path is None:
        raise Stop("the ledger is on PostgreSQL: use pg_dump", USAGE)
    size = back_up(found.path, file)
    click.echo(f"{file}: {size} bytes, checked.")


@ledger.command("copy", short_help="Move a ledger to another database.")
@click.argument("source")
@click.argument("target")
@told_plainly
def copy_command(source: str, target: str) -> None:
    """Copy the ledger at SOURCE into the empty one at TARGET; both are database URLs.

    Stop the server first, copy, then set DATABASE_URL to TARGET and start it again.
    """
    click.echo(f"{asyncio.run(_copy(_ledger(source), _ledger(target)))} rows copied, counts agree.")


def _ledger(url: str) -> Ledger:
    try:
        return Ledger(read_database_url(url))
    except ValueError as error:
        sentence = f"{error}: write sqlite:///path or postgresql://user:password@host/database"
        raise Stop(sentence, USAGE) from None


async def _copy(source: Ledger, target: Ledger) -> int:
    try:
        source.open_to_read()
        source.open_to_write(wait_seconds=0)  # so that no server adds to it meanwhile
        target.open_to_write(wait_seconds=0)
        total = 0
        for table in COPIED:
            total += await source.read(partial(rows_of, table=table))
        bar = click.progressbar(length=max(total, 1), label="rows", file=sys.stderr)
        with bar:
            return await copy_ledger(source, target, bar.update)
    finally:
        source.close()
        target.close()
