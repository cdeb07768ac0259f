"""`receiver api-token`: a bearer token for the API."""

import time

import click

from receiver.api_tokens import ApiKeys
from receiver.cli.configured import configured
from receiver.cli.exits import told_plainly
from receiver.settings import Settings

SECONDS_A_DAY = 86_400
ONE_MINUTE = 60


@click.command("api-token", short_help="Print a bearer token for the API.")
@click.option(
    "--days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="How long it is good.",
)
@told_plainly
def api_token(days: int) -> None:
    """Print a bearer token for /api, good for so many days.

    It is signed with RECEIVER_SECRET_KEY and kept nowhere; taking that key out revokes it.
    """
    settings = configured(frozenset({"RECEIVER_SECRET_KEY"}))
    click.echo(token_for(settings, days * SECONDS_A_DAY))


def token_for(settings: Settings, seconds: int = ONE_MINUTE) -> str:
    """Return an API token good for so many seconds."""
    keys = ApiKeys([key.reveal() for key in settings.secret_keys])
    return keys.token(int(time.time()) + seconds)
