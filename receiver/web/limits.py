"""Counting by the minute: wrong tokens and login tries by client, bad bodies by repository."""

import ipaddress
import time

WINDOW_SECONDS = 60.0
MOST_KEYS = 10_000
NETWORK_BITS = 64  # of an IPv6 address: one household or server has all of them


def client_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 network of an IPv6 address.

    An IPv4 address that a dual-stack proxy writes as IPv6 (`::ffff:192.0.2.1`) is that address.
    """
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(read, ipaddress.IPv6Address):
        if read.ipv4_mapped is None:
            return str(ipaddress.ip_network((read.packed, NETWORK_BITS), strict=False))
        read = read.ipv4_mapped
    return str(read)


class PerMinute:
    """Allows so many a minute for each key. Memory is bounded: past that, all begin anew."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}
        self._began = time.monotonic()

    def allows(self, key: str) -> bool:
        """Count one for the key; False when it is over its number for this minute."""
        now = time.monotonic()
        if now - self._began >= WINDOW_SECONDS or len(self._counts) >= MOST_KEYS:
            self._counts.clear()
            self._began = now
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        return count <= self._most
