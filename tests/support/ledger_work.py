"""A worker's writes to a ledger, without the worker: for tests that look at the ledger alone."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from receiver.ledger.claims import Claimed, claim
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.results import Result, settle
from receiver.ledger.transaction import Tx
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.rule import Decision, Match, Mode
from tests.support.receiver_process import APP, REPOSITORY

T = TypeVar("T")

MINUTE = 60_000
OWNER = "worker"


def write(ledger: Ledger, work: Callable[[Tx], T]) -> T:
    return asyncio.run(ledger.write(work))


def at(now: int, work: Callable[[Tx], T]) -> Callable[[Tx], T]:
    """The same work, done at another time."""

    def then(tx: Tx) -> T:
        tx._now = now
        return work(tx)

    return then


def pushed(
    tx: Tx,
    tag: str,
    *,
    version: str | None = None,
    pushed_at: int | None = None,
    advancing_clock: int = 0,
    mode: Mode = Mode.CREATE,
    repository: str = REPOSITORY,
) -> str:
    """Record a push that one rule takes; return the delivery's id."""
    if advancing_clock:
        tx._now = tx.now + 1
    answer = NewDelivery(source="webhook", repository=repository, tag=tag, pushed_at=pushed_at)
    match = Match(rule=f"{repository} → {APP}", app=APP, version=version or tag, mode=mode)
    return record(tx, answer, Decision(Verdict.ACCEPTED, matches=(match,))).delivery


def one_claim(ledger: Ledger, owner: str = OWNER) -> Claimed:
    """Claim what is due next, or else what must be worked on alone."""

    def next_claim(tx: Tx) -> list[Claimed]:
        return claim(tx, owner=owner, most=1) or claim(tx, owner=owner, most=1, alone=True)

    (claimed,) = asyncio.run(ledger.write(next_claim))
    return claimed


def settled(ledger: Ledger, claimed: Claimed, result: Result, owner: str = OWNER) -> bool:
    """Settle it; False when the lease was lost."""
    return asyncio.run(ledger.write(lambda tx: settle(tx, claimed, owner, result)))


def finish(ledger: Ledger) -> Claimed:
    """Claim what is due next and let it be created."""
    claimed = one_claim(ledger)
    assert settled(ledger, claimed, done())
    return claimed


def done(outcome: Outcome = Outcome.CREATED, **more: Any) -> Result:
    return Result(State.DONE, outcome=outcome, **more)


def parked(reason: Reason, **more: Any) -> Result:
    return Result(State.PARKED, reason=reason, sentence="It is parked.", **more)


def waits(due_at: int, **more: Any) -> Result:
    """Wait until then; a small number is long past."""
    due = due_at if due_at == 0 else 2**50 + due_at
    return Result(State.WAITING, reason=Reason.EDGEGAP_ERROR, due_at=due, **more)


async def alone(ledger: Ledger) -> bool:
    """Whether it has its turn at the purge now."""
    async with ledger.try_lock("purge") as mine:
        return mine
