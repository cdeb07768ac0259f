"""`receiver deliveries` and `receiver show`: read the ledger, even while a server is running."""

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

MOST_ROWS = 1000  # the maximum of the API, too


@click.command()
@click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(1, MOST_ROWS),
    help="Maximum number of deliveries to list.",
)
@click.option("--repository", help="Only deliveries of this repository (group/project).")
@click.option("--tag", help="Only deliveries of this tag.")
@click.option(
    "--verdict",
    type=click.Choice([verdict.value for verdict in Verdict]),
    help="Only deliveries with this verdict.",
)
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    help="Only deliveries with a registration in this state.",
)
@click.option("--before", help="Only deliveries before this delivery ID: the next page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@told_plainly
def deliveries(as_json: bool, **filters: object) -> None:
    """List deliveries, newest first, with the state of their registrations.

    Works with and without a running server. The column after the repository and tag is the verdict,
    followed by the reason, if any. `receiver show ID` explains the reason and what to do.
    """
    from receiver.ledger.stories import Filter, delivery_row, list_deliveries

    ledger = _opened()
    before = filters["before"]
    known = before is None or ledger.read_now(lambda tx: delivery_row(tx, str(before))) is not None
    rows = ledger.read_now(lambda tx: list_deliveries(tx, Filter(**filters)))  # type: ignore[arg-type]  # click checked the values
    any_rows = rows or ledger.read_now(lambda tx: list_deliveries(tx, Filter(limit=1)))
    ledger.close()
    if not known:
        raise Stop(f"there is no delivery {before}; pass a listed ID to --before", NOT_FOUND)
    for row in rows:
        click.echo(json.dumps(plain(row), ensure_ascii=False) if as_json else one_line(row))
    if not rows and not as_json:
        none = "No deliveries yet. `receiver link` prints the link for Docker Hub."
        click.echo("No deliveries match. Try fewer filters." if any_rows else none, err=True)


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told_plainly
def show(identity: str, as_json: bool) -> None:
    """Show one delivery in full: its push, its registrations, each attempt and the next step.

    ID is the ID of a delivery or of a registration.
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
