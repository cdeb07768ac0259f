"""What follows from the result of an attempt: log, metrics, notifications, gates, channels."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from receiver import metrics
from receiver.config.settings import Settings
from receiver.images import ImageReference
from receiver.ledger import gates
from receiver.ledger.channels import PUSH, action_of, wake_channel
from receiver.ledger.claims import Claimed, Reclaimed
from receiver.ledger.deliveries import open_following
from receiver.ledger.outbox import enqueue
from receiver.ledger.parked import (
    close_parked,
    is_of_person,
    later_success,
    parked_in_short,
    parked_of_target_or_rule,
)
from receiver.ledger.results import Result
from receiver.ledger.targets import is_reported, only_repeats, read_target
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed, wake_channels
from receiver.logs import get_logger
from receiver.notifications.destinations import NotificationEvent
from receiver.pipeline.retry import OF_OTHER_RULES
from receiver.pipeline.trial import is_failed
from receiver.reasons import Outcome, Reason, State
from receiver.rules.channel_order import ManualAction, is_ordered
from receiver.rules.closing import Ended, is_closed_by
from receiver.rules.rule import Match, Mode, Rule, channels_of, successor
from receiver.rules.trial import OnFailure

EXPECTED = frozenset({Reason.TRIAL_RUNNING, Reason.NEEDS_TRIAL, Reason.NEEDS_APPROVAL})
OF_EDGEGAP = "/v1/"  # the calls of an attempt that are not Docker Hub's
CHANGES = {
    Outcome.CREATED: ("created from", NotificationEvent.CREATED),
    Outcome.UPDATED: ("moved to", NotificationEvent.UPDATED),
}
MOVES = {
    ManualAction.PROMOTE.value: NotificationEvent.PROMOTED,
    ManualAction.ROLLBACK.value: NotificationEvent.ROLLED_BACK,
}

for _outcome in Outcome:  # present from the start, so that an increase is visible
    metrics.registrations.labels(State.DONE.value, _outcome.value, metrics.NONE)
for _reason in Reason:  # so is the first parked registration of a reason
    metrics.registrations.labels(State.PARKED.value, metrics.NONE, _reason.value)

log = get_logger()
THERE = frozenset({Outcome.CREATED, Outcome.UNCHANGED})
SUCCESSES = THERE | {Outcome.UPDATED, Outcome.PASSED}


def report_result(claimed: Claimed, result: Result, *, now: int) -> None:
    """Log and count how an attempt ended. `now` is the ledger's time (epoch ms)."""
    _count(claimed, result, now)
    facts = {
        "registration": claimed.id,
        "app": claimed.app,
        "version": claimed.version,
        "image": str(claimed.image),
        "attempt": claimed.attempt,
    }
    bound = log.bind(**facts)
    match result.state:
        case State.DONE:
            log_done = bound.warning if result.warnings else bound.info
            sentence, notes = result.sentence, list(result.notes)
            log_done("registration_done", outcome=result.outcome, sentence=sentence, notes=notes)
        case State.PARKED:
            sentence, notes = result.sentence, list(result.notes)
            bound.error("registration_parked", reason=result.reason, sentence=sentence, notes=notes)
        case _:
            # These waits are repeated, some every few seconds: log them once.
            quiet = result.waited.times > 1 and result.reason in OF_OTHER_RULES | EXPECTED
            log_wait = bound.info if result.reason in EXPECTED else bound.warning
            (bound.debug if quiet else log_wait)(
                "registration_waiting",
                reason=result.reason,
                sentence=result.sentence,
                retry_in_seconds=max(0, result.due_at - now) // 1000,
            )


def _count(claimed: Claimed, result: Result, now: int) -> None:
    if result.state not in {State.DONE, State.PARKED}:
        return
    outcome, reason = metrics.label(result.outcome), metrics.label(result.reason)
    metrics.registrations.labels(result.state.value, outcome, reason).inc()
    if result.outcome in CHANGES:
        seconds = max(0, now - claimed.created_at) / 1000
        metrics.push_to_version.observe(seconds)


def events_of(
    claimed: Claimed, result: Result, action: str | None = None
) -> list[tuple[NotificationEvent, str]]:
    """Return the events of this result that are worth a notification, with their texts.

    `action` is what moved the channel: a push, or what a person asked for.
    """
    target = f"{claimed.app}/{claimed.version}"
    found: list[tuple[NotificationEvent, str]] = []
    if result.outcome is not None and result.outcome in CHANGES:
        happened, event = CHANGES[result.outcome]
        text = f"{target} {happened} {claimed.image}.{_followed_by_itself(claimed)}"
        found.append((MOVES.get(action or "", event), _with_warnings(text, result)))
    if result.state is State.PARKED:
        moved = f", although it was moved to {claimed.image}" if result.moved else ""
        text = f"{target} parked{moved}: {result.sentence}"
        found.append((NotificationEvent.PARKED, _with_log(_with_warnings(text, result), result)))
    if result.outcome is Outcome.FAILED:
        text = f"{target}: {result.sentence}"
        found.append((NotificationEvent.TRIAL_FAILED, _with_log(text, result)))
    if result.reason is Reason.NEEDS_APPROVAL and claimed.waited.reason is not result.reason:
        text = f"{target}: {claimed.image} is ready to be approved."
        found.append((NotificationEvent.APPROVAL, text))
    if result.overwritten:
        left = result.outcome is Outcome.SUPERSEDED
        happened = "was not moved to it" if left else "may go on running the old image"
        text = f"The tag of {claimed.image} was overwritten; {target} {happened}."
        found.append((NotificationEvent.OVERWRITTEN, text))
    return found


