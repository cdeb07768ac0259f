"""The result of an attempt: settled, to be retried, or with a gate closed for all work."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from receiver import metrics
from receiver.config.settings import Settings
from receiver.edgegap.plans import Rejected
from receiver.ledger import gates
from receiver.ledger.deliveries import open_channels
from receiver.ledger.outbox import enqueue
from receiver.ledger.parked import close_parked, parked_beside
from receiver.ledger.registrations import Claimed, Settlement
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger
from receiver.notifications.destinations import NotificationEvent
from receiver.pipeline.retry import (
    OTHER_RULES_EVERY,
    OTHER_RULES_FOR,
    Row,
    Then,
    Wait,
    wait_at_most,
    wait_or_park,
)
from receiver.reasons import Outcome, Reason, State
from receiver.rules.closing import Success, is_closed_by
from receiver.rules.rule import Mode, channels_of

OF_OTHER_RULES = frozenset({Reason.RULE_GONE, Reason.RULE_CHANGED})


@dataclass(frozen=True, slots=True)
class Gate:
    """All work must wait: until then (epoch ms), or, with None, until the token is good."""

    until: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Attempted:
    """The result of an attempt, and whether other registrations must wait too."""

    settlement: Settlement
    gate: Gate | None = None


def gate_of(row: Row, wait: Wait) -> Gate | None:
    """Return the gate that a row closes for all work, if any."""
    if row.then is Then.SLOW_DOWN:
        return Gate(wait.due_at, wait.sentence)
    if row.then is Then.CLOSE_GATE:
        return Gate(None, wait.sentence)
    return None


def waiting(wait: Wait) -> Settlement:
    """Return the result of an attempt that is to be retried."""
    return Settlement(
        state=State.WAITING,
        reason=wait.reason,
        sentence=wait.sentence,
        due_at=wait.due_at,
        waited=wait.waited,
    )


def done(outcome: Outcome, sentence: str = "") -> Attempted:
    """Return the result of an attempt that succeeded."""
    return Attempted(Settlement(state=State.DONE, outcome=outcome, sentence=sentence))


def parked_as(parking: Rejected) -> Attempted:
    """Return the result of an attempt that cannot continue until something changes."""
    settlement = Settlement(State.PARKED, reason=parking.reason, sentence=parking.sentence)
    return Attempted(replace(settlement, warnings=parking.notes))


def defer_to_other_replicas(
    claimed: Claimed, tried: Attempted, *, now: int, jitter: float
) -> Attempted:
    """Wait for another replica if this replica does not have the rule that accepted the push.

    Replicas get a changed configuration one after another: this replica may still have the old
    configuration, so it must not park the registration.
    """
    settlement = tried.settlement
    if settlement.state is not State.PARKED or settlement.reason not in OF_OTHER_RULES:
        return tried
    wait = wait_at_most(
        settlement.reason,
        waited=claimed.waited,
        longest=OTHER_RULES_FOR,
        slowest=OTHER_RULES_EVERY,
        sentence=f"Another replica may have the rule: it is asked for 5 minutes. "
        f"{settlement.sentence}",
        now=now,
        jitter=jitter,
    )
    return tried if wait is None else Attempted(waiting(wait))


def moved_by(tried: Attempted, step: int) -> Attempted:
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
    return Attempted(settlement, gate)


def fault(claimed: Claimed, error: Exception, *, now: int) -> Attempted:
    """Retry later after a fault of our own, as after any temporary error."""
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
        return Attempted(Settlement(State.PARKED, reason=found.reason, sentence=found.sentence))
    waiting = Settlement(State.WAITING, reason=found.reason, sentence=found.sentence)
    return Attempted(replace(waiting, due_at=found.due_at, waited=found.waited))


CHANGES = frozenset({Outcome.CREATED, Outcome.UPDATED})

for _outcome in Outcome:  # present from the start, so that an increase is visible
    metrics.registrations.labels(State.DONE.value, _outcome.value, metrics.NONE)
for _reason in Reason:  # so is the first parked registration of a reason
    metrics.registrations.labels(State.PARKED.value, metrics.NONE, _reason.value)

log = get_logger()


def report_result(claimed: Claimed, settlement: Settlement, *, now: int) -> None:
    """Log and count how an attempt ended. `now` is the ledger's time (epoch ms)."""
    _count(claimed, settlement, now)
    facts = {
        "registration": claimed.id,
        "app": claimed.app,
        "version": claimed.version,
        "image": str(claimed.image),
        "attempt": claimed.attempt,
    }
    bound = log.bind(**facts)
    match settlement.state:
        case State.DONE:
            log_done = bound.warning if settlement.warnings else bound.info
            notes = list(settlement.notes)
            log_done("registration_done", outcome=settlement.outcome, notes=notes)
        case State.PARKED:
            sentence, notes = settlement.sentence, list(settlement.notes)
            bound.error(
                "registration_parked", reason=settlement.reason, sentence=sentence, notes=notes
            )
        case _:
            # A wait for another replica's rule is repeated every few seconds: log it once.
            quiet = settlement.waited.times > 1 and settlement.reason in OF_OTHER_RULES
            (bound.debug if quiet else bound.warning)(
                "registration_waiting",
                reason=settlement.reason,
                sentence=settlement.sentence,
                seconds=max(0, (settlement.due_at or 0) - now) // 1000,
            )


