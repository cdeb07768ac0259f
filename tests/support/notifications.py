"""A listener that takes the notifications that Apprise sends as JSON."""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

NOTICE = """
[[notice]]
url_env = "TEAM_NOTICE_URL"
on = ["created", "parked"]
"""


class NotificationListener:
    """Takes Apprise's JSON messages, or refuses them."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        self.app = Starlette(routes=[Route("/notify", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.messages.append(await request.json())
        return Response(status_code=self.status)
