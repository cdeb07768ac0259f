"""Runs one claimed registration: attempt, then settle.

An error in a registration never stops the worker. If the ledger cannot be written, the result is
kept and written later.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from receiver.aftermath import write_aftermath
from receiver.announcing import announce
from receiver.edgegap.catalogue import Catalogue
from receiver.edgegap.client import EdgegapClient
from receiver.errors import LedgerError
from receiver.ledger.clock import SMALLEST_STEP_MS
from receiver.ledger.ledger import Ledger
from receiver.ledger.registrations import Claimed
from receiver.ledger.settlements import (
    Settlement,
    compare_again,
    sent,
    settle,
    was_settled,
)
from receiver.ledger.targets import NotCopied, not_copied
from receiver.ledger.transactions import Tx
from receiver.ledger_watch import LedgerWatch
from receiver.logs import get_logger
from receiver.pipeline.channels import ChannelAttempt
from receiver.preflight import Preflight
from receiver.reasons import Outcome
from receiver.registering import Attempt
from receiver.retention import Retention
from receiver.rules import Mode, moving_versions
from receiver.settings import Current
from receiver.settling import Tried, fault, leave_to_others, moved_by

LEDGER_AWAY_SECONDS = 0.5

Settled = Callable[[Claimed, Settlement], None]

log = get_logger()


class InHand:
    """Runs claimed registrations for the owner of their leases."""

    def __init__(
        self,
        owner: str,
        ledger: Ledger,
        current: Current,
        client: EdgegapClient,
        *,
        watch: LedgerWatch,
        preflight: Preflight,
        retention: Retention,
        settled: Settled | None = None,
    ) -> None:
        self._owner = owner
        self._ledger = ledger
        self._current = current
        self._client = client
        self._watch = watch
        self._preflight = preflight
        self._catalogue = Catalogue(client)
        self._retention = retention
        self._settled = settled

    def forget(self) -> None:
        """Drop the cached versions of Edgegap."""
        self._catalogue.forget()

    async def work(self, claimed: Claimed) -> None:
        """Attempt the registration and store the result."""
        now = self._watch.clock()
        try:
            tried = await self._attempt(claimed, now)
        except _LeaseLost:
            log.warning("lease_lost", registration=claimed.id, app=claimed.app)
            return
        except LedgerError as error:
            self._watch.is_away(error)
            tried = fault(claimed, error, now=now())
        except Exception as error:
            log.exception("registration_fault", registration=claimed.id, app=claimed.app)
            tried = fault(claimed, error, now=now())
        if self._watch.replicas > 1:
            jitter = random.random()  # noqa: S311 - spreads retries
            tried = leave_to_others(claimed, tried, now=now(), jitter=jitter)
        tried = await self._retention.make_room(claimed, tried)
        await self._settle(claimed, tried, now)

    async def compare_later(self, claimed: Claimed) -> None:
        """Schedule a comparison with Edgegap: a PATCH of a lost lease may be applied late."""
        try:
            await self._ledger.write(partial(compare_again, claimed=claimed))
        except LedgerError as error:
            self._watch.is_away(error)  # the record made before the PATCH remains

    async def _attempt(self, claimed: Claimed, now: Callable[[], int]) -> Tried:
        async def record_request(step: int, method: str, path: str) -> None:
            write = partial(
                sent, claimed=claimed, owner=self._owner, step=step, method=method, path=path
            )
            if not await self._ledger.write(write):
                raise _LeaseLost

        async def find_excluded(app: str) -> NotCopied:
            excluded = await self._ledger.read(partial(not_copied, app=app))
            moving = moving_versions(self._current.settings.rules, app)
            return replace(excluded, channels=excluded.channels | moving)

        kind = ChannelAttempt if claimed.mode is Mode.CHANNEL else Attempt
        attempt = kind(
            claimed,
            self._current.settings,
            self._client,
            self._catalogue,
            preflight=self._preflight,
            sent=record_request,
            not_copied=find_excluded,
            now=now,
            jitter=random.random,
        )
        return await attempt.run()

    async def _settle(self, claimed: Claimed, tried: Tried, now: Callable[[], int]) -> None:
        """Store the result; if the ledger is unavailable, retry until it is stored.

        The result's times come from `now`; the ledger's clock may have been set since.
        """
        stored: bool | None = None
        decided_at = now()
        while stored is None:
            try:
                write = partial(self._store, claimed=claimed, tried=tried, decided_at=decided_at)
                stored = await self._ledger.write(write)
            except LedgerError as error:
                self._watch.is_away(error)
                await asyncio.sleep(LEDGER_AWAY_SECONDS)
            except Exception as error:
                log.exception("registration_fault", registration=claimed.id, app=claimed.app)
                tried, decided_at = fault(claimed, error, now=now()), now()
                await asyncio.sleep(LEDGER_AWAY_SECONDS)
        if not stored:
            log.warning("lease_lost", registration=claimed.id, app=claimed.app)
            await self.compare_later(claimed)
            return
        announce(claimed, tried.settlement, now=now())
        if self._settled is not None:
            self._settled(claimed, tried.settlement)
        if tried.settlement.outcome is Outcome.CREATED:
            self._retention.begin(claimed.app)

    def _store(self, tx: Tx, claimed: Claimed, tried: Tried, decided_at: int) -> bool:
        step = tx.now - decided_at
        if abs(step) >= SMALLEST_STEP_MS:
            tried = moved_by(tried, step)
        if not settle(tx, claimed, self._owner, tried.settlement):
            return was_settled(tx, claimed, tried.settlement)
        write_aftermath(tx, self._current.settings, claimed, tried)
        return True


class _LeaseLost(Exception):
    """Another worker owns the registration now: this one must send nothing more for it."""
