"""The server's HTTP/1.1 protocol: uvicorn's, with limits on size, time and connections.

Uvicorn limits neither the size of a request's head nor the time it takes, nor how many requests one
connection sends ahead, nor how long a client may take to read its responses. It counts tasks as
connections, and drops the body of a request that asks for an upgrade.
"""

import asyncio
from typing import Any, cast

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import Server, ServerState

from receiver import metrics
from receiver.logs import get_logger
from receiver.web.messages import PROBLEM_JSON, ProblemCode, problem_body

MAX_CONNECTIONS = 1000
MAX_HEAD_BYTES = 64 * 1024  # bytes: request line and headers, and the trailers of a chunked body
MAX_HEAD_SECONDS = 10.0
FIRST_BYTE_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 75.0  # load balancers reuse a connection that was idle for up to 60 s
LINGER_SECONDS = 2.0  # a rejected sender can read the response before the connection ends
MAX_READ_SECONDS = 30.0  # for the next part of a response, at most 116 KB
MAX_UNREAD = 100  # connections whose client does not read: each may hold a whole response
UNREAD_BYTES = 16 * 1024  # from here on a connection counts as one of them
MAX_AHEAD = 32  # requests of one connection that wait for the one in progress
REPORT_EVERY_SECONDS = 60.0
TICKS_A_SECOND = 10  # of uvicorn's main loop

_HEAD = b"HTTP/1.1 "
_CONTINUE = b"HTTP/1.1 100"
_HEADER_EXTRA = len(b": \r\n")
_UPGRADE_HEADERS = frozenset({b"upgrade", b"http2-settings"})

log = get_logger()


class Rejection(msgspec.Struct, frozen=True):
    """The response to a request that does not reach the application."""

    code: ProblemCode
    message: str

    @property
    def reason(self) -> str:
        """The word for it in the log and the metrics."""
        return self.code.value


MALFORMED = Rejection(ProblemCode.MALFORMED, "Invalid HTTP request.")
HEAD_TOO_LARGE = Rejection(
    ProblemCode.HEAD_TOO_LARGE, "The request line and headers exceed 64 KiB."
)
HEAD_TOO_SLOW = Rejection(ProblemCode.HEAD_TOO_SLOW, "The headers took longer than 10 seconds.")
NO_ROOM = Rejection(ProblemCode.TOO_MANY_CONNECTIONS, "Too many connections. Try again.")
TOO_MANY_AHEAD = Rejection(
    ProblemCode.TOO_MANY_AHEAD, f"More than {MAX_AHEAD} requests were sent before a response."
)
REJECTIONS = (MALFORMED, HEAD_TOO_LARGE, HEAD_TOO_SLOW, NO_ROOM, TOO_MANY_AHEAD)

for _rejection in REJECTIONS:  # present from the start, so that an increase is visible
    metrics.requests_rejected.labels(_rejection.reason)


