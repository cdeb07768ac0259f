"""The second half of the story: claim with a lease → attempt → settle, several at once.

One way for every registration. A fault in one never stops the worker; a ledger that cannot be
written is waited for, with what was found out kept in hand.
"""

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from secrets import token_hex

from receiver.aftermath import write_aftermath
from receiver.announcing import announce
from receiver.claiming import SOON_SECONDS, Turn, begin_anew, take_turn
from receiver.edgegap.catalogue import Catalogue
from receiver.edgegap.client import EdgegapClient
from receiver.errors import LedgerError
from receiver.ledger import gates
from receiver.ledger.leases import hand_back, renew
from receiver.ledger.ledger import Ledger
from receiver.ledger.registrations import Claimed
from receiver.ledger.replicas import leave
from receiver.ledger.settlements import Settlement, sent, settle, was_settled
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.preflight import Preflight
from receiver.reasons import Outcome
from receiver.registering import Attempt
from receiver.retention import Retention
from receiver.settings import Current
from receiver.settling import Tried, fault, leave_to_others

RENEW_SECONDS = 10.0
POLL_SHARED_SECONDS = 1.0
POLL_ALONE_SECONDS = 30.0
LEDGER_AWAY_SECONDS = 0.5
STALE_SECONDS = 90.0

Settled = Callable[[Claimed, Settlement], None]

log = get_logger()


