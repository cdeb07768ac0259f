"""Send one message to one destination, through Apprise (the extra `notices`).

Apprise runs in its own process for each message: it may hang on a destination forever, and must
neither delay the receiver's exit nor stay in its memory. The URL is passed by standard input.
"""

import asyncio
import json
import os
import sys
from importlib.util import find_spec

from receiver.config.variables import Variables
from receiver.errors import ReceiverError
from receiver.http.proxies import as_requests_reads
from receiver.notifications.destinations import Message
from receiver.secret import Secret

SECONDS = 30.0  # well within the lease of a notification: see the outbox
REJECTED, UNSUPPORTED = 1, 2
MAX_MEMORY_BYTES = 512 * 1024 * 1024
PIPE, NOWHERE = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL


class DeliveryFailed(ReceiverError):
    """The destination did not accept the message; the error text never contains the URL."""


def can_send() -> bool:
    """Return whether Apprise is installed."""
    return find_spec("apprise") is not None


async def is_supported_url(url: Secret) -> bool:
    """Return whether Apprise supports the URL. Nothing is sent."""
    return await _run({"url": url.reveal()}, SECONDS) != UNSUPPORTED


async def send(url: Secret, message: Message, *, seconds: float = SECONDS) -> None:
    """Send a message within `seconds`; raises DeliveryFailed."""
    request = {
        "url": url.reveal(),
        "title": message.title,
        "body": message.body,
        "severity": message.severity.value,
    }
    code = await _run(request, seconds)
    if code is None:
        raise DeliveryFailed("it did not answer in time")
    if code == UNSUPPORTED:
        raise DeliveryFailed("Apprise does not support its URL")
    if code != 0:
        raise DeliveryFailed("it did not accept the message")


async def _run(request: dict[str, str], seconds: float) -> int | None:
    """Return the exit code of the process; None if it was killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "receiver.notifications.apprise",
        stdin=PIPE,
        stdout=NOWHERE,
        stderr=NOWHERE,
        env={**os.environ, **as_requests_reads(Variables(os.environ))},
    )
    try:
        async with asyncio.timeout(seconds):
            await process.communicate(json.dumps(request).encode())
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode


def _bound_memory() -> None:
    """Fail on a compressed answer that would fill the memory: Apprise reads it completely."""
    if find_spec("resource") is not None:  # not on Windows
        import resource  # noqa: PLC0415

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, most))


def _send_request() -> int:
    _bound_memory()
    import apprise  # noqa: PLC0415 - an extra, and slow to import

    request = json.load(sys.stdin)
    destination = apprise.Apprise()
    if not destination.add(request["url"]):
        return UNSUPPORTED
    if "title" not in request:
        return 0  # only the URL was to be checked
    accepted = destination.notify(
        title=request["title"], body=request["body"], notify_type=request["severity"]
    )
    return 0 if accepted else REJECTED


if __name__ == "__main__":
    sys.exit(_send_request())