def _count(claimed: Claimed, settlement: Settlement, now: int) -> None:
    if settlement.state not in {State.DONE, State.PARKED}:
        return
    outcome, reason = metrics.label(settlement.outcome), metrics.label(settlement.reason)
    metrics.registrations.labels(settlement.state.value, outcome, reason).inc()
    if settlement.outcome in CHANGES:
        seconds = max(0, now - claimed.created_at) / 1000
        metrics.push_to_version.observe(seconds)


def events_of(claimed: Claimed, settlement: Settlement) -> list[tuple[NotificationEvent, str]]:
    """Return the events of this result that are worth a notification, with their texts."""
    target = f"{claimed.app}/{claimed.version}"
    found: list[tuple[NotificationEvent, str]] = []
    if settlement.outcome is Outcome.CREATED:
        text = f"{target} created from {claimed.image}.{_followed_by_itself(claimed)}"
        found.append((NotificationEvent.CREATED, _with_warnings(text, settlement)))
    if settlement.outcome is Outcome.UPDATED:
        text = f"{target} moved to {claimed.image}.{_followed_by_itself(claimed)}"
        found.append((NotificationEvent.UPDATED, _with_warnings(text, settlement)))
    if settlement.state is State.PARKED:
        moved = f", although it was moved to {claimed.image}" if settlement.moved else ""
        text = f"{target} parked{moved}: {settlement.sentence}"
        found.append((NotificationEvent.PARKED, _with_warnings(text, settlement)))
    if settlement.overwritten:
        left = settlement.outcome is Outcome.SUPERSEDED
        happened = "was not moved to it" if left else "may go on running the old image"
        text = f"The tag of {claimed.image} was overwritten; {target} {happened}."
        found.append((NotificationEvent.OVERWRITTEN, text))
    return found


def _followed_by_itself(claimed: Claimed) -> str:
    if claimed.mode is Mode.CREATE:
        return ""
    return f" A matchmaker profile that names {claimed.version} uses it from the next match on."


def _with_warnings(text: str, settlement: Settlement) -> str:
    return "\n".join([text, *(f"- {warning}" for warning in settlement.warnings)])


THERE = frozenset({Outcome.CREATED, Outcome.UNCHANGED})
SUCCESSES = THERE | {Outcome.UPDATED}


def apply_side_effects(tx: Tx, settings: Settings, claimed: Claimed, tried: Attempted) -> None:
    """Write the side effects of an attempt that was just settled."""
    if tried.gate is not None and _close(tx, tried.gate):
        enqueue(tx, settings.notices, NotificationEvent.TOKEN_REFUSED, tried.gate.sentence)
    for happening, text in events_of(claimed, tried.settlement):
        enqueue(tx, settings.notices, happening, text, rule=claimed.rule)
    if tried.settlement.outcome in SUCCESSES:
        _close_parked(tx, claimed)
    if tried.settlement.outcome in THERE and claimed.mode is Mode.CREATE:
        _move_channels(tx, settings, claimed, tried.settlement)


def notify_crashed(tx: Tx, settings: Settings, voided: Iterable[tuple[str, str]]) -> None:
    """Notify of registrations that are parked because the receiver repeatedly crashed on them."""
    for identity, state in voided:
        if state != State.PARKED:
            continue
        row = tx.run(
            "SELECT app, version, rule, sentence FROM registrations WHERE id = :id", id=identity
        ).one()
        text = f"{row.app}/{row.version} parked: {row.sentence}"
        enqueue(tx, settings.notices, NotificationEvent.PARKED, text, rule=row.rule)
        metrics.count_parked(Reason.CRASHES_THE_WORKER)


def _close_parked(tx: Tx, claimed: Claimed) -> None:
    """Close parked registrations that are obsolete, now that a later push succeeded."""
    target = {"rule": claimed.rule, "app": claimed.app, "version": claimed.version}
    tag = claimed.image.tag
    of_channel = claimed.mode is Mode.CHANNEL
    success = Success(
        claimed.id, **target, tag=tag, push_time=claimed.push_time, moved_channel=of_channel
    )
    parked = parked_beside(tx, **target)
    closed = [one.id for one in parked if is_closed_by(one, success)]
    if closed:
        close_parked(tx, closed, tag)
        metrics.count_closed(Outcome.SUPERSEDED, len(closed))
        log.info("parked_superseded", registrations=closed, followed_by=claimed.id, **target)


def _move_channels(tx: Tx, settings: Settings, claimed: Claimed, settlement: Settlement) -> None:
    """Let a push move its channels, now that its own version exists."""
    rule, image = settings.rule_named(claimed.rule), claimed.image
    matches = channels_of(rule, image.tag) if rule is not None else ()
    if matches:
        open_channels(
            tx,
            claimed.id,
            matches,
            repository=image.repository,
            tag=image.tag,
            digest=settlement.digest,
            overwritten=settlement.overwritten,
        )


def _close(tx: Tx, gate: Gate) -> bool:
    """Close a gate; True when the token is refused and was not before."""
    if gate.until is not None:
        gates.slow_down(tx, gate.until, gate.sentence)
        return False
    refused = gates.close_token_gate(tx, gate.sentence)
    if refused:
        log.error("edgegap_token_refused", sentence=gate.sentence)
    return refused
