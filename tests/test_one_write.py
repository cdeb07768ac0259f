"""An answer's head and body go out in one write, and nothing is kept back for longer."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from receiver.web.one_write import OneWriteProtocol
from tests.running import until

written: list[bytes] = []


class Watched:
    """A transport that notes what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        written.append(data)
        self._transport.write(data)


class WatchedProtocol(OneWriteProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", Watched(transport)))


async def plain(request: Request) -> Response:
    return PlainTextResponse(f"got {len(await request.body())}")


async def parts(_: Request) -> Response:
    async def some() -> Any:
        yield b"one"
        yield b"two"

    return StreamingResponse(some())


async def breaks(_: Request) -> Response:
    async def some() -> Any:
        for part in cast("list[bytes]", []):
            yield part
        raise RuntimeError("after the head")

    return StreamingResponse(some())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = Starlette(
        routes=[
            Route("/plain", plain, methods=["GET", "HEAD", "POST"]),
            Route("/parts", parts),
            Route("/breaks", breaks),
        ]
    )
    config = uvicorn.Config(app, port=0, http=WatchedProtocol, ws="none", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


def told(port: int, *sent: bytes, until_end: bool = True) -> bytes:
    """Send the pieces, the later ones after an answer to the former; return all that came."""
    written.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        came = b""
        for piece in sent:
            connection.sendall(piece)
            came += connection.recv(65536)
        while until_end and (more := connection.recv(65536)):
            came += more
    return came


def request(line: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: x", *headers, b"", b""])


def test_an_answer_is_written_in_one(port: int) -> None:
    came = told(port, request(b"GET /plain", b"Connection: close"))

    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert came.endswith(b"\r\n\r\ngot 0")
    assert written == [came]


def test_answers_on_one_connection_are_one_write_each(port: int) -> None:
    again = request(b"GET /plain")
    came = told(port, again + again, request(b"GET /plain", b"Connection: close"))

    assert came.count(b"got 0") == 3
    assert len(written) == 3


def test_a_head_without_a_body_is_sent_at_once(port: int) -> None:
    came = told(port, request(b"HEAD /plain"), until_end=False)

    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 5\r\n" in came
    assert written == [came]


def test_parts_are_sent_as_they_come(port: int) -> None:
    came = told(port, request(b"GET /parts", b"Connection: close"))

    assert came.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert len(written) == 3
    assert written[0].endswith(b"3\r\none\r\n")


def test_a_sender_who_asks_whether_to_go_on_is_told_before_the_answer(port: int) -> None:
    asks = request(
        b"POST /plain", b"Expect: 100-continue", b"Content-Length: 2", b"Connection: close"
    )

    came = told(port, asks, b"{}")

    assert came.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert came.endswith(b"got 2")


def test_what_is_no_http_is_told_so(port: int) -> None:
    came = told(port, b"nonsense\r\n\r\n")

    assert came.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert written == [came]


def test_an_answer_that_breaks_off_ends_with_its_head(port: int) -> None:
    came = told(port, request(b"GET /breaks"))

    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert came.endswith(b"\r\n\r\n")
