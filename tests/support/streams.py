"""Bodies as they come from a connection: in parts, and not yet read."""

from collections.abc import AsyncIterator, Sequence

import httpx


class Parts(httpx.AsyncByteStream):
    """A response's body, part by part."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
