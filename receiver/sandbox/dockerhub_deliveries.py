"""Webhooks as Docker Hub sends them: one for each untagged part of an image, then one for its tag.

Each is sent once, without a retry.
"""

import threading
from collections.abc import Iterator
from typing import Any

import httpx

from receiver.sandbox.dockerhub_account import Repository, TagPush, Webhook

SECONDS = 10.0


def send_webhooks(repository: Repository, push: TagPush) -> None:
    """Send them in the background, to each webhook of the repository."""
    for webhook in list(repository.webhooks):
        arguments = (webhook, list(_bodies(repository, push)))
        threading.Thread(target=_send, args=arguments, daemon=True).start()


def _send(webhook: Webhook, bodies: list[dict[str, Any]]) -> None:
    with httpx.Client(trust_env=False, timeout=SECONDS, follow_redirects=False) as http:
        for body in bodies:
            status = None
            try:
                status = http.post(webhook.url, json=body).status_code
            except httpx.HTTPError:
                pass
            finally:
                webhook.statuses.append(status)


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
