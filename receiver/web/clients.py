"""Clients: their address behind trusted proxies, and how much each may do in a minute."""

import ipaddress
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

# The client address of a request, behind trusted proxies.
#
# Uvicorn would compute it for each request; for webhooks only the log needs it.


def trust_proxies(app: ASGIApp, trusted: str) -> ASGIApp:
    """Wrap the application: `request.client` is the client address that a trusted proxy reports.

    `trusted` is FORWARDED_ALLOW_IPS: comma-separated addresses and networks, or `*`.
    """
    wrapped: ASGIApp = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type, assignment]
    return wrapped


MAX_KNOWN = 1000


class Senders:
    """Returns the client addresses of single requests; each is found out once."""

    def __init__(self, trusted: str) -> None:
        self._read = trust_proxies(_nothing, trusted)
        self._known: dict[tuple[str, ...], str] = {}

    async def address_of(self, request: Request) -> str:
        """Return the client address, as reported by trusted proxies."""
        peer = host_of(request)
        forwarded = request.headers.getlist("x-forwarded-for")
        if not forwarded:
            return peer
        key = (peer, *forwarded)
        address = self._known.get(key)
        if address is None:
            await self._read(request.scope, request.receive, _unsent)
            address = host_of(request)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = address
        return address


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing: an application for a request of which only the address is needed."""


async def _unsent(message: Message) -> None:
    """Send nothing."""


# Rate limits per minute: invalid links and logins per client, bad bodies per repository.

WINDOW_SECONDS = 60.0
MAX_KEYS = 10_000
NETWORK_BITS = 64  # of an IPv6 address: one household or server has the whole network


def host_of(request: Request) -> str:
    """Return the address that the request came from, as far as it is known."""
    return request.client.host if request.client else "unknown"


def client_of(address: str) -> str:
    """Return the key of a client: its IPv4 address, or the /64 network of its IPv6 address.

    An IPv4 address that a dual-stack proxy writes as IPv6 (`::ffff:192.0.2.1`) counts as IPv4.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed.packed, NETWORK_BITS), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)


class MinuteLimiter:
    """Allows `most` events a minute per key. Memory is bounded: at the limit all counts restart."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}
        self._began = time.monotonic()

    def allows(self, key: str) -> bool:
        """Count an event for the key; return False if the key exceeds its limit this minute."""
        now = time.monotonic()
        if now - self._began >= WINDOW_SECONDS or len(self._counts) >= MAX_KEYS:
            self._counts.clear()
            self._began = now
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        return count <= self._most
