"""`receiver deliveries` and `receiver show`: reading the ledger, beside a running server or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from receiver.cli.configured import settings_in_spite
from receiver.cli.exits import NOT_FOUND, Stop, told_plainly
from receiver.reasons import State, Verdict
from receiver.telling import as_json as plain
from receiver.telling import one_line, whole_story

if TYPE_CHECKING:
    from receiver.ledger.ledger import Ledger

MOST_ROWS = 1000  # as many as the API returns at once


@click.command()
@click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(1, MOST_ROWS),
    help="At most so many.",
)
@click.option("--repository", help="Only of this group/project.")
@click.option("--tag", help="Only of this tag.")
@click.option(
    "--verdict",
    type=click.Choice([verdict.value for verdict in Verdict]),
    help="Only what was so judged at the door.",
)
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    help="Only those with a registration in this state.",
)
@click.option("--before", help="Only those before this delivery id: the next page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@told_plainly
def deliveries(as_json: bool, **wanted: object) -> None:
    """List deliveries, newest first, and what became of each.

    Reads the ledger, beside a running server or not. The column after the repository and tag is
    the verdict; a reason stands behind it, and `receiver show ID` says what to do about it.
    """
    from receiver.ledger.stories import Filter, delivery_row, list_deliveries

    ledger = _opened()
    before = wanted["before"]
    known = before is None or ledger.read_now(lambda tx: delivery_row(tx, str(before))) is not None
    rows = ledger.read_now(lambda tx: list_deliveries(tx, Filter(**wanted)))  # type: ignore[arg-type]  # click checked them
    some = rows or ledger.read_now(lambda tx: list_deliveries(tx, Filter(limit=1)))
    ledger.close()
    if not known:
        raise Stop(f"there is no delivery {before}; say --before an id that is listed", NOT_FOUND)
    for row in rows:
        click.echo(json.dumps(plain(row), ensure_ascii=False) if as_json else one_line(row))
    if not rows and not as_json:
        none = "No deliveries yet. `receiver link` prints the link for Docker Hub."
        click.echo("No delivery fits: filter for less." if some else none, err=True)


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told_plainly
def show(identity: str, as_json: bool) -> None:
    """Show the whole story of one delivery: what came, which rules, each attempt, what to do.

    ID is a delivery's, or a registration's.
    """
    from receiver.ledger.stories import story

    ledger = _opened()
    row = ledger.read_now(lambda tx: story(tx, identity))
    ledger.close()
    if row is None:
        raise Stop(f"there is no delivery {identity}; see `receiver deliveries`", NOT_FOUND)
    click.echo(json.dumps(plain(row), ensure_ascii=False) if as_json else whole_story(row))


def _opened() -> Ledger:
    from receiver.ledger.ledger import Ledger

    ledger = Ledger(settings_in_spite().database_url)
    ledger.open_to_read()
    return ledger
