"""Webhooks as Docker Hub sends them: one for each untagged part of an image, then one for its tag.

Each is sent once, without a retry.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from receiver.sandbox.dockerhub_account import Repository, TagPush, Webhook

SECONDS = 10.0


def send_webhooks(repository: Repository, push: TagPush) -> None:
    """Send them in the background, to each webhook of the repository."""
    for webhook in list(repository.webhooks):
        arguments = (webhook, list(_bodies(repository, push)))
        threading.Thread(target=_send, args=arguments, daemon=True).start()


def _send(webhook: Webhook, bodies: list[dict[str, Any]]) -> None:
    opener = build_opener(ProxyHandler({}), _NoRedirect)
    for body in bodies:
        headers = {"content-type": "application/json"}
        request = Request(webhook.url, json.dumps(body).encode(), headers)  # noqa: S310  # checked
        status = None
        with suppress(OSError, HTTPException):
            try:
                with opener.open(request, timeout=SECONDS) as response:
                    status = response.status
            except HTTPError as refused:
                status = refused.code
        webhook.statuses.append(status)


class _NoRedirect(HTTPRedirectHandler):
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
