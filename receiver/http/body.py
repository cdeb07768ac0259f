"""Read the body of an HTTP response up to a limit, also if it is compressed.

httpx decompresses each part as a whole, however large it becomes: two layers of gzip turn 1,142
bytes into 1.3 GB. Bodies are therefore requested unencoded and read raw.
"""

import asyncio
import zlib
from collections.abc import Mapping

import httpx

from receiver.errors import ReceiverError

UNENCODED = {"Accept-Encoding": "identity"}
_DECODED = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = 47  # the window bits with which zlib recognizes both by their headers


class UnreadableBody(ReceiverError):
    """The body has an unsupported encoding, or its encoding is broken."""


class BodyTooLarge(UnreadableBody):
    """The body is over the limit; `beginning` is the part up to the limit."""

    def __init__(self, beginning: bytes, limit: int) -> None:
        size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
        super().__init__(f"the response is over {size}")
        self.beginning = beginning


NO_ANSWER = (TimeoutError, httpx.HTTPError, httpx.StreamError, UnreadableBody, ValueError)
"""What `ask` raises, and reading its body as JSON."""


async def ask(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    largest: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: object = None,
) -> tuple[httpx.Response, bytes]:
    """Make one call and return its response with its body, both within this many seconds.

    Raises TimeoutError, and what `read_bounded` raises.
    """
    asked = {**UNENCODED, **(headers or {})}
    async with (
        asyncio.timeout(seconds),
        http.stream(method, url, headers=asked, json=body, timeout=seconds) as response,
    ):
        return response, await read_bounded(response, largest)


async def read_bounded(response: httpx.Response, limit: int) -> bytes:
    """Read the body of a streamed response; at most `limit` bytes are held in memory.

    One layer of gzip or deflate is decoded, for a proxy that compresses without being asked.
    Raises BodyTooLarge as soon as the limit is passed, UnreadableBody for any other encoding, and
    what httpx raises while reading.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding in _DECODED else None
    content = bytearray()
    async for part in response.aiter_raw():
        if decoder is None and encoding not in {"", "identity"}:
            raise UnreadableBody("the response is encoded, although it was requested unencoded")
        content += part if decoder is None else _decoded(decoder, part, limit + 1 - len(content))
        if len(content) > limit:
            raise BodyTooLarge(bytes(content[:limit]), limit)
    if decoder is not None and content and not decoder.eof:
        raise UnreadableBody("the compressed response is cut off")
    return bytes(content)


def decompressed(content: bytes, limit: int) -> bytes:
    """Return gzip or deflate content decoded; raises BodyTooLarge or UnreadableBody."""
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
    decoded = _decoded(decoder, content, limit + 1)
    if len(decoded) > limit:
        raise BodyTooLarge(decoded[:limit], limit)
    if not decoder.eof:
        raise UnreadableBody("the compressed content is cut off")
    return decoded


def _decoded(decoder: "zlib._Decompress", part: bytes, most: int) -> bytes:
    try:
        return decoder.decompress(part, most)
    except zlib.error:
        raise UnreadableBody("the compressed response cannot be decoded") from None
