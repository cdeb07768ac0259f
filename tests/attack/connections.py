"""Many connections at once, as one program on this machine can hold them."""

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

OPEN_FILES = 24_000


def allow_open_files() -> None:
    """Raise this process's limit: each connection is a file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


@dataclass
class Sent:
    """What the server responded, by status; 0 is a connection that it closed without a response."""

    statuses: Counter[int] = field(default_factory=Counter)


class Client(asyncio.Protocol):
    """One connection that sends `first`, and after each response what `then` returns, until None.

    Responses of this server are small and end with the body that their length names.
    """

    def __init__(self, first: bytes, then: Callable[[], bytes | None], sent: Sent) -> None:
        self._first = first
        self._then = then
        self._sent = sent
        self._buffer = b""
        self._responded = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        if self._first:
            transport.write(self._first)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or self.transport is None:
            return
        _, _, length = head.lower().partition(b"content-length: ")
        size = int(length.split(b"\r\n")[0] or 0)
        if len(rest) < size:
            return
        self._buffer = rest[size:]
        self._responded = True
        self._sent.statuses[int(head.split(b" ", 2)[1])] += 1
        following = self._then()
        if following is None:
            self.transport.close()
        else:
            self.transport.write(following)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._responded:
            self._sent.statuses[0] += 1
        if not self.closed.done():
            self.closed.set_result(None)


class Deaf(Client):
    """A connection that never reads what the server responds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        transport.pause_reading()
        super().connection_made(transport)


async def connect(url: str, client: Client) -> Client:
    """Open a connection to the server at the URL."""
    at = httpx.URL(url)
    await asyncio.get_running_loop().create_connection(lambda: client, at.host, at.port or 80)
    return client


def nothing() -> bytes | None:
    """For a client that ends after its first response."""
    return None


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A POST with these headers; `length` is what it claims its body to be."""
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