class Worker:
    """Works registrations off, `concurrency` at once, one for each target."""

    def __init__(
        self,
        ledger: Ledger,
        current: Current,
        client: EdgegapClient,
        preflight: Preflight,
        *,
        settled: Settled | None = None,
    ) -> None:
        self.owner = token_hex(6)
        self._ledger = ledger
        self._current = current
        self._client = client
        self._preflight = preflight
        self._catalogue = Catalogue(client)
        self._settled = settled
        self._hands: dict[str, tuple[Claimed, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._turned = time.monotonic()
        self._loops: list[asyncio.Task[None]] = []
        self._away = False
        self._probing: asyncio.Task[None] | None = None
        self._ahead = 0  # ms that the ledger's clock, which replicas share, is ahead of ours
        self._replicas = 1
        self._retention = Retention(ledger, current, client)

    async def start(self) -> None:
        """Free what a dead owner held, then begin to work."""
        shared, settings = self._ledger.shared, self._current.settings
        voided = await self._ledger.write(lambda tx: begin_anew(tx, settings, shared=shared))
        for registration, state in voided:
            log.warning("lease_voided", registration=registration, state=state)
        self._loops = [asyncio.create_task(self._work()), asyncio.create_task(self._renew())]

    @property
    def alive(self) -> bool:
        """Whether the loops turn."""
        turning = time.monotonic() - self._turned < STALE_SECONDS
        return turning and bool(self._loops) and not any(loop.done() for loop in self._loops)

    def wake(self) -> None:
        """Look for work now: something was recorded, replayed or settled."""
        self._wake.set()

    def config_changed(self) -> None:
        """Take nothing for granted that was read from Edgegap before."""
        self._catalogue.forget()
        self.wake()

    async def stop(self, grace_seconds: float) -> None:
        """Claim no more; finish what is in hand within the grace, and hand back the rest."""
        self._stopping = True
        self.wake()
        until = time.monotonic() + grace_seconds
        if self._loops:  # a start that failed has none
            await asyncio.wait(self._loops[:1], timeout=grace_seconds)  # it may be claiming
        tasks = [task for _, task in self._hands.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        probing = [self._probing] if self._probing is not None else []
        ending = [*tasks, *self._loops, *self._retention.under_way, *probing]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        try:
            left = await self._ledger.write(self._end)
        except LedgerError as error:
            self._ledger_is_away(error)  # the next start, or another replica, frees them
            return
        if left:
            log.info("registrations_handed_back", count=left)

    def _end(self, tx: Tx) -> int:
        leave(tx, self.owner)
        return hand_back(tx, self.owner)

    async def _work(self) -> None:
        while not self._stopping:
            self._turned = time.monotonic()
            self._wake.clear()
            try:
                pause = await self._turn()
                self._ledger_is_back()
            except LedgerError as error:
                self._ledger_is_away(error)
                pause = LEDGER_AWAY_SECONDS
            except Exception:
                log.exception("worker_fault")
                pause = POLL_SHARED_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _turn(self) -> float:
        """Claim what is due and start on it; return how many seconds to wait at most."""
        longest = POLL_SHARED_SECONDS if self._ledger.shared else POLL_ALONE_SECONDS
        free = self._current.settings.concurrency - len(self._hands)
        if free <= 0 and not self._ledger.shared:  # else the others must see that this one is there
            return longest
        asked_at = _now()
        turn = await self._ledger.write(partial(self._take_turn, free=free))
        if self._ledger.shared:  # a little late rather than early: a wait is never cut short
            self._ahead = turn.now - asked_at
        if turn.replicas is not None:
            self._replicas = turn.replicas
            self._client.share(turn.replicas)
        for one in turn.claimed:
            task = asyncio.create_task(self._one(one))
            self._hands[one.id] = (one, task)
            task.add_done_callback(partial(self._let_go, one.id))
        if turn.probe:
            self._probing = asyncio.create_task(self._probe())
        return longest if turn.due_in is None else min(longest, max(turn.due_in, SOON_SECONDS))

    def _take_turn(self, tx: Tx, free: int) -> Turn:
        settings, shared = self._current.settings, self._ledger.shared
        return take_turn(
            tx, settings, owner=self.owner, in_hand=self._hands, free=free, shared=shared
        )

    def _let_go(self, identity: str, task: asyncio.Task[None]) -> None:
        if identity in self._hands and self._hands[identity][1] is task:  # not claimed anew since
            del self._hands[identity]
        self.wake()

    async def _one(self, claimed: Claimed) -> None:
        try:
            tried = await self._attempt(claimed)
        except _LeaseLost:
            log.warning("lease_lost", registration=claimed.id, app=claimed.app)
            return
        except LedgerError as error:
            self._ledger_is_away(error)
            tried = fault(claimed, error, now=self._ledger_now())
        except Exception as error:
            log.exception("registration_fault", registration=claimed.id, app=claimed.app)
            tried = fault(claimed, error, now=self._ledger_now())
        if self._replicas > 1:
            now, jitter = self._ledger_now(), random.random()  # noqa: S311 - spreads retries
            tried = leave_to_others(claimed, tried, now=now, jitter=jitter)
        tried = await self._retention.make_room(claimed, tried)
        await self._settle(claimed, tried)

    async def _attempt(self, claimed: Claimed) -> Tried:
        async def note_sent(step: int, method: str, path: str) -> None:
            note = partial(
                sent, claimed=claimed, owner=self.owner, step=step, method=method, path=path
            )
            if not await self._ledger.write(note):
                raise _LeaseLost

        attempt = Attempt(
            claimed,
            self._current.settings,
            self._client,
            self._catalogue,
            preflight=self._preflight,
            sent=note_sent,
            now=self._ledger_now,
            jitter=random.random,
        )
        return await attempt.run()

    async def _settle(self, claimed: Claimed, tried: Tried) -> None:
        """Write what came of it, however long the ledger is away."""
        kept: bool | None = None
        while kept is None:
            try:
                write = partial(self._write_down, claimed=claimed, tried=tried)
                kept = await self._ledger.write(write)
            except LedgerError as error:
                self._ledger_is_away(error)
                await asyncio.sleep(LEDGER_AWAY_SECONDS)
            except Exception as error:
                log.exception("registration_fault", registration=claimed.id, app=claimed.app)
                tried = fault(claimed, error, now=self._ledger_now())
                await asyncio.sleep(LEDGER_AWAY_SECONDS)
        if not kept:
            log.warning("lease_lost", registration=claimed.id, app=claimed.app)
            return
        announce(claimed, tried.settlement, now=self._ledger_now())
        if self._settled is not None:
            self._settled(claimed, tried.settlement)
        if tried.settlement.outcome is Outcome.CREATED:
            self._retention.begin(claimed.app)

    def _write_down(self, tx: Tx, claimed: Claimed, tried: Tried) -> bool:
        if not settle(tx, claimed, self.owner, tried.settlement):
            return was_settled(tx, claimed, tried.settlement)
        write_aftermath(tx, self._current.settings, claimed, tried)
        return True

    def _ledger_now(self) -> int:
        """Return the time that gates and waits are told by (epoch ms)."""
        return _now() + self._ahead

    async def _probe(self) -> None:
        answer = await self._client.probe()
        if not answer.ok:
            refused = answer.status in {401, 403}
            event = "edgegap_token_still_refused" if refused else "edgegap_probe_not_answered"
            log.warning(event, status=answer.status, message=answer.message)
            return
        try:
            await self._ledger.write(gates.open_token_gate)
        except LedgerError as error:
            self._ledger_is_away(error)
            return
        log.info("edgegap_token_accepted")
        self.wake()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            in_hand = dict(self._hands)
            if not in_hand:
                continue
            claims = [claimed for claimed, _ in in_hand.values()]
            try:
                lost = await self._ledger.write(partial(renew, claims=claims, owner=self.owner))
            except LedgerError as error:
                self._ledger_is_away(error)
                continue
            for identity in lost:
                if in_hand[identity][1].cancel():
                    log.warning("lease_lost", registration=identity)

    def _ledger_is_away(self, error: LedgerError) -> None:
        if not self._away:
            self._away = True
            log.error("ledger_unavailable", error=str(error))

    def _ledger_is_back(self) -> None:
        if self._away:
            self._away = False
            log.info("ledger_available")


class _LeaseLost(Exception):
    """Another worker has it now: nothing more may be sent for it from here."""


def _now() -> int:
    return time.time_ns() // 1_000_000
