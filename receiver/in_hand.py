"""One registration in hand: attempt → settle, whatever happens meanwhile.

A fault in one never stops the worker; a ledger that cannot be written is waited for, with what was
found out kept in hand.
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
    """Works on what was claimed, for the owner whose lease it is."""

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
        """Take nothing for granted that was read from Edgegap before."""
        self._catalogue.forget()

    async def work(self, claimed: Claimed) -> None:
        """Attempt it, and write down what came of it."""
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
        """Have a channel compared with Edgegap: a PATCH of a lost lease may be carried out late."""
        try:
            await self._ledger.write(partial(compare_again, claimed=claimed))
        except LedgerError as error:
            self._watch.is_away(error)  # what was noted before the PATCH was sent stays

    async def _attempt(self, claimed: Claimed, now: Callable[[], int]) -> Tried:
        async def note_sent(step: int, method: str, path: str) -> None:
            note = partial(
                sent, claimed=claimed, owner=self._owner, step=step, method=method, path=path
            )
            if not await self._ledger.write(note):
                raise _LeaseLost

        async def excluded(app: str) -> NotCopied:
            found = await self._ledger.read(partial(not_copied, app=app))
            moving = moving_versions(self._current.settings.rules, app)
            return replace(found, channels=found.channels | moving)

        kind = ChannelAttempt if claimed.mode is Mode.CHANNEL else Attempt
        attempt = kind(
            claimed,
            self._current.settings,
            self._client,
            self._catalogue,
            preflight=self._preflight,
            sent=note_sent,
            not_copied=excluded,
            now=now,
            jitter=random.random,
        )
        return await attempt.run()

    async def _settle(self, claimed: Claimed, tried: Tried, now: Callable[[], int]) -> None:
        """Write the result, however long the ledger is away.

        Its times are those of `now`; the ledger's clock may have been set since.
        """
        kept: bool | None = None
        decided_at = now()
        while kept is None:
            try:
                write = partial(
                    self._write_down, claimed=claimed, tried=tried, decided_at=decided_at
                )
                kept = await self._ledger.write(write)
            except LedgerError as error:
                self._watch.is_away(error)
                await asyncio.sleep(LEDGER_AWAY_SECONDS)
            except Exception as error:
                log.exception("registration_fault", registration=claimed.id, app=claimed.app)
                tried, decided_at = fault(claimed, error, now=now()), now()
                await asyncio.sleep(LEDGER_AWAY_SECONDS)
        if not kept:
            log.warning("lease_lost", registration=claimed.id, app=claimed.app)
            await self.compare_later(claimed)
            return
        announce(claimed, tried.settlement, now=now())
        if self._settled is not None:
            self._settled(claimed, tried.settlement)
        if tried.settlement.outcome is Outcome.CREATED:
            self._retention.begin(claimed.app)

    def _write_down(self, tx: Tx, claimed: Claimed, tried: Tried, decided_at: int) -> bool:
        step = tx.now - decided_at
        if abs(step) >= SMALLEST_STEP_MS:
            tried = moved_by(tried, step)
        if not settle(tx, claimed, self._owner, tried.settlement):
            return was_settled(tx, claimed, tried.settlement)
        write_aftermath(tx, self._current.settings, claimed, tried)
        return True


class _LeaseLost(Exception):
    """Another worker has it now: nothing more may be sent for it from here."""
