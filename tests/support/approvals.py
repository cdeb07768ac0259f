"""A channel that waits for an approval, and the chat that gets the link to approve it."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.images import ImageReference
from receiver.ledger.approvals import approve
from receiver.ledger.transaction import Tx
from receiver.sandbox.serving import serving
from receiver.signing import Approvable, ApprovalSigner, ApprovalToken
from tests.support.receiver_process import (
    APP,
    KEY,
    NO_CATCH_UP,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    until,
)

CHANNELS = f"""
[[channel]]
app = "{APP}"
name = "prod"
from = "staging"
needs = ["approval"]
"""
NOTICE = '\n[[notice]]\nurl_env = "CHAT_URL"\non = ["approval"]\n'
CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
CONFIG += CHANNELS + NOTICE + NO_CATCH_UP
PUSHED = int(time.time())  # when what `link_to` approves was pushed
_LINK = re.compile(r"https?://\S+/approve/\S+")


class Chat:
    """Receives notifications, as a chat program does."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/chat", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.messages.append(await request.json())
        return Response()

    def link(self) -> str:
        """The path of the newest link to approve, once one came."""
        until(lambda: any(_LINK.search(one["message"]) for one in self.messages))
        (found,) = _LINK.findall(self.messages[-1]["message"])
        return urlsplit(str(found)).path


@contextmanager
def chatting(chat: Chat) -> Iterator[str]:
    """Serve the chat; yields its Apprise URL."""
    with serving(chat.app) as base:
        yield base.replace("http://", "json://") + "/chat"


def link_to(tag: str, *, digest: str | None = None, seconds: int = 3600, key: str = KEY) -> str:
    """The path of a link to approve that `prod` gets this tag, as it was pushed at `PUSHED`."""
    move = Approvable(APP, "prod", ImageReference(REPOSITORY, tag), digest, PUSHED * 1000)
    return urlsplit(
        ApprovalSigner([key]).link("http://x", ApprovalToken(move, int(time.time()) + seconds))
    ).path


def registration_of(receiver: ReceiverProcess, delivery: str, name: str) -> dict[str, Any]:
    """The registration that moves the channel, once it waits, is done or parked."""

    def look() -> dict[str, Any]:
        found = (
            one
            for one in receiver.details(delivery)["registrations"]
            if one["version"] == name and one["state"] not in {"queued", "working"}
        )
        return next(found, {})

    found: dict[str, Any] = until(look)
    return found


def approve_waiting(tx: Tx) -> list[bool]:
    """Approve each move that waits for it; return whether each approval is the first."""
    rows = tx.run(
        "SELECT app, version, repository, tag, digest, push_time FROM registrations"
        " WHERE state = 'waiting' AND waiting_reason = 'needs_approval'"
    ).all()
    return [
        approve(
            tx,
            Approvable(
                row.app,
                row.version,
                ImageReference(repository=row.repository, tag=row.tag),
                row.digest,
                row.push_time,
            ),
            approver="anna",
            address="203.0.113.7",
        )
        for row in rows
    ]
