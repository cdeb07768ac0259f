"""The server at the level of HTTP: one write a response, and limits on what a stranger may send."""

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from receiver import metrics
from receiver.web import protocol
from receiver.web.protocol import MAX_HEAD_BYTES, LimitedProtocol, LimitedServer
from tests.support.receiver_process import until

LARGE_RESPONSE = 8 * 1024 * 1024  # more than the kernel buffers

written: list[bytes] = []
lost: list[tuple[str, int] | None] = []


class Watched:
    """A transport that notes what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        written.append(data)
        self._transport.write(data)


class WatchedProtocol(LimitedProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", Watched(transport)))

    def connection_lost(self, exc: Exception | None) -> None:
        lost.append(self.client)
        super().connection_lost(exc)


async def plain(request: Request) -> Response:
    return PlainTextResponse(f"got {len(await request.body())}")


async def parts(_: Request) -> Response:
    async def some() -> Any:
        yield b"one"
        yield b"two"

    return StreamingResponse(some())


async def large(_: Request) -> Response:
    return PlainTextResponse("x" * LARGE_RESPONSE)


async def refused(_: Request) -> Response:
    """Answer without reading the body."""
    return PlainTextResponse("refused", 403)


async def breaks(_: Request) -> Response:
    async def some() -> Any:
        for part in cast("list[bytes]", []):
            yield part
        raise RuntimeError("after the head")

    return StreamingResponse(some())


async def slow(request: Request) -> Response:
    """Answer only after the whole body, so that a body that never ends is a request in progress."""
    try:
        return PlainTextResponse(f"got {len(await request.body())}")
    except ClientDisconnect:
        disconnected.append(request.url.path)
        raise


disconnected: list[str] = []
APP = Starlette(
    routes=[
        Route("/plain", plain, methods=["GET", "HEAD", "POST"]),
        Route("/slow", slow, methods=["POST"]),
        Route("/parts", parts),
        Route("/breaks", breaks),
        Route("/large", large),
        Route("/refused", refused, methods=["POST"]),
    ]
)


@contextmanager
def server(most_connections: int = 100) -> Iterator[int]:
    """A server in a thread; yields its port."""
    config = uvicorn.Config(APP, port=0, http=WatchedProtocol, ws="none", log_config=None)
    limited = LimitedServer(config, most_connections)
    thread = threading.Thread(target=limited.run, daemon=True)
    thread.start()
    until(lambda: limited.started)
    yield limited.servers[0].sockets[0].getsockname()[1]
    limited.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server() as at:
        yield at


def said(port: int, *sent: bytes, until_end: bool = True) -> bytes:
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
    came = said(port, request(b"GET /plain", b"Connection: close"))

    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert came.endswith(b"\r\n\r\ngot 0")
    assert written == [came]


def test_answers_on_one_connection_are_one_write_each(port: int) -> None:
    again = request(b"GET /plain")
    came = said(port, again + again, request(b"GET /plain", b"Connection: close"))

    assert came.count(b"got 0") == 3
    assert len(written) == 3


def test_a_head_without_a_body_is_sent_at_once(port: int) -> None:
    came = said(port, request(b"HEAD /plain"), until_end=False)

    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 5\r\n" in came
    assert written == [came]


def test_parts_are_sent_as_they_come(port: int) -> None:
    came = said(port, request(b"GET /parts", b"Connection: close"))

    assert came.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert len(written) == 3
    assert written[0].endswith(b"3\r\none\r\n")


def test_expect_100_continue_is_answered_before_the_response(port: int) -> None:
    asks = request(
        b"POST /plain", b"Expect: 100-continue", b"Content-Length: 2", b"Connection: close"
    )

    came = said(port, asks, b"{}")

    assert came.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert came.endswith(b"got 2")


def test_a_request_that_is_not_http_is_answered_400(port: int) -> None:
    came = said(port, b"nonsense\r\n\r\n")

    assert came.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert written == [came]


def problem_in(came: bytes) -> dict[str, Any]:
    """The last response, if it is a problem of RFC 9457."""
    head, _, body = came[came.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    found: dict[str, Any] = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {found['status']} {found['title']}\r\n".encode())
    return found


@pytest.mark.parametrize("rejection", protocol.REJECTIONS)
def test_each_rejection_is_a_problem_with_its_code(
    port: int, monkeypatch: pytest.MonkeyPatch, rejection: protocol.Rejection
) -> None:
    monkeypatch.setattr(protocol, "MALFORMED", rejection)

    found = problem_in(said(port, b"nonsense\r\n\r\n"))

    assert (found["code"], found["detail"]) == (rejection.reason, rejection.message)


def test_an_answer_that_breaks_off_ends_with_its_head(port: int) -> None:
    came = said(port, request(b"GET /breaks"))

    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert came.endswith(b"\r\n\r\n")


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def response(connection: socket.socket) -> bytes:
    """Everything the server sends until it closes the connection, or resets it."""
    received = b""
    try:
        while more := connection.recv(65536):
            received += more
    except ConnectionError:
        pass
    return received


def rejected(reason: str) -> float:
    return metrics.requests_rejected.labels(reason)._value.get()  # type: ignore[no-any-return]


LARGE = b"x" * (MAX_HEAD_BYTES + 1)
CHUNKED = request(b"POST /slow", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "sent",
    [
        request(b"GET /plain?" + LARGE),
        request(b"GET /plain", b"Large: " + LARGE),
        request(b"GET /plain", *(b"N%d: " % n + b"x" * 1000 for n in range(70))),
        b"GET /plain HTTP/1.1\r\nLarge: " + LARGE,
        b"\r\n" * MAX_HEAD_BYTES,
        CHUNKED + b"0\r\nTrailer: " + LARGE,
        CHUNKED + b"0\r\n" + b"".join(b"N%d: " % n + b"x" * 1000 + b"\r\n" for n in range(70)),
        CHUNKED + b"1\r\na\r\n5;" + LARGE * 4,
        request(b"GET /plain", *([b"a: b"] * 12_000)),
    ],
    ids=[
        "target",
        "header",
        "headers",
        "unfinished",
        "blank",
        "trailer",
        "trailers",
        "extension",
        "many",
    ],
)
def test_a_head_over_64_kib_is_431_and_the_connection_ends(port: int, sent: bytes) -> None:
    before = rejected("head_too_large")
    with connect(port) as connection:
        for at in range(0, len(sent), 16384):
            try:
                connection.sendall(sent[at : at + 16384])
            except ConnectionError:
                break

        assert response(connection).startswith(b"HTTP/1.1 431 ")
    assert rejected("head_too_large") == before + 1


def test_a_head_of_nearly_64_kib_is_read_in_pieces(port: int) -> None:
    sent = request(b"GET /plain", b"Connection: close", b"L: " + b"x" * (MAX_HEAD_BYTES - 100))
    with connect(port) as connection:
        for at in range(0, len(sent), 5000):
            connection.sendall(sent[at : at + 5000])

        assert response(connection).endswith(b"got 0")


def test_many_large_bodies_are_no_large_head(port: int) -> None:
    sent = request(b"POST /plain", b"Content-Length: 200000") + b"x" * 200_000
    with connect(port) as connection:
        for _ in range(3):
            connection.sendall(sent)
            assert b"got 200000" in connection.recv(65536)


def test_a_small_chunked_body_with_a_trailer_is_read_and_the_trailer_is_no_header(
    port: int,
) -> None:
    sent = request(b"POST /plain", b"Transfer-Encoding: chunked", b"Connection: close")

    came = said(port, sent + b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n")

    assert came.endswith(b"got 5")


def test_a_head_that_takes_too_long_is_408(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_HEAD_SECONDS", 0.5)
    with connect(port) as connection:
        connection.sendall(b"GET /plain HTTP/1.1\r\nHo")

        assert response(connection).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_sends_nothing_is_closed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "FIRST_BYTE_SECONDS", 0.5)
    with connect(port) as connection:
        assert response(connection) == b""


def test_a_connection_that_was_used_is_closed_later(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "FIRST_BYTE_SECONDS", 0.0)
    monkeypatch.setattr(protocol, "KEEP_ALIVE_SECONDS", 0.5)
    with connect(port) as connection:
        connection.sendall(request(b"GET /plain"))

        assert response(connection).endswith(b"got 0")


def test_at_the_limit_the_connection_that_waited_longest_is_closed() -> None:
    with server(most_connections=3) as port, ExitStack() as stack:
        idle = [stack.enter_context(connect(port)) for _ in range(3)]
        for connection in idle:  # all three are known to the server, in this order
            connection.sendall(request(b"GET /plain"))
            assert connection.recv(65536)
        fourth = stack.enter_context(connect(port))
        fourth.sendall(request(b"GET /plain"))

        assert fourth.recv(65536).endswith(b"got 0")
        assert response(idle[0]) == b""
        idle[1].sendall(request(b"GET /plain"))
        assert idle[1].recv(65536).endswith(b"got 0")


def test_no_request_in_progress_is_ended_for_a_new_connection() -> None:
    with server(most_connections=2) as port, ExitStack() as stack:
        busy = [stack.enter_context(connect(port)) for _ in range(2)]
        for connection in busy:
            connection.sendall(
                request(b"POST /slow", b"Content-Length: 2", b"Expect: 100-continue")
            )
            assert b"100 Continue" in connection.recv(65536)
        assert response(stack.enter_context(connect(port))).startswith(b"HTTP/1.1 503 ")
        for connection in busy:
            connection.sendall(b"{}")
            assert connection.recv(65536).endswith(b"got 2")


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("pieces", [1, 40])
def test_a_wish_to_upgrade_is_ignored_and_the_body_read(
    port: int, upgrade: bytes, body: bytes, pieces: int
) -> None:
    head = b"POST /plain HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
    sent = head + upgrade + b"\r\nHTTP2-Settings: AAMAAABk\r\n" + body
    last = request(b"GET /plain", b"Connection: close")
    with connect(port) as connection:
        for at in range(0, len(sent), -(-len(sent) // pieces)):
            connection.sendall(sent[at : at + -(-len(sent) // pieces)])
        connection.sendall(last)
        received = response(connection)

    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert b"got 5" in received
    assert received.endswith(b"got 0")


def test_requests_before_a_malformed_one_are_answered_first(port: int) -> None:
    good = request(b"POST /plain", b"Content-Length: 2") + b"{}"
    with connect(port) as connection:
        connection.sendall(good + good + b"nonsense\r\n\r\n")
        received = response(connection)

    assert received.count(b"got 2") == 2
    assert received.rindex(b"got 2") < received.index(b"HTTP/1.1 400 ")


def test_a_malformed_body_ends_its_own_request(port: int) -> None:
    disconnected.clear()
    with connect(port) as connection:
        connection.sendall(CHUNKED + b"nonsense\r\n")

        assert response(connection).startswith(b"HTTP/1.1 400 ")
    until(lambda: disconnected == ["/slow"])


def test_200_malformed_requests_are_one_line_in_the_log(port: int) -> None:
    before = rejected("malformed")
    with structlog.testing.capture_logs() as lines:
        for _ in range(200):
            with connect(port) as connection:
                connection.sendall(b"nonsense\r\n\r\n")
                response(connection)

    assert rejected("malformed") == before + 200
    assert len([line for line in lines if line["event"] == "requests_rejected"]) <= 1


def test_connect_is_malformed(port: int) -> None:
    """The parser takes it for an upgrade, without the header that could be removed."""
    with connect(port) as connection:
        connection.sendall(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")

        assert response(connection).startswith(b"HTTP/1.1 400 ")


def test_requests_sent_far_ahead_are_429(port: int) -> None:
    """Each holds memory until the one before it is answered."""
    with connect(port) as connection:
        connection.sendall(request(b"GET /plain") * 1000)
        received = response(connection)

    assert received.count(b"got 0") == protocol.MAX_AHEAD + 1
    assert received.index(b"HTTP/1.1 429 ") > received.rindex(b"got 0")


def unread(port: int) -> socket.socket:
    """A connection whose client asks for much and reads nothing."""
    connection = connect(port)
    connection.sendall(request(b"GET /large"))
    until(lambda: select.select([connection], [], [], 0)[0])
    return connection


def test_a_client_that_does_not_read_is_disconnected(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_READ_SECONDS", 0.5)
    with unread(port) as connection:
        until(lambda: connection.getsockname() in lost)


def test_a_client_that_reads_slowly_gets_all(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_READ_SECONDS", 3.0)
    received = 0
    with unread(port) as connection:
        while received < LARGE_RESPONSE:
            received += len(connection.recv(1024 * 1024))
            time.sleep(0.1)


def test_of_too_many_clients_that_do_not_read_the_oldest_is_disconnected(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_UNREAD", 2)
    with ExitStack() as stack:
        clients = [stack.enter_context(unread(port)) for _ in range(3)]

        assert len(response(clients[0])) < LARGE_RESPONSE
        last = b""
        while len(last) < LARGE_RESPONSE:
            last += clients[2].recv(1024 * 1024)


def test_clients_that_do_not_read_give_way_to_new_connections() -> None:
    with server(most_connections=3) as port, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(unread(port))

        assert said(port, request(b"GET /plain", b"Connection: close")).endswith(b"got 0")


def test_a_sender_that_was_answered_before_the_end_of_its_request_is_disconnected(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_HEAD_SECONDS", 0.5)
    with connect(port) as connection:
        connection.sendall(request(b"POST /refused", b"Content-Length: 1000000") + b"x" * 1000)

        assert response(connection).endswith(b"refused")


def test_a_client_that_leaves_is_no_fault(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with unread(port) as connection:
        connection.sendall(request(b"GET /large") * 3)
    assert said(port, request(b"GET /plain", b"Connection: close")).endswith(b"got 0")

    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
