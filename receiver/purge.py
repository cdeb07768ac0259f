"""Purge: what is older than the ledger is to keep goes, a bite at a time, once an hour."""

import asyncio
import time
from collections.abc import Callable

from receiver.errors import LedgerError
from receiver.ledger.ledger import Ledger
from receiver.ledger.purging import (
    BITE,
    give_back_space,
    purge_attempts,
    purge_deliveries,
    purge_registrations,
)
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.settings import Current

EVERY_SECONDS = 3600.0
BETWEEN_BITES_SECONDS = 0.05  # others write meanwhile

log = get_logger()


class Purge:
    """Purges by itself while the receiver runs."""

    def __init__(self, ledger: Ledger, current: Current) -> None:
        self._ledger = ledger
        self._current = current
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin: at once, then every hour."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; a bite that is not committed did not happen."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                async with self._ledger.alone("purge") as mine:
                    if mine:
                        await self.run()
            except LedgerError as error:
                log.warning("ledger_unavailable", error=str(error))
            except Exception:
                log.exception("purge_fault")
            await asyncio.sleep(EVERY_SECONDS)

    async def run(self) -> int:
        """Purge all that is old enough now; return how many deliveries went."""
        before = time.time_ns() // 1_000_000 - self._current.settings.keep
        gone = await self._in_bites(purge_deliveries, before)
        await self._in_bites(purge_attempts, before)
        if gone:
            await self._registrations(before)
            await self._ledger.write(give_back_space)
            log.info("deliveries_purged", count=gone)
        return gone

    async def _in_bites(self, purge: Callable[[Tx, int], int], before: int) -> int:
        gone = bite = await self._ledger.write(lambda tx: purge(tx, before))
        while bite == BITE:
            await asyncio.sleep(BETWEEN_BITES_SECONDS)
            bite = await self._ledger.write(lambda tx: purge(tx, before))
            gone += bite
        return gone

    async def _registrations(self, before: int) -> None:
        after: str | None = ""
        while after is not None:
            after = await self._one_window(before, after)
            await asyncio.sleep(BETWEEN_BITES_SECONDS)

    async def _one_window(self, before: int, after: str) -> str | None:
        return await self._ledger.write(lambda tx: purge_registrations(tx, before, after))
