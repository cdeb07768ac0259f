"""What a person waits for: the one time limit of a page and of an API response with Edgegap."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.listing import running_in

T = TypeVar("T")

LIMIT_SECONDS = 3.0
LATE = f"Edgegap did not answer within {LIMIT_SECONDS:g} seconds"


async def in_time(call: Awaitable[T]) -> T | None:
    """Return the result of calls to Edgegap, None if there is none within the limit."""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            return await call
    except TimeoutError:
        return None


async def running_of(
    client: EdgegapClient, app: str, versions: Sequence[str]
) -> dict[str, int | None]:
    """Return how many deployments of each version run, None if that is not known in time."""

    async def count(version: str) -> int | None:
        answer = await in_time(client.deployments(app, version))
        return None if answer is None else running_in(answer)

    counts = await asyncio.gather(*map(count, versions))
    return dict(zip(versions, counts, strict=True))
