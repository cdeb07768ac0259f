"""The worker: claims registrations with a lease and runs several at once.

Every registration is claimed here; `in_hand.py` then attempts and settles it.
"""

import asyncio
import time
from functools import partial
from http import HTTPStatus
from secrets import token_hex

from receiver.claiming import SOON_SECONDS, Turn, begin_anew, take_turn
from receiver.edgegap.client import EdgegapClient
from receiver.errors import LedgerError
from receiver.in_hand import LEDGER_AWAY_SECONDS, InHand, Settled
from receiver.ledger import gates
from receiver.ledger.clock import Reading, keep_time, read_clock
from receiver.ledger.leases import hand_back, renew
from receiver.ledger.ledger import Ledger
from receiver.ledger.registrations import Claimed
from receiver.ledger.replicas import leave
from receiver.ledger.transactions import Tx
from receiver.ledger_watch import LedgerWatch
from receiver.logs import get_logger
from receiver.preflight import Preflight
from receiver.retention import Retention
from receiver.settings import Current

RENEW_SECONDS = 10.0
POLL_SHARED_SECONDS = 1.0
POLL_ALONE_SECONDS = 30.0
STALE_SECONDS = 90.0

log = get_logger()


class Worker:
    """Works on registrations, at most `concurrency` at once and one per target."""

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
        self._running: dict[str, tuple[Claimed, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._turned = time.monotonic()
        self._loops: list[asyncio.Task[None]] = []
        self._probing: asyncio.Task[None] | None = None
        self._watch = LedgerWatch()
        self._retention = Retention(ledger, current, client, self.wake)
        self._runner = InHand(
            self.owner,
            ledger,
            current,
            client,
            watch=self._watch,
            preflight=preflight,
            retention=self._retention,
            settled=settled,
        )

    async def start(self) -> None:
        """Release the claims of a dead owner, then start working."""
        shared, settings = self._ledger.shared, self._current.settings

        def begin(tx: Tx) -> tuple[Reading, int, list[tuple[str, str]]]:
            reading = read_clock(tx)
            step = keep_time(tx, None, reading, shared=shared)
            return reading, step, begin_anew(tx, settings, shared=shared)

        reading, step, voided = await self._ledger.write(begin)
        self._watch.was_read(reading, step)
        for registration, state in voided:
            log.warning("lease_voided", registration=registration, state=state)
        self._loops = [asyncio.create_task(self._work()), asyncio.create_task(self._renew())]

    @property
    def alive(self) -> bool:
        """Whether the worker's loops are running."""
        recent = time.monotonic() - self._turned < STALE_SECONDS
        return recent and bool(self._loops) and not any(loop.done() for loop in self._loops)

    def wake(self) -> None:
        """Look for work now: something was recorded, replayed or settled."""
        self._wake.set()

    def config_changed(self) -> None:
        """Drop the cached versions of Edgegap and look for work."""
        self._runner.forget()
        self.wake()

    async def stop(self, grace_seconds: float) -> None:
        """Stop claiming; finish running work within the grace period and release the rest."""
        self._stopping = True
        self.wake()
        until = time.monotonic() + grace_seconds
        if self._loops:  # a start that failed has none
            await asyncio.wait(self._loops[:1], timeout=grace_seconds)  # it may be claiming
        tasks = [task for _, task in self._running.values()]
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
            self._watch.is_away(error)  # the next start, or another replica, releases them
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
                self._watch.is_back()
            except LedgerError as error:
                self._watch.is_away(error)
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
        """Claim due registrations and start them; return the longest time to wait, in seconds."""
        longest = POLL_SHARED_SECONDS if self._ledger.shared else POLL_ALONE_SECONDS
        alone = any(claimed.alone for claimed, _ in self._running.values())
        free = 0 if alone else self._current.settings.concurrency - len(self._running)
        if free <= 0 and not self._ledger.shared:  # a shared ledger needs the heartbeat
            return longest
        reading, step, turn = await self._ledger.write(partial(self._take_turn, free=free))
        self._watch.was_read(reading, step)
        if turn.replicas is not None:
            self._watch.replicas = turn.replicas
            self._client.share(turn.replicas)
        for claimed in turn.claimed:
            task = asyncio.create_task(self._runner.work(claimed))
            self._running[claimed.id] = (claimed, task)
            task.add_done_callback(partial(self._remove, claimed.id))
        if turn.overdue:
            self._retention.settle_overdue()
        if turn.probe:
            self._probing = asyncio.create_task(self._probe())
        return longest if turn.due_in is None else min(longest, max(turn.due_in, SOON_SECONDS))

    def _take_turn(self, tx: Tx, free: int) -> tuple[Reading, int, Turn]:
        settings, shared = self._current.settings, self._ledger.shared
        reading = read_clock(tx)
        step = keep_time(tx, self._watch.reading, reading, shared=shared)
        turn = take_turn(
            tx, settings, owner=self.owner, in_hand=self._running, free=free, shared=shared
        )
        return reading, step, turn

    def _remove(self, identity: str, task: asyncio.Task[None]) -> None:
        if identity in self._running and self._running[identity][1] is task:  # else claimed again
            del self._running[identity]
        self.wake()

    async def _probe(self) -> None:
        response = await self._client.probe()
        if not response.accepted:
            refused = response.says(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
            event = "edgegap_token_still_refused" if refused else "edgegap_probe_not_answered"
            log.warning(event, status=response.status, message=response.message)
        try:
            if response.accepted:
                await self._ledger.write(gates.open_token_gate)
                log.info("edgegap_token_accepted")
            elif response.says(HTTPStatus.TOO_MANY_REQUESTS):
                await self._ledger.write(partial(gates.heed, retry_after=response.retry_after))
        except LedgerError as error:
            self._watch.is_away(error)
        self.wake()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            running = dict(self._running)
            if not running:
                continue
            claims = [claimed for claimed, _ in running.values()]
            try:
                lost = await self._ledger.write(partial(renew, claims=claims, owner=self.owner))
            except LedgerError as error:
                self._watch.is_away(error)
                continue
            for identity in lost:
                claimed, task = running[identity]
                if task.cancel():
                    log.warning("lease_lost", registration=identity)
                    await self._runner.compare_later(claimed)
