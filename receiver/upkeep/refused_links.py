"""Requests with a refused link, counted in memory and written to the ledger once a second at most.

Requests from unknown senders therefore do not cause a disk write each.
"""

import asyncio
from collections import Counter
from contextlib import suppress

from receiver import metrics
from receiver.errors import BadLink, LedgerError
from receiver.ledger.ledger import Ledger
from receiver.ledger.refused_links import count_refused_links
from receiver.periodic import PeriodicTask
from receiver.signing import LinkFault

APART_SECONDS = 1.0

for _reason in LinkFault:  # present from the start, so that an increase is visible
    metrics.links_refused.labels(_reason.value)


class RefusedLinks:
    """Counts the requests that the webhook endpoint refuses."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counts: Counter[tuple[LinkFault, str | None]] = Counter()
        self._background = PeriodicTask(self._once, every=lambda: None, fault="refused_links_fault")

    def count(self, error: BadLink) -> None:
        """Count a request; the count is written to the ledger soon."""
        reason = LinkFault(error.reason)
        metrics.links_refused.labels(reason.value).inc()
        self._counts[reason, error.repository] += 1
        self._background.wake()

    async def flush(self) -> None:
        """Write the counts. Raises LedgerError; the counts are then kept."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await self._ledger.write(lambda tx: count_refused_links(tx, counts))
        except LedgerError:
            self._counts.update(counts)
            raise

    def start(self) -> None:
        """Start writing in the background."""
        self._background.start()

    async def stop(self) -> None:
        """Write the remaining counts, and stop."""
        await self._background.stop()
        with suppress(LedgerError):
            await self.flush()

    async def _once(self) -> None:
        await self.flush()
        await asyncio.sleep(APART_SECONDS)
