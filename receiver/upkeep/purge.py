"""Purge: deletes old deliveries from the ledger, a few rows at a time, once an hour."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from receiver.config.settings import LiveSettings
from receiver.ledger.ledger import Ledger
from receiver.ledger.links import purge_revocations
from receiver.ledger.purge import (
    give_back_space,
    purge_approvals,
    purge_bodies,
    purge_deletions,
    purge_deliveries,
    purge_registrations,
    purge_requests,
    purge_sent_settings,
    purge_trials,
    time_to_purge_by,
)
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger
from receiver.periodic import PeriodicTask

T = TypeVar("T")

EVERY_SECONDS = 3600.0
BETWEEN_WINDOWS_SECONDS = 0.05  # so that other writes are not delayed

log = get_logger()


class Purge:
    """Purges in the background while the receiver is running."""

    def __init__(self, ledger: Ledger, current: LiveSettings) -> None:
        self._ledger = ledger
        self._current = current
        self.background = PeriodicTask(self._once, every=lambda: EVERY_SECONDS, fault="purge_fault")

    async def _once(self) -> None:
        async with self._ledger.try_lock("purge") as mine:
            if mine:
                await self.run()

    async def run(self) -> int:
        """Purge everything that is old enough; return the number of deleted deliveries."""
        now, settings = await self._ledger.write(time_to_purge_by), self._current.settings
        before = now - settings.keep
        await self._in_windows(
            purge_bodies, now - min(settings.keep_bodies or 0, settings.keep), ""
        )
        gone = await self._in_windows(purge_deliveries, before, "")
        await self._in_windows(purge_requests, before, 0)
        for purge in (purge_deletions, purge_trials):
            await self._in_windows(purge, before, "")
        await self._in_windows(purge_sent_settings, before, ("", ""))
        await self._ledger.write(purge_revocations)
        if gone:
            await self._in_windows(purge_registrations, before, "")
            await self._ledger.write(partial(purge_approvals, before=before))
            await self._ledger.write(give_back_space)
            log.info("deliveries_purged", count=gone)
        return gone

    async def _in_windows(
        self, purge: Callable[[Tx, int, T], tuple[int, T | None]], before: int, start: T
    ) -> int:
        """Purge all rows, each window in a transaction; return how many were deleted."""
        gone, after = await self._ledger.write(lambda tx: purge(tx, before, start))
        while after is not None:
            await asyncio.sleep(BETWEEN_WINDOWS_SECONDS)
            more, after = await self._ledger.write(partial(_next, purge, before, after))
            gone += more
        return gone


def _next(
    purge: Callable[[Tx, int, T], tuple[int, T | None]], before: int, after: T, tx: Tx
) -> tuple[int, T | None]:
    return purge(tx, before, after)
