"""What came of each registration, as one log line in the design's words."""

from receiver import metrics
from receiver.ledger.registrations import Claimed
from receiver.ledger.settlements import Settlement
from receiver.logs import get_logger
from receiver.notices import Happening
from receiver.reasons import Outcome, State
from receiver.settling import OF_OTHER_RULES

BEYOND_US = (
    "A matchmaker still names the old version: point it at this one in Edgegap's dashboard. "
    "Storage pull profiles are not carried over."
)

SUCCESSES = frozenset({Outcome.CREATED, Outcome.UPDATED})

for _outcome in Outcome:  # known from the start, so that its growth is seen
    metrics.registrations.labels(State.DONE.value, _outcome.value, metrics.NONE)

log = get_logger()


def announce(claimed: Claimed, settlement: Settlement, *, now: int) -> None:
    """Log what came of an attempt; after `created` also what the receiver cannot do.

    `now` is the ledger's time (epoch ms).
    """
    _count(claimed, settlement, now)
    facts = {
        "registration": claimed.id,
        "app": claimed.app,
        "version": claimed.version,
        "image": str(claimed.image),
        "attempt": claimed.attempt,
    }
    told = log.bind(**facts)
    match settlement.state:
        case State.DONE:
            beyond = {"remember": BEYOND_US} if settlement.outcome is Outcome.CREATED else {}
            notes = list(settlement.notes)
            told.info("registration_done", outcome=settlement.outcome, notes=notes, **beyond)
        case State.PARKED:
            sentence = settlement.sentence
            told.error("registration_parked", reason=settlement.reason, sentence=sentence)
        case _:
            # Who waits for another replica's rule does so every few seconds: once says it all.
            quiet = settlement.waited.times > 1 and settlement.reason in OF_OTHER_RULES
            (told.debug if quiet else told.warning)(
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
    """Return what of this attempt is worth telling others, as sentences."""
    target = f"{claimed.app}/{claimed.version}"
    told: list[tuple[Happening, str]] = []
    if settlement.outcome is Outcome.CREATED:
        told.append((Happening.CREATED, f"{target} created from {claimed.image}. {BEYOND_US}"))
    if settlement.outcome is Outcome.UPDATED:
        told.append((Happening.UPDATED, f"{target} moved to {claimed.image}."))
    if settlement.state is State.PARKED:
        told.append((Happening.PARKED, f"{target} parked: {settlement.sentence}"))
    if settlement.overwritten:
        left = settlement.outcome is Outcome.SUPERSEDED
        happened = "was not moved to it" if left else "may go on running the old image"
        text = f"{claimed.image} was pushed over; {target} {happened}."
        told.append((Happening.OVERWRITTEN, text))
    return told
