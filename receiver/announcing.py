"""Reports how an attempt ended: one log line, metrics, and the texts of notifications."""

from receiver import metrics
from receiver.ledger.registrations import Claimed
from receiver.ledger.settlements import Settlement
from receiver.logs import get_logger
from receiver.notices import Happening
from receiver.reasons import Outcome, Reason, State
from receiver.rules import Mode
from receiver.settling import OF_OTHER_RULES

SUCCESSES = frozenset({Outcome.CREATED, Outcome.UPDATED})

for _outcome in Outcome:  # present from the start, so that an increase is visible
    metrics.registrations.labels(State.DONE.value, _outcome.value, metrics.NONE)
for _reason in Reason:  # so is the first parked registration of a reason
    metrics.registrations.labels(State.PARKED.value, metrics.NONE, _reason.value)

log = get_logger()


def announce(claimed: Claimed, settlement: Settlement, *, now: int) -> None:
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
    if settlement.outcome in SUCCESSES:
        seconds = max(0, now - claimed.created_at) / 1000
        metrics.push_to_version.observe(seconds)


def happenings_of(claimed: Claimed, settlement: Settlement) -> list[tuple[Happening, str]]:
    """Return the events of this result that are worth a notification, with their texts."""
    target = f"{claimed.app}/{claimed.version}"
    found: list[tuple[Happening, str]] = []
    if settlement.outcome is Outcome.CREATED:
        text = f"{target} created from {claimed.image}.{_followed_by_itself(claimed)}"
        found.append((Happening.CREATED, _with_warnings(text, settlement)))
    if settlement.outcome is Outcome.UPDATED:
        text = f"{target} moved to {claimed.image}.{_followed_by_itself(claimed)}"
        found.append((Happening.UPDATED, _with_warnings(text, settlement)))
    if settlement.state is State.PARKED:
        moved = f", although it was moved to {claimed.image}" if settlement.moved else ""
        text = f"{target} parked{moved}: {settlement.sentence}"
        found.append((Happening.PARKED, _with_warnings(text, settlement)))
    if settlement.overwritten:
        left = settlement.outcome is Outcome.SUPERSEDED
        happened = "was not moved to it" if left else "may go on running the old image"
        text = f"The tag of {claimed.image} was overwritten; {target} {happened}."
        found.append((Happening.OVERWRITTEN, text))
    return found


def _followed_by_itself(claimed: Claimed) -> str:
    if claimed.mode is Mode.CREATE:
        return ""
    return f" A matchmaker profile that names {claimed.version} uses it from the next match on."


def _with_warnings(text: str, settlement: Settlement) -> str:
    return "\n".join([text, *(f"- {warning}" for warning in settlement.warnings)])
