"""The application: its routes read aloud, its parts born and buried in the lifespan."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from receiver.errors import ReceiverError
from receiver.hook_tokens import PATH
from receiver.in_hand import Settled
from receiver.ledger.ledger import Ledger
from receiver.logs import get_logger
from receiver.service import Service, running
from receiver.settings import Settings
from receiver.variables import variables_of
from receiver.web.actions import Actions
from receiver.web.api import api_routes
from receiver.web.channels import channel_routes
from receiver.web.document import document_routes
from receiver.web.doorkeeping import failure, is_a_person
from receiver.web.forwarded import as_proxies_tell
from receiver.web.health import live, ready
from receiver.web.hooks import Hooks
from receiver.web.login import Login
from receiver.web.looking import looking_routes
from receiver.web.metrics import show_metrics
from receiver.web.pages import page_routes
from receiver.web.steering import steering_routes
from receiver.web.versions import Shelf

GARBAGE_THRESHOLDS = (20_000, 20, 50)  # the collector's pauses are what makes the slowest answers

log = get_logger()


def create_app(
    settings: Settings,
    ledger: Ledger,
    *,
    environ: Mapping[str, str] | None = None,
    settled: Settled | None = None,
) -> Starlette:
    """Return the application over an opened ledger; it closes the ledger when it ends.

    `environ` is the environment that a reload begins with, before any `.env`.
    """
    hooks, login, shelf = Hooks(settings.forwarded_allow_ips), Login(), Shelf()
    hook = f"{PATH}{{token}}"
    app = _App(
        hooks,
        settings.forwarded_allow_ips,
        shelf,
        routes=[
            Route(hook, hooks.take, methods=["POST"]),
            Route(f"{hook}/", hooks.take, methods=["POST"]),
            Route(hook, hooks.greet, methods=["GET"]),
            Route(f"{hook}/", hooks.greet, methods=["GET"]),
            Route("/livez", live, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
            Route("/metrics", show_metrics, methods=["GET"]),
            *api_routes(),
            *channel_routes(),
            *steering_routes(),
            *looking_routes(shelf),
            *document_routes(),
            *login.routes(),
            *page_routes(shelf),
            *Actions(shelf).routes(),
        ],
        exception_handlers={HTTPException: _refusal},
        lifespan=lambda app: _lifespan(app, settings, ledger, environ, settled),
    )
    app.router.redirect_slashes = False
    app.state.failure = None
    return app


class _App(Starlette):
    """Starlette, with a short way in for Docker Hub; all else goes the usual way.

    The router and its guards are half the price of a plain request; this door needs none of them.
    """

    def __init__(self, hooks: Hooks, trusted_proxies: str, shelf: Shelf, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._hooks = hooks
        self._shelf = shelf
        self._usual = as_proxies_tell(super().__call__, trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            send = partial(self._send_lifespan, send)
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            if path.startswith(PATH) or path == PATH.removesuffix("/"):  # a link, or cut off
                scope["app"] = self
                scope["path_params"] = {"token": path[len(PATH) :].removesuffix("/")}
                answer = await self._hooks.take(Request(scope, receive, send))
                await answer(scope, receive, send)
                return
            if not any(route.matches(scope)[0] is Match.FULL for route in self.routes):
                scope["app"] = self
                await self._hooks.note_stray(Request(scope, receive))
        await self._usual(scope, receive, send)
        if scope["type"] == "http" and scope["method"] == "POST":
            self._shelf.forget()  # the page shows at once what the API and commands changed

    async def _send_lifespan(self, send: Send, message: Message) -> None:
        """Pass on that the start or the end failed; Starlette's traceback only if nobody knows why.

        uvicorn logs it.
        """
        if "message" in message and self.state.failure is not None:
            message = {**message, "message": ""}
        await send(message)


@asynccontextmanager
async def _lifespan(
    app: Starlette,
    settings: Settings,
    ledger: Ledger,
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
            if settings.admin_password is None:
                log.info("page_off", why="RECEIVER_ADMIN_PASSWORD is not set")
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GARBAGE_THRESHOLDS)
            yield
    except ReceiverError as error:
        app.state.failure = error
        log.error("failed", sentence=str(error))
        raise
    finally:
        ledger.close()


def _reloading_on_hangup(
    service: Service, environ: Mapping[str, str]
) -> AbstractAsyncContextManager[None]:
    @asynccontextmanager
    async def listening() -> AsyncIterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[bool]] = set()

        def reload() -> None:
            task = loop.create_task(service.reload(variables_of(environ)))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    return listening()


async def _refusal(request: Request, error: Exception) -> Response:
    """Answer what no route takes, in JSON as everything else."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    words = {404: "not found", 405: "method not allowed"}
    if status == HTTPStatus.NOT_FOUND and is_a_person(request):
        return failure(request, 404, "There is no such page.", "Check the address.")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(sorted(_methods_here(request)))}
    return JSONResponse({"error": words.get(status, "refused")}, status, headers=headers)


def _methods_here(request: Request) -> set[str]:
    """Return the methods of all routes at this path; Starlette names those of the first alone."""
    here = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route for route in here if route.matches(request.scope)[0] is Match.PARTIAL]
    return {method for route in here for method in route.methods or ()}
