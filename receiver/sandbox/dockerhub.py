"""A fake of Docker Hub: auth server, registry and Hub API, all on one base URL."""

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.sandbox.calls import (
    CONTROLS,
    Call,
    Fault,
    Faults,
    Misbehaving,
    Recording,
    calls_route,
    is_call,
)
from receiver.sandbox.dockerhub_account import (
    DockerHubAccount,
    Repository,
    Switches,
    TagPush,
    Webhook,
)
from receiver.sandbox.dockerhub_api import HubApi
from receiver.sandbox.dockerhub_records import tag_record
from receiver.sandbox.dockerhub_registry import AuthServer, Registry


@dataclass(kw_only=True, eq=False, repr=False)
class DockerHubSandbox(DockerHubAccount):
    """Docker Hub with the repositories of `DockerHubAccount`; serve its `app`.

    The auth server is at `/token`, the registry at `/v2/GROUP/PROJECT/…`, the Hub API at
    `/v2/namespaces/…`. A push is reported to the webhooks that were created by the API. `Switches`
    lists the settings, given as keywords here or changed later. A test's thread may read and set
    attributes while the app is served.
    """

    calls: list[Call] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    app: Starlette = field(init=False)

    def __post_init__(self) -> None:
        """Build the app with the three parts on one base URL."""
        super().__post_init__()
        self.app = self._build()

    def misbehave(self, *faults: Fault) -> None:
        """Queue faults for the next calls."""
        self.faults.add(*faults)

    def behave(self) -> None:
        """Clear the queued faults."""
        self.faults.clear()

    def expire_tokens(self) -> None:
        """Expire all issued tokens of the registry and the Hub API."""
        self.bearers.expire_all()

    def report(self, repository: Repository, push: TagPush) -> None:
        """Send the webhooks of a push, without waiting for the responses."""
        send_webhooks(repository, push)

    def record(self, repository: str, tag: str) -> dict[str, Any]:
        """Return a tag's record as the Hub API shows it."""
        held = self.repositories[repository]
        return tag_record(held, held.listed(self.clock())[tag])

    async def _push_many(self, request: Request) -> Response:
        """Push the images of a JSON object, `{"push": [arguments of push_image, …]}`."""
        try:
            for push in (await request.json())["push"]:
                self.push_image(**push)
        except (KeyError, TypeError, ValueError) as wrong:
            return JSONResponse({"message": str(wrong)}, 400)
        return JSONResponse({"success": True})

    def _build(self) -> Starlette:
        token = Route("/token", AuthServer(self).token)
        push = Route(f"{CONTROLS}state", self._push_many, methods=["POST"])
        calls = calls_route(self.calls)
        app = Starlette(
            routes=[token, *HubApi(self).routes(), *Registry(self).routes(), push, calls],
            middleware=[
                Middleware(Recording, calls=self.calls),
                Middleware(_Dated, hub=self),
                Middleware(Misbehaving, faults=self.faults),
                Middleware(_Tired, hub=self),
            ],
        )
        app.router.redirect_slashes = False
        return app


class _Tired:
    """Middleware that delays calls, or applies Docker Hub's abuse limit."""

    def __init__(self, app: ASGIApp, hub: Switches) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, with a delay, or refuse it."""
        app = self._app
        if is_call(scope):
            if self._hub.latency:
                await asyncio.sleep(self._hub.latency)
            if self._hub.abuse_limited:
                # No JSON, no headers: it is refused before it reaches the registry.
                app = PlainTextResponse("429 Too Many Requests\n", 429)
        await app(scope, receive, send)


class _Dated:
    """Middleware that adds a Date header, by Docker Hub's clock, to responses without one."""

    def __init__(self, app: ASGIApp, hub: Switches) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start" and self._hub.clock_ahead is not None:
                now = formatdate(time.time() + self._hub.clock_ahead, usegmt=True)
                MutableHeaders(scope=message).setdefault("date", now)
            await send(message)

        await self._app(scope, receive, send_dated)


# Webhooks as Docker Hub sends them: one for each untagged part of an image, then one for its tag.
#
# Each is sent once, without a retry.

SECONDS = 10.0


def send_webhooks(repository: Repository, push: TagPush) -> None:
    """Send them in the background, to each webhook of the repository."""
    for webhook in list(repository.webhooks):
        arguments = (webhook, list(_bodies(repository, push)))
        threading.Thread(target=_send, args=arguments, daemon=True).start()


def _send(webhook: Webhook, bodies: list[dict[str, Any]]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    for body in bodies:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(webhook.url, json.dumps(body).encode(), headers)  # noqa: S310  # checked
        status = None
        with suppress(OSError, HTTPException):
            try:
                with opener.open(request, timeout=SECONDS) as response:
                    status = response.status
            except HTTPError as refused:
                status = refused.code
        webhook.statuses.append(status)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _bodies(repository: Repository, push: TagPush) -> Iterator[dict[str, Any]]:
    top = push.image.top.digest
    for digest, manifest in push.image.manifests.items():
        if digest != top:
            yield _body(repository, push, "", manifest.media_type)
    yield _body(repository, push, push.tag, push.image.shown_as)


def _body(repository: Repository, push: TagPush, tag: str, media_type: str) -> dict[str, Any]:
    namespace, _, name = repository.name.partition("/")
    callback = f"https://registry.hub.docker.com/u/{repository.name}/hook/{0:032x}/"
    return {
        "callback_url": callback,
        "push_data": {
            "pusher": namespace,
            "pushed_at": int(push.pushed_at),
            "tag": tag,
            "images": [],
            "media_type": media_type,
        },
        "repository": {
            "status": "Active",
            "namespace": namespace,
            "name": name,
            "repo_name": repository.name,
            "repo_url": f"https://hub.docker.com/r/{repository.name}",
            "description": "",
            "full_description": None,
            "star_count": 0,
            "is_private": repository.private,
            "is_trusted": False,
            "is_official": False,
            "owner": namespace,
            "date_created": 0,
        },
    }
