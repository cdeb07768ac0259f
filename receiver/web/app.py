"""The Starlette application: its routes, and a lifespan that starts and stops the service."""

import asyncio
import gc
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from receiver.config.settings import Settings
from receiver.config.variables import variables_of
from receiver.doctor.finding import ChecksRun
from receiver.errors import ReceiverError
from receiver.ledger.ledger import Ledger
from receiver.logs import get_logger, note_address, note_fault
from receiver.metrics import webhook_requests
from receiver.pipeline.worker import Settled
from receiver.service import Reload, Service, running, without_worker
from receiver.signing import PATH
from receiver.web.clients import trust_proxies
from receiver.web.messages import ProblemCode, not_found, problem
from receiver.web.operation import routes_of
from receiver.web.operations import operations
from receiver.web.page.auth import failure, is_of_a_browser
from receiver.web.page.rendering import fault_page
from receiver.web.page.routes import page_routes
from receiver.web.versions import VersionLists
from receiver.web.webhook import Hooks

_SLASHES = re.compile("//+")
_PASTED = " \t\r\n\"'`<>()[]{},;./"  # what a person pastes after a link

log = get_logger()


def create_app(
    settings: Settings,
    ledger: Ledger,
    *,
    environ: Mapping[str, str] | None = None,
    settled: Settled | None = None,
) -> Starlette:
    """Return the application for an opened ledger; its lifespan closes the ledger at the end.

    `environ` is the environment that a reload begins with, before any `.env`.
    """
    hooks = Hooks(settings.forwarded_allow_ips)
    app = _App(
        hooks,
        settings.forwarded_allow_ips,
        routes=[*routes_of(operations(hooks)), *page_routes()],
        exception_handlers={
            HTTPStatus.NOT_FOUND: partial(_no_route, hooks),
            HTTPStatus.METHOD_NOT_ALLOWED: partial(_no_route, hooks),
            HTTPStatus.INTERNAL_SERVER_ERROR: _fault,
        },
        lifespan=lambda app: _lifespan(app, settings, ledger, environ=environ, settled=settled),
    )
    app.router.redirect_slashes = False
    app.state.failure, app.state.lists, app.state.valid_sessions = None, VersionLists(), {}
    app.state.checks = ChecksRun(os.environ if environ is None else environ)
    return app


@asynccontextmanager
async def app_without_worker(settings: Settings, ledger: Ledger) -> AsyncIterator[Starlette]:
    """Yield the application for a command: its API works, and what it records is left to `serve`.

    The ledger is open, and stays so.
    """
    app = create_app(settings, ledger)
    async with without_worker(settings, ledger) as service:
        app.state.service = service
        yield app


class _App(Starlette):
    """Starlette with a fast path for webhooks; every other request is routed as usual.

    Routing and middleware cost half as much again, and a webhook needs neither (ADR 14).
    """

    def __init__(self, hooks: Hooks, trusted_proxies: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._hooks = hooks
        self._usual = trust_proxies(self._serve, trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            send = partial(self._send_lifespan, send)
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            if "//" in path:  # a proxy or a person joined two parts with a slash each
                path = _SLASHES.sub("/", path)
            if path.startswith(PATH) or path == PATH.removesuffix("/"):  # perhaps cut off
                begun, status = perf_counter(), 500
                scope["app"] = self
                scope["path_params"] = {"token": path[len(PATH) :].rstrip(_PASTED)}
                request, response = Request(scope, receive, send), None
                try:
                    response = await self._hooks.receive_webhook(request)
                    status = response.status_code
                    await response(scope, receive, send)
                except Exception as error:
                    if response is None:
                        await (await _fault(request, error))(scope, receive, send)
                    raise
                finally:
                    webhook_requests.observe(status, perf_counter() - begun)
                return
        await self._usual(scope, receive, send)
        if scope["type"] == "http" and scope["method"] == "POST":
            self.state.lists.expire()  # the page then shows changes by the API and commands

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of a person or a program, with the address that a proxy reports."""
        if scope["type"] == "http" and scope["client"]:
            note_address(scope["client"][0])
        await super().__call__(scope, receive, send)

    async def _send_lifespan(self, send: Send, message: Message) -> None:
        """Pass on a failed startup or shutdown, without its traceback if the cause was logged.

        uvicorn logs the message, which is Starlette's traceback.
        """
        if "message" in message and self.state.failure is not None:
            message = {**message, "message": ""}
        await send(message)


@asynccontextmanager
async def _lifespan(
    app: Starlette,
    settings: Settings,
    ledger: Ledger,
    *,
    environ: Mapping[str, str] | None,
    settled: Settled | None,
) -> AsyncIterator[None]:
    begun_with = dict(os.environ) if environ is None else environ
    try:
        async with (
            running(settings, ledger, settled=settled) as service,
            _reloading_on_hangup(service, begun_with),
        ):
            app.state.service = service
            app.state.environ = begun_with
            if settings.admin_password is None:
                log.info("page_off", why="RECEIVER_ADMIN_PASSWORD is not set")
            gc.freeze()  # modules are never garbage: no collection looks at them again
            try:
                yield
            finally:
                await app.state.lists.stop()
                await app.state.checks.stop()
    except ReceiverError as error:
        app.state.failure = error
        log.error("failed", sentence=str(error))
        raise
    finally:
        ledger.close()


@asynccontextmanager
async def _reloading_on_hangup(service: Service, environ: Mapping[str, str]) -> AsyncIterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[Reload]] = set()

    def reload() -> None:
        task = loop.create_task(service.reload(variables_of(environ)))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _no_route(hooks: Hooks, request: Request, error: HTTPException) -> Response:
    if request.method == "POST":
        await hooks.count_invalid_path(request)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _no_such_method(request)
    if is_of_a_browser(request):
        return failure(request, 404, "There is no such page.", "Check the address.")
    if request.url.path.startswith("/api/"):
        return problem(ProblemCode.NOT_FOUND, "there is no such path; /api/ lists all")
    return not_found()


def _no_such_method(request: Request) -> Response:
    allowed = ", ".join(sorted(_methods_here(request)))
    headers = {"Allow": allowed}
    if is_of_a_browser(request):
        sentence = f"It supports {allowed}, not {request.method}. Use the page's links and buttons."
        response = failure(request, 405, "This address cannot be opened this way.", sentence)
        response.headers.update(headers)
        return response
    return problem(ProblemCode.METHOD_NOT_ALLOWED, f"this path allows only {allowed}", headers)


async def _fault(request: Request, _: Exception) -> Response:
    """Answer a request that failed by an error of ours; the server logs it and disconnects."""
    fault = note_fault()
    if is_of_a_browser(request):
        response: Response = fault_page(fault)
    else:
        detail = f"an error in the receiver; its log has it as request_fault with the id {fault}"
        response = problem(ProblemCode.INTERNAL_ERROR, detail)
    response.headers["Connection"] = "close"
    return response


def _methods_here(request: Request) -> set[str]:
    """Return the methods of all routes at this path; Starlette lists only the first route's."""
    here = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route for route in here if route.matches(request.scope)[0] is Match.PARTIAL]
    return {method for route in here for method in route.methods or ()}
