"""Reading a request's body with a limit on its size and on its time."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from receiver.errors import BadBody
from receiver.reasons import Reason, explain

LARGEST_BODY = 1024 * 1024
# What is too large is read on a little and thrown away, so that its sender can read our answer.
LARGEST_DRAIN = 8 * 1024 * 1024
SLOWEST_DRAIN_SECONDS = 0.5
SLOWEST_BODY_SECONDS = 10.0


class SenderLeft(Exception):
    """The sender closed the connection before its body was whole."""


async def read_body(request: Request) -> bytes:
    """Return the whole body, chunked or not.

    Raises BadBody when it is over LARGEST_BODY or slower than SLOWEST_BODY_SECONDS (or than the
    server's end), SenderLeft.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SLOWEST_BODY_SECONDS) as limit:
            async for part in request.stream():
                if size <= LARGEST_BODY < size + len(part):
                    parts.clear()
                    limit.reschedule(asyncio.get_running_loop().time() + SLOWEST_DRAIN_SECONDS)
                size += len(part)
                if size <= LARGEST_BODY:
                    parts.append(part)
                elif size > LARGEST_DRAIN:
                    break
    except TimeoutError:
        if size <= LARGEST_BODY:
            raise BadBody(Reason.BODY_TOO_SLOW, explain(Reason.BODY_TOO_SLOW)) from None
    except ClientDisconnect:
        raise SenderLeft from None
    except asyncio.CancelledError:  # the server is ending and has waited for it long enough
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        raise BadBody(Reason.BODY_TOO_SLOW, explain(Reason.BODY_TOO_SLOW)) from None
    if size > LARGEST_BODY:
        raise BadBody(Reason.BODY_TOO_LARGE, explain(Reason.BODY_TOO_LARGE))
    return b"".join(parts)