class Connections(ServerState):
    """All connections of a server, and which of them wait for a request.

    `waiting` maps each connection without a request in progress to the time it began to wait (of
    the event loop, in seconds), the longest wait first; `unread` those whose client does not read
    its responses.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.waiting: dict[LimitedProtocol, float] = {}
        self.unread: dict[LimitedProtocol, float] = {}
        self._most = most
        self._open: set[LimitedProtocol] = set()
        self._reports: dict[str, _Report] = {}

    def admit(self, new: "LimitedProtocol", now: float) -> bool:
        """Add a connection; at the limit the connection that has waited longest is closed for it.

        One whose client does not read counts as waiting. False if all others have a request in
        progress.
        """
        self._open.add(new)
        has_room = len(self._open) <= self._most or self._close_oldest()
        self.waiting[new] = now
        return has_room

    def add_unread(self, connection: "LimitedProtocol", now: float) -> None:
        """Note that a client does not read; the oldest of too many such connections is closed."""
        self.unread.setdefault(connection, now)
        if len(self.unread) > MAX_UNREAD:
            self._close(next(iter(self.unread)))

    def _close_oldest(self) -> bool:
        oldest = next(iter(self.waiting), None) or next(iter(self.unread), None)
        if oldest is not None:
            self._close(oldest)
        return oldest is not None

    def _close(self, connection: "LimitedProtocol") -> None:
        self.remove(connection)
        connection.transport.abort()

    def remove(self, connection: "LimitedProtocol") -> None:
        """Forget a connection that is closed or about to be."""
        self._open.discard(connection)
        self.waiting.pop(connection, None)
        self.unread.pop(connection, None)

    def sweep(self, now: float) -> None:
        """Close connections that waited too long; to be called every second, `now` in loop time."""
        for connection, since in list(self.waiting.items()):
            if connection.check_overdue(since, now):
                self._close(connection)
        for connection, since in list(self.unread.items()):
            if now - since >= MAX_READ_SECONDS:
                self._close(connection)
        for reason, report in self._reports.items():
            if report.count and now - report.logged_at >= REPORT_EVERY_SECONDS:
                report.log(reason, now)

    def count_rejection(self, rejection: Rejection, client: str, now: float) -> None:
        """Count a rejected request; the log gets at most one line a minute for each reason."""
        metrics.requests_rejected.labels(rejection.reason).inc()
        report = self._reports.setdefault(rejection.reason, _Report())
        report.count += 1
        report.client = client
        if now - report.logged_at >= REPORT_EVERY_SECONDS:
            report.log(rejection.reason, now)


class _Report(msgspec.Struct):
    """Rejections of one reason since the last log line about it."""

    count: int = 0
    client: str = ""
    logged_at: float = float("-inf")

    def log(self, reason: str, now: float) -> None:
        log.warning("requests_rejected", reason=reason, count=self.count, last_client=self.client)
        self.count, self.logged_at = 0, now


class LimitedProtocol(HttpToolsProtocol):
    """One connection, with limits on the size and time of a request's head.

    `server_state` is a `Connections`.
    """

    server_state: Connections

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_began: float | None = None  # when the first byte of a head arrived
        self._unaccounted = 0  # bytes received since the head began, or since the last of a body
        self._trailers = 0  # bytes
        self._in_body = False
        self._answered = False  # at least one request was answered on this connection
        self._upgrading = False
        self._upgrade_removed = False
        self._rejection: Rejection | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, unless there are too many."""
        self._joining = _Joining(transport)
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        super().connection_made(cast("asyncio.Transport", self._joining))
        if not self.server_state.admit(self, self.loop.time()):
            self._reject(NO_ROOM)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a closed connection."""
        self.server_state.remove(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait until the client has read what was sent."""
        self.server_state.add_unread(self, self.loop.time())
        super().pause_writing()

    def resume_writing(self) -> None:
        """Send the next part."""
        self.server_state.unread.pop(self, None)
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; reject a head that is too large or malformed."""
        if self._rejection is not None:
            return  # until the sender has read the response
        if self._head_began is None and not self._in_body:
            self._head_began = self.loop.time()
        self._unaccounted += len(data)
        self._feed(data)
        if self._unaccounted > MAX_HEAD_BYTES and self._rejection is None:
            self._reject(HEAD_TOO_LARGE)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgrading:
                self._read_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._rejection is None:
                self._reject(MALFORMED)

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its `Upgrade`, for which uvicorn drops the body.

        Java's HTTP client sends `Upgrade: h2c` with every first request.
        """
        self._upgrading, self._upgrade_removed = False, True
        lines = [
            b"%s %s HTTP/%s"
            % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                kept = [token for token in tokens if token.lower() not in _UPGRADE_HEADERS]
                value = b", ".join(kept)  # noqa: PLW2901 - the header without the upgrade
            if name not in _UPGRADE_HEADERS and (value or name != b"connection"):
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join([*lines, b"", b""]) + rest)

    def on_message_begin(self) -> None:
        """Start a request."""
        if self._head_began is None:
            self._head_began = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Trailers are not part of the headers: only their size counts."""
        if self._in_body:
            self._trailers += len(name) + len(value) + _HEADER_EXTRA
            if self._trailers > MAX_HEAD_BYTES and self._rejection is None:
                self._reject(HEAD_TOO_LARGE)
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application, unless the head is too large."""
        if self._rejection is not None:
            return
        if self._unaccounted > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            self._reject(HEAD_TOO_LARGE)
            return
        if self.parser.should_upgrade():
            if self._upgrade_removed:  # `CONNECT` is an upgrade without the header
                self._reject(MALFORMED)
                return
            self._upgrading = True  # the parser stops here; see _feed
            return
        self._head_began = None
        self._in_body = True
        self.server_state.waiting.pop(self, None)
        super().on_headers_complete()
        if len(self.pipeline) > MAX_AHEAD:
            self._reject(TOO_MANY_AHEAD)

    def _head_size(self) -> int:
        headers = sum(len(name) + len(value) + _HEADER_EXTRA for name, value in self.headers)
        return len(self.url) + headers

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        if self._rejection is None:
            self._unaccounted = 0
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Finish a request."""
        if self._rejection is None and not self._upgrading:
            self._in_body, self._head_began = False, None
            self._upgrade_removed = False
            self._unaccounted = self._trailers = 0
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the next request, or wait for one."""
        self._joining.flush()
        self.server_state.total_requests += 1
        self._answered = True
        if self._in_body and self.cycle.response_complete:
            self.cycle.body = bytearray()  # nobody reads the rest of it
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
                return
            if self._rejection is not None:
                self._send_rejection(self._rejection)
                return
        self.server_state.waiting[self] = self.loop.time()

    def check_overdue(self, since: float, now: float) -> bool:
        """Return whether the connection has waited too long, `since` and `now` in seconds.

        A head that takes too long is rejected first.
        """
        if self.transport.is_closing():
            return now - since >= MAX_READ_SECONDS
        if self._rejection is not None:
            return now - since >= LINGER_SECONDS
        if self._in_body:  # answered before it sent all of its request
            return now - since >= MAX_HEAD_SECONDS
        if self._head_began is not None:
            if now - self._head_began >= MAX_HEAD_SECONDS:
                self._reject(HEAD_TOO_SLOW)
            return False
        return now - since >= (KEEP_ALIVE_SECONDS if self._answered else FIRST_BYTE_SECONDS)

    def _reject(self, rejection: Rejection) -> None:
        """Answer with the rejection and close, after the requests before it were answered."""
        self._rejection = rejection
        client = self.client[0] if self.client else "unknown"
        self.server_state.count_rejection(rejection, client, self.loop.time())
        if self._in_body and self.pipeline:
            self.pipeline.popleft()  # the rejected request itself waits for those before it
            return
        newest = cast("RequestResponseCycle | None", self.cycle)
        if self._in_body or newest is None or newest.response_complete:
            self._send_rejection(rejection)

    def _send_rejection(self, rejection: Rejection) -> None:
        if self._in_body and self.cycle is not None:
            begun = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if begun:
                self.transport.close()
                return
        body = problem_body(rejection.code, rejection.message)
        self.transport.write(
            STATUS_LINE[rejection.code.status]
            + b"content-type: %s\r\n" % PROBLEM_JSON.encode()
            + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            + body
        )
        self._joining.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.server_state.waiting[self] = self.loop.time()


class LimitedServer(Server):
    """Uvicorn's server, which closes connections that wait too long."""

    def __init__(self, config: Config, most_connections: int = MAX_CONNECTIONS) -> None:
        super().__init__(config)
        self.server_state: Connections = Connections(most_connections)

    async def on_tick(self, counter: int) -> bool:
        """Run every tenth of a second; see uvicorn."""
        if counter % TICKS_A_SECOND == 0:
            self.server_state.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


class _Joining:
    """A transport that delays the head of a response until its body is written.

    Both are then one write and one packet; a second packet costs a tenth more (ADR 14).
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return  # the client has left: uvloop raises
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and not data.startswith(_CONTINUE):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self.flush()
        self._transport.close()
