"""`receiver notify-test`: send a test message to each destination."""

import asyncio

import click

from receiver.cli.configured import configured
from receiver.cli.exits import NOT_DONE, Stop, told_plainly

TITLE = "Receiver: a test"
BODY = "This is a test. The receiver sends its notifications to this destination."


@click.command("notify-test")
@told_plainly
def notify_test() -> None:
    """Send a test message to each [[notice]] of the configuration."""
    from receiver.logs import configure_logs
    from receiver.notices import Message
    from receiver.notify import NoticeNotSent, send

    settings = configured()
    configure_logs(secrets=settings.secrets(), level="CRITICAL")
    if not settings.notices:
        raise Stop("no [[notice]] is configured; see the README", NOT_DONE)
    failed = 0
    for notice in settings.notices:
        try:
            asyncio.run(send(notice.url, Message(TITLE, BODY)))
        except NoticeNotSent as error:
            failed += 1
            click.echo(f"{notice.name}: not sent, {error}")
        else:
            click.echo(f"{notice.name}: sent")
    if failed:
        raise SystemExit(NOT_DONE)
