"""Serves any ASGI app over real HTTP, in its own thread."""

import asyncio
import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HANG_UP = "sandbox.hang_up"
"""The ASGI extension that closes a connection; with True, by a TCP reset."""

HangUp = Callable[[bool], None]


@contextlib.contextmanager
def serving(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve `app` until the block is left; yields its base URL, without a trailing slash.

    Port 0 is any free port. The app has its own thread and event loop, so the block may be
    synchronous or not. At the end, open connections are aborted. The app's lifespan is not run.
    A port in use raises `OSError` here, not in the thread.
    """
    listener = socket.create_server((host, port))
    thread = _ServerThread(app, listener)
    thread.start()
    thread.ready.wait()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        thread.stop()
        thread.join()


class _ServerThread(threading.Thread):
    """uvicorn without its main loop, which ticks every 100 ms, stops as slowly, and logs."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        super().__init__(name="sandbox", daemon=True)
        self.ready = threading.Event()
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Connection,
                lifespan="off",
                ws="none",
                log_config=None,
                date_header=False,
                server_header=False,
            )
        )

    def run(self) -> None:
        """Serve until stopped, then close the loop."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            finally:
                self.ready.set()

    def stop(self) -> None:
        """Stop the server, from any thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self) -> None:
        server = self._server
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[self._listener])
        self.ready.set()
        await self._stopping.wait()
        for listening in server.servers:
            listening.close()
        tasks = list(server.server_state.tasks)
        while server.server_state.connections:
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)  # a transport is closed in the loop's next iteration
        if tasks:
            await asyncio.wait(tasks, timeout=5)


class _Connection(H11Protocol):
    """uvicorn's HTTP connection, which lets the app hang up and writes no access log."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Add the extension to hang up, which ASGI itself does not have."""
        super().connection_made(transport)
        self.access_log = False
        app = self.app
        peer = transport.get_extra_info("socket")
        # asyncio does this only for sockets whose protocol is TCP, and the listener's is 0;
        # without it every response waits 40 ms for a delayed ACK.
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def hang_up(reset: bool) -> None:
            if reset:
                # Lingering for no time at all turns the close into a TCP reset.
                no_linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
                transport.abort()
            else:
                transport.close()

        async def app_that_can_hang_up(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "extensions": {HANG_UP: hang_up}}, receive, send)

        self.app = app_that_can_hang_up
