"""Requests at a fixed rate, whatever the answers take: each is timed from when it was due."""

import asyncio
import statistics
import time
from dataclasses import dataclass

import httpx
import uvloop

from tests.benchmarks.bodies import body_of

CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Paced:
    """Milliseconds from when a request was due to its whole answer."""

    p50: float
    p99: float
    requests: int


def paced(url: str, *, size: int, per_second: float, seconds: float, mark: str) -> Paced:
    """Send `per_second` for `seconds`; every answer must be a 2xx."""
    many = int(per_second * seconds)
    took = uvloop.run(_send(httpx.URL(url), size, per_second, many, mark))
    cuts = statistics.quantiles(took, n=100)
    return Paced(cuts[49], cuts[98], len(took))


async def _send(url: httpx.URL, size: int, per_second: float, many: int, mark: str) -> list[float]:
    begin = time.perf_counter() + 0.1
    took: list[float] = []

    async def one_connection(first: int) -> None:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        for number in range(first, many, CONNECTIONS):
            due = begin + number / per_second
            request = _request(url, body_of(size, f"{mark}.{number}"))
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
                due = time.perf_counter()  # our own timer's tardiness is not the server's
            writer.write(request)
            await _answer(reader)
            took.append((time.perf_counter() - due) * 1000)
        writer.close()

    await asyncio.gather(*(one_connection(first) for first in range(CONNECTIONS)))
    return took


def _request(url: httpx.URL, body: bytes) -> bytes:
    head = f"POST {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n"
    return (
        f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 2"), head
    length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
    await reader.readexactly(int(length))
