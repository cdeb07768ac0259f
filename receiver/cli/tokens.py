"""`receiver api-token`: a bearer token for the API."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from receiver.api_tokens import LONGEST_SECONDS
from receiver.cli.configured import configured
from receiver.cli.exits import NOT_DONE, USAGE, Stop, told_plainly
from receiver.cli.reaching import Server, api_keys, new_token, reached
from receiver.images import is_repository

if TYPE_CHECKING:
    from receiver.settings import Settings

SECONDS_A_DAY = 86_400
KEY = frozenset({"RECEIVER_SECRET_KEY"})


@click.command("api-token")
@click.option(
    "--days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="Days until the token expires.",
)
@click.option(
    "--repository", metavar="NAME", help="Limit the token to the pushes of one repository."
)
@click.option("--revoke", metavar="ID", help="Revoke the token with this ID instead.")
@told_plainly
def api_token(days: int, repository: str | None, revoke: str | None) -> None:
    """Print an API token that is valid for the given number of days.

    The token is signed with RECEIVER_SECRET_KEY and not stored. Its ID is printed to standard
    error: `receiver api-token --revoke ID` revokes this token alone. A token that is limited to a
    repository can list, show, push and replay the pushes of that repository, and nothing else.
    """
    settings = configured(KEY)
    if revoke is not None:
        if not asyncio.run(_revoke(settings, revoke)):
            raise Stop(f"{revoke} was already revoked", NOT_DONE)
        click.echo(f"Revoked {revoke}.")
        return
    if repository is not None and not is_repository(repository):
        raise Stop(
            f"{repository!r} is not a repository name: use namespace/name in lower case", USAGE
        )
    token = new_token(days * SECONDS_A_DAY, repository)
    click.echo(api_keys(settings).sign(token))
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(token.expires_at))
    click.echo(f"ID {token.id}, valid until {until}", err=True)


async def _revoke(settings: Settings, identity: str) -> bool:
    from receiver.ledger.revocations import revoke as revoke_in_ledger

    async with reached(settings, begin=True) as there:
        if isinstance(there, Server):
            found = await there.ask("POST", "/api/tokens/revoke", {"id": identity})
            return bool(found["revoked"])
        return await there.write(
            lambda tx: revoke_in_ledger(tx, identity, tx.now + LONGEST_SECONDS * 1000)
        )
