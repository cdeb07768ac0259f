"""`receiver wait`: wait for the result of the newest push of an image."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from receiver.cli.client import lenient_settings
from receiver.cli.exits import (
    NOT_DONE,
    NOT_FOUND,
    STILL_WAITING,
    USAGE,
    CommandError,
    handle_errors,
)
from receiver.cli.output import print_rows
from receiver.images import is_digest, parse_image_reference

if TYPE_CHECKING:
    from receiver.ledger.views import Delivery
    from receiver.upkeep.waiting import Awaited

LOOK_EVERY_SECONDS = 0.5


@click.command()
@click.argument("image", metavar="REPOSITORY:TAG")
@click.option(
    "--digest",
    metavar="SHA256",
    help="Only a push of this digest counts; for tags that are pushed again. Needs preflight.",
)
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Maximum number of seconds to wait.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def wait(image: str, digest: str | None, timeout: float, as_json: bool) -> None:
    """Wait until the newest push of REPOSITORY:TAG is done or parked, also in its channels.

    Reads the ledger, even while a server is running; it waits for the push itself, too. On another
    machine, `GET /api/deliveries?image=REPOSITORY:TAG&wait=60` does the same: see deploy/ci/.

    \b
    The exit code is:
      0  every registration is done
      1  a registration is parked or dismissed, the version is superseded or was deleted,
         or the push was ignored; a channel that keeps a newer image counts as done
      5  no push of the image is known after --timeout
      6  a registration is neither done nor parked after --timeout
    """
    from receiver.cli.delivery_text import HEADERS, cells
    from receiver.upkeep.waiting import Awaited, Progress, progress_of, sentence_of
    from receiver.web.serialization import json_text

    if digest is not None and not is_digest(digest):
        raise CommandError(f"{digest!r} is not a digest: write sha256: and 64 digits", USAGE)
    awaited = Awaited(parse_image_reference(image), digest, timeout)
    found = _wait_for(awaited)
    if found is not None and as_json:
        click.echo(json_text(found))
    elif found is not None:
        print_rows(HEADERS, [cells(found)])
    codes = {
        Progress.UNKNOWN: NOT_FOUND,
        Progress.OPEN: STILL_WAITING,
        Progress.NOT_DONE: NOT_DONE,
    }
    progress = progress_of(found)
    if progress in codes:
        raise CommandError(sentence_of(awaited, found), codes[progress])


def _wait_for(awaited: Awaited) -> Delivery | None:
    """Return the newest push once it is over, or what is known of it when time is up."""
    from receiver.ledger.ledger import Ledger
    from receiver.upkeep.waiting import is_over, newest_push

    ledger = Ledger(lenient_settings().database_url)
    ledger.open_readonly()
    until = time.monotonic() + awaited.seconds
    try:
        while True:
            found = ledger.read_sync(lambda tx: newest_push(tx, awaited))
            left = until - time.monotonic()
            if is_over(found) or left <= 0:
                return found
            time.sleep(min(left, LOOK_EVERY_SECONDS))
    finally:
        ledger.close()
