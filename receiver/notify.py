"""Sending one message to one place, through Apprise (the extra `notices`)."""

import asyncio
from importlib.util import find_spec

from receiver.errors import ReceiverError
from receiver.notices import Message
from receiver.secret import Secret

SECONDS = 30.0


class NoticeNotSent(ReceiverError):
    """The place did not take the message; its text never holds the URL."""


def can_send() -> bool:
    """Tell whether Apprise is installed."""
    return find_spec("apprise") is not None


def is_place(url: Secret) -> bool:
    """Tell whether Apprise understands the URL."""
    import apprise  # noqa: PLC0415 - an extra, and slow to import

    return bool(apprise.Apprise().add(url.reveal()))


async def send(url: Secret, message: Message) -> None:
    """Send a message; raises NoticeNotSent."""
    try:
        async with asyncio.timeout(SECONDS):
            sent = await asyncio.to_thread(_send, url, message)
    except TimeoutError:
        raise NoticeNotSent("it did not answer in time") from None
    except Exception as error:  # noqa: BLE001 - Apprise's plugins may raise anything
        raise NoticeNotSent(type(error).__name__) from None
    if not sent:
        raise NoticeNotSent("it did not take the message")


def _send(url: Secret, message: Message) -> bool:
    import apprise  # noqa: PLC0415 - see above

    place = apprise.Apprise()
    if not place.add(url.reveal()):
        raise NoticeNotSent("its URL is not one that Apprise understands")
    return bool(place.notify(title=message.title, body=message.body))
