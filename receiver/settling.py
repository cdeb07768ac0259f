"""What an attempt comes to: settled, to be made again, or with a gate closed for all."""

import random
from dataclasses import dataclass, replace

from receiver.edgegap.versions import Parking
from receiver.ledger.registrations import Claimed
from receiver.ledger.settlements import Settlement
from receiver.reasons import Outcome, Reason, State
from receiver.retry import (
    OTHER_RULES_EVERY,
    OTHER_RULES_FOR,
    Row,
    Then,
    Wait,
    hold_back,
    wait_or_park,
)

OF_OTHER_RULES = frozenset({Reason.RULE_GONE, Reason.RULE_CHANGED})


@dataclass(frozen=True, slots=True)
class Gate:
    """All work must wait: until then (epoch ms), or, with None, until the token is good."""

    until: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What an attempt came to, and whether others must wait too."""

    settlement: Settlement
    gate: Gate | None = None


def gate_of(row: Row, wait: Wait) -> Gate | None:
    """Return the gate that a row closes for all, if any."""
    if row.then is Then.SLOW_DOWN:
        return Gate(wait.due_at, wait.sentence)
    if row.then is Then.CLOSE_GATE:
        return Gate(None, wait.sentence)
    return None


def waiting(wait: Wait) -> Settlement:
    """Return what came of an attempt that is to be made again."""
    return Settlement(
        state=State.WAITING,
        reason=wait.reason,
        sentence=wait.sentence,
        due_at=wait.due_at,
        waited=wait.waited,
    )


def done(outcome: Outcome, sentence: str = "") -> Tried:
    """Return what came of an attempt that reached its end."""
    return Tried(Settlement(state=State.DONE, outcome=outcome, sentence=sentence))


def parked_as(parking: Parking) -> Tried:
    """Return what came of an attempt that must stop until something changes."""
    settlement = Settlement(State.PARKED, reason=parking.reason, sentence=parking.sentence)
    return Tried(replace(settlement, warnings=parking.notes))


def leave_to_others(claimed: Claimed, tried: Tried, *, now: int, jitter: float) -> Tried:
    """Wait for another replica, where this one's rules are not those that took the push.

    A changed configuration comes to replicas one after another: to park it would be the word of
    one that is about to go.
    """
    settlement = tried.settlement
    if settlement.state is not State.PARKED or settlement.reason not in OF_OTHER_RULES:
        return tried
    wait = hold_back(
        settlement.reason,
        waited=claimed.waited,
        longest=OTHER_RULES_FOR,
        slowest=OTHER_RULES_EVERY,
        sentence=f"Another replica may have the rule: it is asked for 5 minutes. "
        f"{settlement.sentence}",
        now=now,
        jitter=jitter,
    )
    return tried if wait is None else Tried(waiting(wait))


def moved_by(tried: Tried, step: int) -> Tried:
    """Return the result of an attempt with its times moved by a step of the clock (ms)."""
    settlement, gate = tried.settlement, tried.gate
    if settlement.due_at:
        settlement = replace(settlement, due_at=settlement.due_at + step)
    waited = settlement.waited
    if waited.since or waited.first:
        since, first = (moment and moment + step for moment in (waited.since, waited.first))
        settlement = replace(settlement, waited=replace(waited, since=since, first=first))
    if gate is not None and gate.until is not None:
        gate = replace(gate, until=gate.until + step)
    return Tried(settlement, gate)


def fault(claimed: Claimed, error: Exception, *, now: int) -> Tried:
    """Try again later after a fault of our own, as after any trouble that may pass."""
    found = wait_or_park(
        Row(Then.RETRY, Reason.FAULT),
        waited=claimed.waited,
        detail=type(error).__name__,
        retry_after=None,
        facts={"app": claimed.app, "version": claimed.version, "rule": claimed.rule},
        now=now,
        jitter=random.random(),  # noqa: S311 - spreads retries, hides nothing
    )
    if not isinstance(found, Wait):
        return Tried(Settlement(State.PARKED, reason=found.reason, sentence=found.sentence))
    waiting = Settlement(State.WAITING, reason=found.reason, sentence=found.sentence)
    return Tried(replace(waiting, due_at=found.due_at, waited=found.waited))
