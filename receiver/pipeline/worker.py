"""The worker: claims registrations with a lease, attempts several at once, stores each result."""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from functools import partial
from http import HTTPStatus
from secrets import token_hex

import msgspec

from receiver.config.settings import LiveSettings, Settings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.version_cache import VersionCache
from receiver.errors import LedgerError
from receiver.ledger import gates
from receiver.ledger.claims import (
    Claimed,
    Reclaimed,
    claim,
    next_due,
    reclaim_expired,
    release_lease,
    renew,
    waits_alone,
)
from receiver.ledger.clock import MIN_STEP_MS, Reading, keep_time, read_clock
from receiver.ledger.deletions import next_overdue
from receiver.ledger.ledger import Ledger
from receiver.ledger.replicas import heartbeat, leave, try_lock_claims, working_now
from receiver.ledger.results import Result, already_finished, compare_again, settle
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import may_run
from receiver.logs import get_logger
from receiver.pipeline.attempt import Attempt
from receiver.pipeline.attempt_ledger import AttemptLedger, LeaseLost
from receiver.pipeline.channels import ChannelAttempt
from receiver.pipeline.finishing import (
    apply_side_effects,
    notify_crashed,
    report_result,
    token_accepted,
)
from receiver.pipeline.preflight import Preflight
from receiver.pipeline.retention import Retention
from receiver.pipeline.retry import defer_to_other_replicas, internal_error
from receiver.pipeline.trial import TrialAttempt
from receiver.reasons import Outcome, State
from receiver.rules.rule import Mode

BLOCKED_SECONDS = 0.5  # if due registrations wait for another of their target
SOON_SECONDS = BLOCKED_SECONDS / 10
LEDGER_AWAY_SECONDS = 0.5
RENEW_SECONDS = 10.0
POLL_SHARED_SECONDS = 1.0
POLL_ALONE_SECONDS = 30.0
STALE_SECONDS = 90.0
ATTEMPTS = {Mode.CREATE: Attempt, Mode.CHANNEL: ChannelAttempt, Mode.TRIAL: TrialAttempt}

Settled = Callable[[Claimed, Result], None]

jitter = random.random  # from 0 to 1; spreads retries
log = get_logger()


class ClaimResult(msgspec.Struct, frozen=True):
    """The result of one claim: what to work on now, and when to claim again.

    `due_in`: seconds until something may be claimed, None if nothing is scheduled.
    `probe`: this replica should test whether Edgegap accepts the API token again.
    `replicas`: number of replicas that share the limits, None if the ledger is not shared.
    `overdue`: a deletion was sent some time ago and its result is still unknown.
    """

    claimed: tuple[Claimed, ...] = ()
    due_in: float | None = None
    probe: bool = False
    replicas: int | None = None
    overdue: bool = False


