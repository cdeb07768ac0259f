"""Who really sent a request, where proxies stand between.

Uvicorn would read it from each request; of a push it is asked only where it is told of.
"""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


def as_proxies_tell(app: ASGIApp, trusted: str) -> ASGIApp:
    """Return the application, given each request as from the sender that a trusted proxy names.

    `trusted` is FORWARDED_ALLOW_IPS: addresses and networks with commas between, or `*`.
    """
    wrapped: ASGIApp = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type, assignment]
    return wrapped


class Senders:
    """Tells of single requests who sent them."""

    def __init__(self, trusted: str) -> None:
        self._read = as_proxies_tell(_nothing, trusted)

    async def address_of(self, request: Request) -> str:
        """Return the sender's address, as trusted proxies tell it."""
        await self._read(request.scope, request.receive, _unsent)
        return request.client.host if request.client else "unknown"


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Take a request whose sender was read, and leave it."""


async def _unsent(message: Message) -> None:
    """Send nothing."""
