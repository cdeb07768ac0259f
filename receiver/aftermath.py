"""What follows an attempt, in its own transaction: gates, notices, closed ones, channel moves."""

from collections.abc import Iterable

from receiver import metrics
from receiver.announcing import happenings_of
from receiver.closing import Success, is_closed_by
from receiver.ledger import gates
from receiver.ledger.notices import tell
from receiver.ledger.parked import close_parked, parked_beside
from receiver.ledger.recording import open_channels
from receiver.ledger.registrations import Claimed
from receiver.ledger.settlements import Settlement
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.notices import Happening
from receiver.reasons import Outcome, Reason, State
from receiver.rules import Mode, channels_of
from receiver.settings import Settings
from receiver.settling import Gate, Tried

THERE = frozenset({Outcome.CREATED, Outcome.UNCHANGED})
SUCCESSES = THERE | {Outcome.UPDATED}

log = get_logger()


def write_aftermath(tx: Tx, settings: Settings, claimed: Claimed, tried: Tried) -> None:
    """Write what follows from an attempt that was just settled."""
    if tried.gate is not None and _close(tx, tried.gate):
        tell(tx, settings.notices, Happening.TOKEN_REFUSED, tried.gate.sentence)
    for happening, text in happenings_of(claimed, tried.settlement):
        tell(tx, settings.notices, happening, text, rule=claimed.rule)
    if tried.settlement.outcome in SUCCESSES:
        _close_parked(tx, claimed)
    if tried.settlement.outcome in THERE and claimed.mode is Mode.CREATE:
        _move_channels(tx, settings, claimed, tried.settlement)


def tell_voided(tx: Tx, settings: Settings, voided: Iterable[tuple[str, str]]) -> None:
    """Tell of what is parked because the receiver stopped while working on it, again and again."""
    for identity, state in voided:
        if state != State.PARKED:
            continue
        row = tx.run(
            "SELECT app, version, rule, sentence FROM registrations WHERE id = :id", id=identity
        ).one()
        text = f"{row.app}/{row.version} parked: {row.sentence}"
        tell(tx, settings.notices, Happening.PARKED, text, rule=row.rule)
        metrics.count_parked(Reason.CRASHES_THE_WORKER)


def _close_parked(tx: Tx, claimed: Claimed) -> None:
    """Close what was parked and is obsolete, now that a later push succeeded."""
    target = {"rule": claimed.rule, "app": claimed.app, "version": claimed.version}
    tag = claimed.image.tag
    success = Success(claimed.id, **target, tag=tag, push_time=claimed.push_time)
    parked = parked_beside(tx, **target)
    closed = [one.id for one in parked if is_closed_by(one, success)]
    if closed:
        close_parked(tx, closed, tag)
        metrics.count_closed(Outcome.SUPERSEDED, len(closed))
        log.info("parked_superseded", registrations=closed, followed_by=claimed.id, **target)


def _move_channels(tx: Tx, settings: Settings, claimed: Claimed, settlement: Settlement) -> None:
    """Let a push move its channels, now that its own version is there."""
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
