"""`receiver dismiss`: close parked registrations that nobody will fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from receiver.cli.client import KEY, ask_receiver, lenient_settings
from receiver.cli.exits import NOT_DONE, NOT_FOUND, USAGE, CommandError, handle_errors
from receiver.reasons import Reason

if TYPE_CHECKING:
    from receiver.ledger.views import Changed


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All parked registrations.")
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    metavar="REASON",
    help="With --all: only registrations parked for this reason.",
)
@click.option("--undo", is_flag=True, help="Park dismissed registrations again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def dismiss(
    ids: tuple[str, ...], everything: bool, reason: str | None, undo: bool, as_json: bool
) -> None:
    """Close parked registrations that nobody will fix: they end as `dismissed`.

    ID is the ID of a registration or of a delivery. The user name and the time are recorded. A
    dismissed push can be replayed like any other push.
    """
    from receiver.ledger.views import Changed
    from receiver.logs import user_name
    from receiver.web.bodies import DismissRequest, UndoDismissalRequest
    from receiver.web.serialization import json_text

    if everything == bool(ids):
        raise CommandError("name registrations by ID, or use --all", USAGE)
    if reason is not None and not everything:
        raise CommandError("--reason requires --all", USAGE)
    if undo and everything:
        raise CommandError("--undo requires IDs", USAGE)
    why = None if reason is None else Reason(reason)
    asked = (
        UndoDismissalRequest(list(ids), "command", user_name())
        if undo
        else DismissRequest(list(ids), everything, why, "command", user_name())
    )
    path = "/api/dismiss/undo" if undo else "/api/dismiss"
    changed = ask_receiver(lenient_settings(KEY), "POST", path, Changed, asked)
    if as_json:
        click.echo(json_text(changed))
    else:
        _print(changed, "parked" if undo else "dismissed")
    if changed.missing:
        named = ", ".join(changed.missing)
        raise CommandError(
            f"there is no registration {named}; see `receiver deliveries`", NOT_FOUND
        )
    if changed.unchanged:
        named = ", ".join(changed.unchanged)
        problem = "is not dismissed, or a newer registration is open" if undo else "is not parked"
        raise CommandError(f"{named} {problem}", NOT_DONE)


def _print(changed: Changed, word: str) -> None:
    for one in changed.registrations:
        click.echo(f"{word}  {one.id}  {one.app}/{one.version}  {one.reason or ''}")
    for one in changed.superseded:
        click.echo(f"superseded  {one.id}  {one.app}/{one.version}: a later push succeeded")
    if not (changed.registrations or changed.superseded or changed.missing or changed.unchanged):
        click.echo("Nothing is parked.", err=True)
