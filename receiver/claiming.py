"""What one turn of the worker takes on, decided in one transaction of the ledger."""

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

BLOCKED_SECONDS = 0.5  # where what is due waits for another of its target
SOON_SECONDS = BLOCKED_SECONDS / 10


@dataclass(frozen=True, slots=True)
class Turn:
    """What to work on now, and when to look again.

    `due_in`: seconds until something may be claimed, None where nothing is known to come.
    `probe`: this replica is the one to ask Edgegap whether the token is accepted again.
    `replicas`: how many share the caps, None where the ledger is this receiver's alone.
    `now`: the ledger's time (epoch ms), which all times in it are told by.
    `overdue`: the answer to a deletion is missing for so long that it is to be looked at.
    """

    now: int

    claimed: tuple[Claimed, ...] = ()
    due_in: float | None = None
    probe: bool = False
    replicas: int | None = None
    overdue: bool = False


def begin_anew(tx: Tx, settings: Settings, *, shared: bool) -> list[tuple[str, str]]:
    """Free what a dead owner held; return each freed registration with its new state.

    In a ledger of one receiver alone every lease is a dead owner's; in a shared one, the expired.
    """
    gates.probe_now(tx)
    voided = void_leases(tx, all_of_them=not shared)
    tell_voided(tx, settings, voided)
    return voided


def take_turn(
    tx: Tx, settings: Settings, *, owner: str, in_hand: Collection[str], free: int, shared: bool
) -> Turn:
    """Claim up to `free` registrations that are due, unless a gate or a pause holds all back."""
    tell_voided(tx, settings, void_leases(tx, all_of_them=False, in_hand=in_hand))
    replicas = None
    if shared:
        replicas = count_replicas(tx, owner)  # also behind a gate it is there
        hand_back(tx, owner, in_hand=in_hand)
    closed = gates.closed_gates(tx)
    if closed:
        busy = [gate for gate in closed if gate.name == gates.BUSY]
        probe = not busy and gates.take_probe(tx)  # a probe is a call, too
        soonest = min(gate.until for gate in busy or gates.closed_gates(tx))
        return Turn(tx.now, due_in=(soonest - tx.now) / 1000, probe=probe, replicas=replicas)
    if pauses.all_paused(tx):
        return Turn(tx.now, replicas=replicas)
    if free <= 0:
        return Turn(tx.now, replicas=replicas)
    if shared:
        if not claims_alone(tx):  # or two would each take what is free for one
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
    """Claim up to `free`; what must be worked on alone waits until this worker is not busy."""
    if waits_alone(tx):
        one = () if busy else tuple(claim(tx, owner=owner, most=1, alone=True))
        if one or busy:
            return one
    return tuple(claim(tx, owner=owner, most=free))
