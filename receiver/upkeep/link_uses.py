"""Records which links are in use, by the keys that signed them, once a minute for each link."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from receiver.errors import LedgerError
from receiver.ledger.ledger import Ledger
from receiver.ledger.secret_keys import use_links
from receiver.periodic import PeriodicTask

EVERY_SECONDS = 60.0
APART_SECONDS = 1.0


class LinkUses:
    """Records the uses of links; `keys` are the fingerprints of the secret keys, in their order."""

    def __init__(self, ledger: Ledger) -> None:
        self.keys: Sequence[str] = ()
        self.background = PeriodicTask(self._once, every=lambda: None, fault="link_uses_fault")
        self._ledger = ledger
        self._noted: dict[tuple[str, str], float] = {}
        self._used: set[tuple[str, str]] = set()

    def note(self, repository: str, key: int) -> None:
        """Record a use of the repository's link; `key` is the index of the key in `keys`."""
        if key >= len(self.keys):
            return  # a reload is in progress
        use, now = (repository, self.keys[key]), time.monotonic()
        if now - self._noted.get(use, float("-inf")) >= EVERY_SECONDS:
            self._noted[use] = now
            self._used.add(use)
            self.background.wake()

    async def stop(self) -> None:
        """Write the remaining uses, and stop."""
        await self.background.stop()
        with suppress(LedgerError):
            await self._flush()

    async def _flush(self) -> None:
        used, self._used = self._used, set()
        if not used:
            return
        try:
            await self._ledger.write(lambda tx: use_links(tx, sorted(used)))
        except LedgerError:
            self._used |= used
            raise

    async def _once(self) -> None:
        await self._flush()
        await asyncio.sleep(APART_SECONDS)
