"""Claims due registrations, in one transaction of the ledger."""

from collections.abc import Collection
from dataclasses import dataclass

from receiver.aftermath import tell_voided
from receiver.ledger import gates, pauses
from receiver.ledger.deletions import next_overdue
from receiver.ledger.leases import hand_back, void_leases
from receiver.ledger.registrations import Claimed, claim, next_due, waits_alone
from receiver.ledger.replicas import claims_alone, count_replicas, working_now
from receiver.ledger.transactions import Tx
from receiver.settings import Settings

BLOCKED_SECONDS = 0.5  # if due registrations wait for another of their target
SOON_SECONDS = BLOCKED_SECONDS / 10


@dataclass(frozen=True, slots=True)
class Turn:
    """The result of one claim: what to work on now, and when to claim again.

    `due_in`: seconds until something may be claimed, None if nothing is scheduled.
    `probe`: this replica should test whether Edgegap accepts the API token again.
    `replicas`: number of replicas that share the limits, None if the ledger is not shared.
    `now`: the ledger's time (epoch ms).
    `overdue`: a deletion was sent some time ago and its result is still unknown.
    """

    now: int

    claimed: tuple[Claimed, ...] = ()
    due_in: float | None = None
    probe: bool = False
    replicas: int | None = None
    overdue: bool = False


def begin_anew(tx: Tx, settings: Settings, *, shared: bool) -> list[tuple[str, str]]:
    """Release the leases of a dead owner; return each released registration and its new state.

    In an unshared ledger every lease is a dead owner's; in a shared ledger, every expired lease.
    """
    gates.probe_now(tx)
    voided = void_leases(tx, all_of_them=not shared)
    tell_voided(tx, settings, voided)
    return voided


def take_turn(
    tx: Tx, settings: Settings, *, owner: str, in_hand: Collection[str], free: int, shared: bool
) -> Turn:
    """Claim up to `free` due registrations, unless a gate or a pause holds all back."""
    tell_voided(tx, settings, void_leases(tx, all_of_them=False, in_hand=in_hand))
    replicas = None
    if shared:
        replicas = count_replicas(tx, owner)  # the heartbeat continues behind a closed gate
        hand_back(tx, owner, in_hand=in_hand)
    closed = gates.closed_gates(tx)
    if closed:
        busy = [gate for gate in closed if gate.name == gates.BUSY]
        probe = not busy and gates.take_probe(tx)  # a probe is also a request
        soonest = min(gate.until for gate in busy or gates.closed_gates(tx))
        return Turn(tx.now, due_in=(soonest - tx.now) / 1000, probe=probe, replicas=replicas)
    if pauses.all_paused(tx):
        return Turn(tx.now, replicas=replicas)
    if free <= 0:
        return Turn(tx.now, replicas=replicas)
    if shared:
        if not claims_alone(tx):  # otherwise two replicas would each claim the last free slot
            return Turn(tx.now, due_in=SOON_SECONDS, replicas=replicas)
        free = min(free, settings.concurrency - working_now(tx))
    claimed = _claim(tx, owner, free, busy=bool(in_hand)) if free > 0 else ()
    overdue = next_overdue(tx)
    times = [at for at in (next_due(tx), overdue) if at is not None]
    if not times:
        return Turn(tx.now, claimed, replicas=replicas)
    in_seconds = (min(times) - tx.now) / 1000
    return Turn(
        tx.now,
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
