"""The HTTP server of `receiver serve` and `receiver demo`."""

import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import State

from receiver.cli.client import SERVES_AT, address
from receiver.cli.output import NOT_DONE, CommandError
from receiver.config.settings import Settings
from receiver.doctor.checks import hazards, proxies_in_use
from receiver.errors import LedgerError, LedgerInUse
from receiver.ledger.files import ROLLING_RESTART_SECONDS
from receiver.ledger.ledger import Ledger
from receiver.ledger.migrate import newer_schema
from receiver.ledger.transaction import write_note
from receiver.logs import configure_logs, get_logger
from receiver.service import log_warnings
from receiver.version import VERSION
from receiver.web.app import create_app
from receiver.web.protocol import LimitedProtocol, LimitedServer

OPEN_FILES = 8192  # for bursts of connections, before the oldest are closed
DRAIN_SECONDS = 3  # for open requests after a SIGTERM; the worker has 5 more

Stopper = Callable[[], None]

log = get_logger()


def start(settings: Settings, environ: Mapping[str, str]) -> None:
    """Open the ledger and serve; a reload starts from `environ`."""
    configure_logs(
        secrets=settings.secrets(),
        level=settings.log_level.upper(),
        form=settings.log_format,
        for_good=True,
    )
    log_warnings(settings)
    ledger = Ledger(settings.database_url)
    _warn(settings, ledger)
    try:
        ledger.open_to_write(wait_seconds=0)
    except LedgerInUse:
        log.warning("ledger_in_use", waiting_seconds=ROLLING_RESTART_SECONDS)
        ledger.open_to_write(wait_seconds=ROLLING_RESTART_SECONDS)
    newer = newer_schema(ledger.schema)
    if newer is not None:
        log.warning("ledger_schema_newer", sentence=f"{newer}: upgrade the program")
    run_server(create_app(settings, ledger, environ=environ), settings, ledger)


def _warn(settings: Settings, ledger: Ledger) -> None:
    file = None if ledger.path is None else os.path.realpath(ledger.path)
    for danger in hazards(settings, os.environ):
        log.warning(danger.event, ledger=file, sentence=danger.sentence)
    used = proxies_in_use(settings, os.environ)
    if used:
        log.info("proxy_in_use", calls=[f"{name} {way}" for way in used for name in used[way]])


def run_server(
    app: Starlette,
    settings: Settings,
    ledger: Ledger,
    *,
    listening: Callable[[str, Stopper], None] | None = None,
) -> bool:
    """Serve the application until SIGTERM or SIGINT; return whether a signal stopped it.

    `listening` is called once with the server's URL and a way to stop it.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would log the links, which are secrets
        server_header=False,
        proxy_headers=False,  # read by receiver.web.clients
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    _allow_open_files()
    server = _Server(config, app.state, settings, ledger, listening)
    # Set before uvicorn runs: otherwise an earlier signal would be lost. uvicorn raises the signal
    # again after its shutdown; a clean stop must exit 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run()
    if app.state.failure is not None:
        raise app.state.failure
    if not server.started:
        raise SystemExit(NOT_DONE)
    log.info("stopped")
    return server.signaled


def _allow_open_files() -> None:
    """Raise the limit of open files of this process: many systems start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


class _Server(LimitedServer):
    """Uvicorn's server; once it listens, it writes its URL to the log and the ledger."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: State,
        settings: Settings,
        ledger: Ledger,
        listening: Callable[[str, Stopper], None] | None,
    ) -> None:
        super().__init__(config)
        self._state = state  # of the application; holds the failure, if any
        self._settings = settings
        self._ledger = ledger
        self._listening = listening
        self.signaled = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.signaled = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        try:
            await super().startup(sockets)  # type: ignore[arg-type]
        except SystemExit as error:
            if self._state.failure is not None:
                raise self._state.failure from None
            raise CommandError(self._cannot_start(error.__context__), NOT_DONE) from None
        if self.should_exit:
            return
        port = self.servers[0].sockets[0].getsockname()[1]
        url = address(self._settings.host, port)
        try:
            await self._ledger.write(partial(write_note, key=SERVES_AT, value=url))
        except LedgerError as error:
            self._state.failure = error
            raise
        host = self._settings.host
        at = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        rules = len(self._settings.rules)
        log.info("listening", at=at, rules=rules, pid=os.getpid(), version=VERSION)
        if self._listening is not None:
            self._listening(url, self._stop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        service = getattr(self._state, "service", None)
        if service is not None:
            service.waiting.end()
        await super().shutdown(sockets)

    def _cannot_start(self, cause: BaseException | None) -> str:
        settings = self._settings
        if not isinstance(cause, OSError):
            return "the server cannot start: see the log above"
        if isinstance(cause, socket.gaierror):
            return (
                f"HOST is {settings.host}, which does not resolve to an address of this machine: "
                "write an address, for instance HOST=127.0.0.1"
            )
        reason = os.strerror(cause.errno or 0)
        return (
            f"cannot listen on port {settings.port} of {settings.host} ({reason}): "
            "choose another with PORT and HOST, or with --port and --host"
        )

    def _stop(self) -> None:
        self.should_exit = True
