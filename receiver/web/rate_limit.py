"""Rate limits per minute: invalid links and logins per client, bad bodies per repository."""

import ipaddress
import time

WINDOW_SECONDS = 60.0
MOST_KEYS = 10_000
NETWORK_BITS = 64  # of an IPv6 address: one household or server has the whole network


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
        if now - self._began >= WINDOW_SECONDS or len(self._counts) >= MOST_KEYS:
            self._counts.clear()
            self._began = now
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        return count <= self._most