def _followed_by_itself(claimed: Claimed) -> str:
    if claimed.mode is Mode.CREATE:
        return ""
    return f" A matchmaker profile that names {claimed.version} uses it from the next match on."


def _with_log(text: str, result: Result) -> str:
    lines = result.trial.log if result.trial is not None and not result.trial.passed else ()
    return "\n".join([text, *(["Its last log lines:"] if lines else []), *lines])


def _with_warnings(text: str, result: Result) -> str:
    return "\n".join([text, *(f"- {warning}" for warning in result.warnings)])


def apply_side_effects(tx: Tx, settings: Settings, claimed: Claimed, result: Result) -> None:
    """Write the side effects of an attempt that was just settled."""
    if result.slow_down_until is not None:
        gates.slow_down(tx, result.slow_down_until, result.sentence)
    if result.close_gate and gates.close_token_gate(tx, result.sentence):
        log.error("edgegap_token_refused", sentence=result.sentence)
        event, text = NotificationEvent.TOKEN_REFUSED, result.sentence
        enqueue(tx, settings.notices, event, text, about=claimed.id)
    accepted = any(one.accepted and one.path.startswith(OF_EDGEGAP) for one in result.calls)
    if accepted and gates.is_token_unproven(tx):
        token_accepted(tx, settings, about=claimed.id)
    moved = claimed.mode is Mode.CHANNEL and result.outcome in CHANGES
    action = action_of(tx, claimed.app, claimed.version, claimed.id) if moved else None
    for event, text in events_of(claimed, result, action):
        enqueue(tx, settings.notices, event, text, rule=claimed.rule, about=claimed.id)
    if result.outcome in SUCCESSES:
        _close_parked(tx, settings, claimed)
    if result.state is State.PARKED and claimed.mode is not Mode.CHANNEL:
        _close_if_followed(tx, settings, claimed)
    if result.outcome in THERE and claimed.mode is Mode.CREATE:
        _try_or_move_channels(tx, settings, claimed, result)
    if claimed.mode is Mode.CHANNEL and result.outcome in SUCCESSES:
        _move_following(tx, settings, claimed, result)
    if claimed.mode is Mode.TRIAL and (result.state is State.DONE or is_failed(result)):
        _follow_trial(tx, settings, claimed, result)


def follow_late_move(tx: Tx, settings: Settings, claimed: Claimed) -> None:
    """Write the side effects of a move that Edgegap was found to have carried out."""
    result = replace(Result.done(Outcome.UPDATED), digest=claimed.digest)
    for event, text in events_of(claimed, result, PUSH):
        enqueue(tx, settings.notices, event, text, rule=claimed.rule, about=claimed.id)
    _move_following(tx, settings, claimed, result)


def notify_crashed(tx: Tx, settings: Settings, reclaimed: Iterable[Reclaimed]) -> None:
    """Notify of registrations that are parked because the receiver repeatedly crashed on them."""
    for one in reclaimed:
        if one.state is not State.PARKED:
            continue
        rule, text = parked_in_short(tx, one.id)
        enqueue(tx, settings.notices, NotificationEvent.PARKED, text, rule=rule, about=one.id)
        metrics.count_parked(Reason.CRASHES_THE_WORKER)


def token_accepted(tx: Tx, settings: Settings, *, about: str | None = None) -> None:
    """Open the token gate, and notify of it: Edgegap accepts the API token again.

    `about` is the registration whose request was accepted; if only the token was tested, the
    notification is about the first one that waited for it.
    """
    if gates.open_token_gate(tx):
        about = about or gates.first_refused(tx)
        text = "Edgegap accepts the API token again. Waiting registrations continue."
        enqueue(tx, settings.notices, NotificationEvent.RECOVERED, text, about=about)


def _close_parked(tx: Tx, settings: Settings, claimed: Claimed) -> None:
    """Close parked registrations that are obsolete, now that a later push succeeded."""
    tag, at = claimed.image.tag, claimed.push_time
    success = Ended(claimed.id, **claimed.names, tag=tag, mode=claimed.mode, push_time=at)
    parked = parked_of_target_or_rule(tx, **claimed.names)
    closed = [one.id for one in parked if is_closed_by(one, success)]
    if closed:
        _close(tx, settings, claimed, closed, followed_by=claimed.id, tag=tag)


