"""Sending one message to one place, through Apprise (the extra `notices`).

Apprise runs in a process of its own for each message: it may hang on a place for ever, and must
neither keep the receiver from ending nor stay in its memory. The URL goes in by standard input.
"""

import asyncio
import json
import os
import sys
from importlib.util import find_spec

from receiver.errors import ReceiverError
from receiver.notices import Message
from receiver.proxies import as_requests_reads
from receiver.secret import Secret
from receiver.variables import Variables

SECONDS = 30.0  # well within the lease of a notice: see ledger/notices
NOT_TAKEN, NO_PLACE = 1, 2
LARGEST_MEMORY = 512 * 1024 * 1024
PIPE, NOWHERE = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL


class NoticeNotSent(ReceiverError):
    """The place did not take the message; its text never holds the URL."""


def can_send() -> bool:
    """Tell whether Apprise is installed."""
    return find_spec("apprise") is not None


async def understands(url: Secret) -> bool:
    """Tell whether Apprise knows what kind of place this is. Nothing is sent."""
    return await _run({"url": url.reveal()}, SECONDS) != NO_PLACE


async def send(url: Secret, message: Message, *, seconds: float = SECONDS) -> None:
    """Send a message within so many seconds; raises NoticeNotSent."""
    told = {"url": url.reveal(), "title": message.title, "body": message.body}
    became = await _run(told, seconds)
    if became is None:
        raise NoticeNotSent("it did not answer in time")
    if became == NO_PLACE:
        raise NoticeNotSent("its URL is not one that Apprise understands")
    if became != 0:
        raise NoticeNotSent("it did not take the message")


async def _run(told: dict[str, str], seconds: float) -> int | None:
    """Return how the process ended; None when it had to be ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "receiver.notify",
        stdin=PIPE,
        stdout=NOWHERE,
        stderr=NOWHERE,
        env={**os.environ, **as_requests_reads(Variables(os.environ))},
    )
    try:
        async with asyncio.timeout(seconds):
            await process.communicate(json.dumps(told).encode())
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode


def _bound_memory() -> None:
    """End at a compressed answer that would fill this machine's memory: Apprise reads it whole."""
    if find_spec("resource") is not None:  # not on Windows
        import resource  # noqa: PLC0415

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (LARGEST_MEMORY, most))


def _send_what_is_told() -> int:
    _bound_memory()
    import apprise  # noqa: PLC0415 - an extra, and slow to import

    told = json.load(sys.stdin)
    place = apprise.Apprise()
    if not place.add(told["url"]):
        return NO_PLACE
    if "title" not in told:
        return 0  # it was only asked whether there is such a place
    return 0 if place.notify(title=told["title"], body=told["body"]) else NOT_TAKEN


if __name__ == "__main__":
    sys.exit(_send_what_is_told())
