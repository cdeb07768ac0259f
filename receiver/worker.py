"""The second half of the story: claim with a lease → attempt → settle, several at once.

One way for every registration; what is done with one in hand stands in `in_hand.py`.
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
        self._hands: dict[str, tuple[Claimed, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._turned = time.monotonic()
        self._loops: list[asyncio.Task[None]] = []
        self._probing: asyncio.Task[None] | None = None
        self._watch = LedgerWatch()
        self._retention = Retention(ledger, current, client)
        self._in_hand = InHand(
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
        self._in_hand.forget()
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
            self._watch.is_away(error)  # the next start, or another replica, frees them
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
        """Claim what is due and start on it; return how many seconds to wait at most."""
        longest = POLL_SHARED_SECONDS if self._ledger.shared else POLL_ALONE_SECONDS
        free = self._current.settings.concurrency - len(self._hands)
        if free <= 0 and not self._ledger.shared:  # else the others must see that this one is there
            return longest
        asked_at = self._watch.own_now()
        turn = await self._ledger.write(partial(self._take_turn, free=free))
        if self._ledger.shared:
            self._watch.set_by(turn.now, asked_at=asked_at)
        if turn.replicas is not None:
            self._watch.replicas = turn.replicas
            self._client.share(turn.replicas)
        for one in turn.claimed:
            task = asyncio.create_task(self._in_hand.work(one))
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

    async def _probe(self) -> None:
        answer = await self._client.probe()
        if not answer.ok:
            refused = answer.status in {401, 403}
            event = "edgegap_token_still_refused" if refused else "edgegap_probe_not_answered"
            log.warning(event, status=answer.status, message=answer.message)
        try:
            if answer.ok:
                await self._ledger.write(gates.open_token_gate)
                log.info("edgegap_token_accepted")
            elif answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                await self._ledger.write(partial(gates.heed, retry_after=answer.retry_after))
        except LedgerError as error:
            self._watch.is_away(error)
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
                self._watch.is_away(error)
                continue
            for identity in lost:
                claimed, task = in_hand[identity]
                if task.cancel():
                    log.warning("lease_lost", registration=identity)
                    await self._in_hand.compare_later(claimed)
