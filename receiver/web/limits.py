"""Counting by the minute: wrong tokens by address, bad bodies by repository."""

import time

WINDOW_SECONDS = 60.0
MOST_KEYS = 10_000


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
