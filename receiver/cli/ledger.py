"""`receiver ledger backup` and `receiver ledger copy`."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver.cli.client import lenient_settings
from receiver.cli.output import USAGE, CommandError, handle_errors

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


@click.group()
def ledger() -> None:
    """Back up the ledger, or copy it to another database."""


@ledger.command(short_help="Make a consistent copy of a live SQLite ledger.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace FILE, an earlier backup, in one step.")
@handle_errors
def backup(file: Path, overwrite: bool) -> None:
    """Make a consistent copy of the SQLite ledger in FILE. A server may be running."""
    from receiver.ledger.copy import backup_ledger
    from receiver.ledger.ledger import Ledger

    with suppress(OSError):  # an unreadable folder: the copy reports the error
        if file.exists() and not overwrite:
            raise CommandError(f"{file} already exists: name a new file, or use --overwrite", USAGE)
    source = Ledger(lenient_settings().database_url)
    source.open_readonly()
    source.close()
    if source.path is None:
        raise CommandError("the ledger is on PostgreSQL: use pg_dump", USAGE)
    size = backup_ledger(source.path, file, overwrite=overwrite)
    click.echo(f"{file}: {size} bytes, checked.")


@ledger.command("copy", short_help="Copy a ledger to another database.")
@click.argument("source")
@click.argument("target")
@handle_errors
def copy_command(source: str, target: str) -> None:
    """Copy the ledger at SOURCE into the empty database at TARGET; both are URLs.

    Stop all receivers, copy, then set DATABASE_URL to TARGET and start them again. An interrupted
    copy leaves TARGET empty, and no receiver starts on TARGET until the copy is repeated.
    """
    from receiver.ledger.copy import copy_ledger

    urls = _url("SOURCE", source), _url("TARGET", target)
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label="rows", file=sys.stderr, hidden=hidden) as bar:

        def show_progress(total: int, rows: int) -> None:
            bar.length = total
            bar.update(rows)

        copied = copy_ledger(*urls, show_progress)
    click.echo(f"{copied} rows copied, counts agree.")


def _url(argument: str, text: str) -> URL:
    from receiver.ledger.engine import read_database_url

    try:
        return read_database_url(text)
    except ValueError as error:
        write = "write sqlite:///path or postgresql://user:password@host/database"
        raise CommandError(f"{argument}: {error}: {write}", USAGE) from None