class LedgerStatus:
    """The ledger's availability and clock; shared by all tasks, so each problem is logged once.

    `replicas` is the number of running replicas, including this one. `reading` is the last reading
    of the ledger's clock.
    """

    def __init__(self) -> None:
        self.replicas = 1
        self.reading: Reading | None = None
        self._away = False

    def update_clock(self, reading: Reading, step: int) -> None:
        """Use this reading of the ledger's clock; log a warning if the clock was set."""
        if not reading.slow:
            self.reading = reading
        if step:
            log.warning(
                "clock_was_set",
                seconds=round(step / 1000),
                sentence="Waiting work continues as if the clock had not been set. Synchronize the "
                "clock by NTP: the order of pushes and catch-up depend on it.",
            )

    def clock(self) -> Callable[[], int]:
        """Return a clock (epoch ms) that runs steadily from the last reading.

        Work that began before the ledger's clock was set keeps the time base it began with.
        """
        read = self.reading or Reading(time.time_ns() // 1_000_000, time.monotonic())
        return lambda: read.now + round((time.monotonic() - read.monotonic) * 1000)

    def mark_unavailable(self, error: LedgerError) -> None:
        """Log once that the ledger cannot be written."""
        if not self._away:
            self._away = True
            log.error("ledger_unavailable", error=str(error))

    def mark_available(self) -> None:
        """Log that the ledger can be written again, if it was unavailable."""
        if self._away:
            self._away = False
            log.info("ledger_available")


class Worker:
    """Works on registrations, at most `concurrency` at once and one per target."""

    def __init__(
        self,
        ledger: Ledger,
        current: LiveSettings,
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
        self._watch = LedgerStatus()
        self._retention = Retention(ledger, current, client, self.wake)
        self._preflight = preflight
        self._settled = settled
        self._catalogue = VersionCache(client)

    async def start(self) -> None:
        """Release the claims of a dead owner, then start working."""
        shared, settings = self._ledger.shared, self._current.settings

        def begin(tx: Tx) -> tuple[Reading, int, list[Reclaimed]]:
            reading = read_clock(tx)
            step = keep_time(tx, None, reading, shared=shared)
            return reading, step, recover_leases(tx, settings, shared=shared)

        reading, step, reclaimed = await self._ledger.write(begin)
        self._watch.update_clock(reading, step)
        for one in reclaimed:
            log.warning("lease_expired", registration=one.id, state=one.state.value)
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._renew())]

    @property
    def alive(self) -> bool:
        """Whether the worker's loops are running."""
        recent = time.monotonic() - self._turned < STALE_SECONDS
        return recent and bool(self._loops) and not any(loop.done() for loop in self._loops)

    def wake(self) -> None:
        """Look for work now: something was recorded, replayed or settled."""
        self._wake.set()

    def invalidate_caches(self) -> None:
        """Drop the cached versions of Edgegap and look for work."""
        self._catalogue.forget()
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
            self._watch.mark_unavailable(error)  # the next start, or another replica, releases them
            return
        if left:
            log.info("registrations_released", count=left)

    def _end(self, tx: Tx) -> int:
        leave(tx, self.owner)
        return release_lease(tx, self.owner)

    async def _run(self) -> None:
        while not self._stopping:
            self._turned = time.monotonic()
            self._wake.clear()
            try:
                pause = await self._turn()
                self._watch.mark_available()
            except LedgerError as error:
                self._watch.mark_unavailable(error)
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
        take = partial(self._take_turn, free=free)  # replicas take a turn each second
        reading, step, turn = await self._ledger.write(take)
        self._watch.update_clock(reading, step)
        if turn.replicas is not None:
            self._watch.replicas = turn.replicas
            self._client.share(turn.replicas)
        for claimed in turn.claimed:
            task = asyncio.create_task(self.work(claimed))
            self._running[claimed.id] = (claimed, task)
            task.add_done_callback(partial(self._remove, claimed.id))
        if turn.overdue:
            self._retention.settle_overdue()
        if turn.probe:
            self._probing = asyncio.create_task(self._probe())
        return longest if turn.due_in is None else min(longest, max(turn.due_in, SOON_SECONDS))

    def _take_turn(self, tx: Tx, free: int) -> tuple[Reading, int, ClaimResult]:
        settings, shared = self._current.settings, self._ledger.shared
        reading = read_clock(tx)
        step = keep_time(tx, self._watch.reading, reading, shared=shared)
        turn = claim_due(
            tx, settings, owner=self.owner, in_progress=self._running, free=free, shared=shared
        )
        tx.quiet = tx.quiet and not step
        return reading, step, turn

    async def work(self, claimed: Claimed) -> None:
        """Attempt the registration and store the result."""
        now = self._watch.clock()
        try:
            result = await self._attempt(claimed, now)
        except LeaseLost:
            log.warning("lease_lost", registration=claimed.id, app=claimed.app)
            return
        except LedgerError as error:
            self._watch.mark_unavailable(error)
            result = internal_error(claimed, error, now=now(), jitter=jitter())
        except Exception as error:
            log.exception("registration_fault", registration=claimed.id, app=claimed.app)
            result = internal_error(claimed, error, now=now(), jitter=jitter())
        if self._watch.replicas > 1:
            result = defer_to_other_replicas(claimed, result, now=now(), jitter=jitter())
        result = await self._retention.make_room(claimed, result)
        await self._settle(claimed, result, now)

    async def _compare_later(self, claimed: Claimed) -> None:
        """Schedule a comparison with Edgegap: a PATCH of a lost lease may be applied late."""
        try:
            await self._ledger.write(partial(compare_again, claimed=claimed))
        except LedgerError as error:
            self._watch.mark_unavailable(error)  # the record made before the PATCH remains

    async def _attempt(self, claimed: Claimed, now: Callable[[], int]) -> Result:
        attempt = ATTEMPTS[claimed.mode](
            claimed,
            self._current.settings,
            self._client,
            self._catalogue,
            preflight=self._preflight,
            ledger=AttemptLedger(self._ledger, claimed, now, self.owner),
        )
        return await attempt.run()

    async def _settle(self, claimed: Claimed, result: Result, now: Callable[[], int]) -> None:
        """Store the result; if the ledger is unavailable, retry until it is stored.

        The result's times come from `now`; the ledger's clock may have been set since.
        """
        stored: bool | None = None
        decided_at = now()
        while stored is None:
            try:
                write = partial(self._store, claimed=claimed, result=result, decided_at=decided_at)
                stored = await self._ledger.write(write)
            except LedgerError as error:
                self._watch.mark_unavailable(error)
                await asyncio.sleep(LEDGER_AWAY_SECONDS)
            except Exception as error:
                log.exception("registration_fault", registration=claimed.id, app=claimed.app)
                result = internal_error(claimed, error, now=now(), jitter=jitter())
                decided_at = now()
                await asyncio.sleep(LEDGER_AWAY_SECONDS)
        if not stored:
            log.warning("lease_lost", registration=claimed.id, app=claimed.app)
            await self._compare_later(claimed)
            return
        report_result(claimed, result, now=now())
        if self._settled is not None:
            self._settled(claimed, result)
        over = result.state is State.DONE and claimed.mode is not Mode.CREATE
        if over or result.outcome is Outcome.CREATED:
            self._retention.begin(claimed.app)  # until now, this kept its push's version

    def _store(self, tx: Tx, claimed: Claimed, result: Result, decided_at: int) -> bool:
        step = tx.now - decided_at
        if abs(step) >= MIN_STEP_MS:
            result = result.shifted(step)
        if not settle(tx, claimed, self.owner, result):
            return already_finished(tx, claimed, result)
        apply_side_effects(tx, self._current.settings, claimed, result)
        return True

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
                settings = self._current.settings
                await self._ledger.write(partial(token_accepted, settings=settings))
                log.info("edgegap_token_accepted")
            elif response.says(HTTPStatus.TOO_MANY_REQUESTS):
                await self._ledger.write(partial(gates.respect, retry_after=response.retry_after))
        except LedgerError as error:
            self._watch.mark_unavailable(error)
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
                self._watch.mark_unavailable(error)
                continue
            for identity in lost:
                claimed, task = running[identity]
                if task.cancel():
                    log.warning("lease_lost", registration=identity)
                    await self._compare_later(claimed)