def _close_if_followed(tx: Tx, settings: Settings, claimed: Claimed) -> None:
    """Close what was parked after a later push had succeeded, unless a person asked for it."""
    success = later_success(tx, claimed.id)
    if success is not None and not is_of_person(tx, claimed.id):
        _close(tx, settings, claimed, [claimed.id], followed_by=success.id, tag=success.tag)


def _close(
    tx: Tx,
    settings: Settings,
    claimed: Claimed,
    closed: Sequence[str],
    *,
    followed_by: str,
    tag: str,
) -> None:
    close_parked(tx, closed, tag)
    metrics.count_closed(Outcome.SUPERSEDED, len(closed))
    image = ImageReference(repository=claimed.image.repository, tag=tag)
    text = f"{claimed.app}/{claimed.version}: {image} succeeded, so what was parked"
    text += " before it is closed."
    event = NotificationEvent.RECOVERED
    enqueue(tx, settings.notices, event, text, rule=claimed.rule, about=claimed.id)
    log.info("parked_superseded", registrations=closed, followed_by=followed_by, **claimed.names)


def _try_or_move_channels(tx: Tx, settings: Settings, claimed: Claimed, result: Result) -> None:
    """Try a version that exists now, or let it move its channels if it needs no trial.

    What failed is tried again for a new push or a person, not for a repeated report. A replica that
    does not have the rule's [rule.trial] yet leaves the trial to those that do.
    """
    rule, image = _rule_of(settings, claimed), claimed.image
    to_try = claimed.to_try or claimed.mode is Mode.TRIAL
    if rule is None or (rule.trial is None and not to_try):
        _move_channels(tx, settings, claimed, result)
        return
    repeated = only_repeats(tx, claimed.id)
    digest = result.digest or (claimed.known_digest if repeated else None)
    known = digest is not None or not rule.preflight
    passed = has_passed(tx, claimed.app, image, digest) if known else None
    if passed or (passed is False and repeated):
        warns = rule.trial is not None and rule.trial.on_failure is OnFailure.WARN
        if passed or warns:
            _move_channels(tx, settings, claimed, replace(result, digest=digest))
        return
    trial = Match(rule.name, claimed.app, claimed.version, Mode.TRIAL)
    _open(tx, claimed, (trial,), result)


def _follow_trial(tx: Tx, settings: Settings, claimed: Claimed, result: Result) -> None:
    """Let what was tried move its channels, or try the image that took its place meanwhile."""
    there = read_target(tx, claimed.app, claimed.version)
    newest = there.digest if there is not None and there.image == claimed.image else None
    if None not in {newest, result.digest} and newest != result.digest:
        newer = replace(result, digest=newest, overwritten=True)
        _try_or_move_channels(tx, settings, claimed, newer)
    elif result.state is State.DONE:
        _move_channels(tx, settings, claimed, result)
    wake_channels(tx, claimed.app, claimed.image, result.digest or claimed.digest)


def _move_channels(tx: Tx, settings: Settings, claimed: Claimed, result: Result) -> None:
    """Let a push move its channels, now that its own version exists."""
    rule = _rule_of(settings, claimed)
    matches = channels_of(rule, claimed.image.tag) if rule is not None else ()
    if matches:
        _open(tx, claimed, matches, result)


def _move_following(tx: Tx, settings: Settings, claimed: Claimed, result: Result) -> None:
    """Let the channels that take images of this one move, unless a person moved it.

    A person who promotes what a push would have moved approves that. What waits to move the channel
    to an earlier image ends.
    """
    wake_channel(tx, claimed.app, claimed.version)
    for other in settings.rules:
        for name in other.channels if other.app == claimed.app else ():
            if other.channel(name).source == claimed.version:
                wake_channel(tx, claimed.app, name)  # it may wait for what this one had
    rule = _rule_of(settings, claimed)
    if rule is None:
        return
    matches = channels_of(rule, claimed.image.tag, claimed.version)
    by_hand = is_ordered(claimed.pushed, claimed.channel_state)
    approved = claimed.channel_state.action == ManualAction.PROMOTE and is_reported(tx, claimed.id)
    if matches and (approved or not by_hand):
        _open(tx, claimed, matches, result)


def _rule_of(settings: Settings, claimed: Claimed) -> Rule | None:
    """Return the rule that decides what follows, also if it was renamed during the attempt.

    Its name may be that of another rule now.
    """
    rule, repository = settings.rule_named(claimed.rule), claimed.image.repository
    if rule is not None and (rule.repository, rule.app) == (repository, claimed.app):
        return rule
    match = Match(claimed.rule, claimed.app, claimed.version, claimed.mode)
    return successor(settings.rules, match, repository, claimed.image.tag)


def _open(tx: Tx, claimed: Claimed, matches: tuple[Match, ...], result: Result) -> None:
    """Open what follows from a registration, for the same deliveries."""
    open_following(
        tx,
        claimed.id,
        matches,
        claimed.image,
        digest=result.digest,
        overwritten=claimed.overwritten or result.overwritten,
    )
