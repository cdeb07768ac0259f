"""The client address of a request, behind trusted proxies.

Uvicorn would compute it for each request; for webhooks only the log needs it.
"""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


def trust_proxies(app: ASGIApp, trusted: str) -> ASGIApp:
    """Wrap the application: `request.client` is the client address that a trusted proxy reports.

    `trusted` is FORWARDED_ALLOW_IPS: comma-separated addresses and networks, or `*`.
    """
    wrapped: ASGIApp = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type, assignment]
    return wrapped


class Senders:
    """Returns the client addresses of single requests."""

    def __init__(self, trusted: str) -> None:
        self._read = trust_proxies(_nothing, trusted)

    async def address_of(self, request: Request) -> str:
        """Return the client address, as reported by trusted proxies."""
        await self._read(request.scope, request.receive, _unsent)
        return request.client.host if request.client else "unknown"


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing: an application for a request of which only the address is needed."""


async def _unsent(message: Message) -> None:
    """Send nothing."""