def recover_leases(tx: Tx, settings: Settings, *, shared: bool) -> list[Reclaimed]:
    """Release the leases of a dead owner; return each released registration and its new state.

    In an unshared ledger every lease is a dead owner's; in a shared ledger, every expired lease.
    """
    gates.probe_now(tx)
    reclaimed = reclaim_expired(tx, all_of_them=not shared)
    notify_crashed(tx, settings, reclaimed)
    return reclaimed


def claim_due(
    tx: Tx, settings: Settings, *, owner: str, in_progress: Collection[str], free: int, shared: bool
) -> ClaimResult:
    """Claim up to `free` due registrations, unless a gate or a pause holds all back."""
    freed = reclaim_expired(tx, all_of_them=False, in_progress=in_progress)
    notify_crashed(tx, settings, freed)
    replicas, released = None, 0
    if shared:
        replicas = heartbeat(tx, owner)  # the heartbeat continues behind a closed gate
        released = release_lease(tx, owner, in_progress=in_progress)
    tx.quiet = not freed and not released
    closed = gates.closed_gates(tx)
    if closed:
        busy = [gate for gate in closed if gate.name == gates.BUSY]
        probe = not busy and gates.take_probe(tx)  # a probe is also a request
        tx.quiet = tx.quiet and not probe
        soonest = min(gate.until for gate in busy or gates.closed_gates(tx))
        return ClaimResult(due_in=(soonest - tx.now) / 1000, probe=probe, replicas=replicas)
    if gates.ALL in gates.paused(tx) and not may_run(tx):  # then the queue need not be searched
        return ClaimResult(replicas=replicas)
    if free <= 0:
        return ClaimResult(replicas=replicas)
    if shared:
        if not try_lock_claims(tx):  # otherwise two replicas would each claim the last free slot
            return ClaimResult(due_in=SOON_SECONDS, replicas=replicas)
        free = min(free, settings.concurrency - working_now(tx))
    claimed = _claim(tx, owner, free, busy=bool(in_progress)) if free > 0 else ()
    tx.quiet = tx.quiet and not claimed
    overdue = next_overdue(tx)
    times = [at for at in (next_due(tx), overdue) if at is not None]
    if not times:
        return ClaimResult(claimed, replicas=replicas)
    in_seconds = (min(times) - tx.now) / 1000
    return ClaimResult(
        claimed,
        in_seconds if in_seconds > 0 else BLOCKED_SECONDS,
        replicas=replicas,
        overdue=overdue is not None and overdue <= tx.now,
    )


def _claim(tx: Tx, owner: str, free: int, *, busy: bool) -> tuple[Claimed, ...]:
    """Claim up to `free`; a registration that must run alone waits until the worker is idle."""
    if waits_alone(tx):
        claimed = () if busy else tuple(claim(tx, owner=owner, most=1, alone=True))
        if claimed or busy:
            return claimed
    return tuple(claim(tx, owner=owner, most=free))
