"""What a person requested, done again by a replay: the move of a channel, or a trial.

No rule leads to these, so it is not the rules that are applied again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from receiver.images import ImageReference
from receiver.ledger.channels import newest_known, order_instead, read_channel_state
from receiver.ledger.deliveries import (
    COMMAND,
    RESTORE,
    Reported,
    learn,
    open_registrations,
    requeue,
    supersede,
)
from receiver.ledger.queries import registrations_of
from receiver.ledger.targets import read_target, rule_to_repeat
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import is_under_way, last_run, plan_run
from receiver.ledger.views import Registration, ReportedPush
from receiver.reasons import State
from receiver.rules.rule import Decision, Match, Mode, Rule, rules_moving

OVER = (
    "{app}/{channel} was moved, held or released otherwise since, so this request is not carried "
    "out again. To do so: `receiver promote {app} {channel} --to {tag}`."
)


@dataclass(frozen=True, slots=True)
class Again:
    """The registrations that are tried again, and why what was requested is not, if so."""

    registrations: tuple[str, ...]
    sentence: str


def requested_by(tx: Tx, pushed: ReportedPush, ruling: Decision) -> Registration | None:
    """Return the move or the trial that this delivery requested, None if it is a push.

    A push by a command leads to what the rules make of it, as `ruling` says.
    """
    led = registrations_of(tx, [pushed.id]).get(pushed.id, ())
    if pushed.source not in {COMMAND, RESTORE} or any(one.mode is Mode.CREATE for one in led):
        return None
    own = [one for one in led if one.mode is Mode.TRIAL] or led
    opened = (one for one in own if one.created_at == pushed.received_at)  # else it joined one
    one = next(opened, next(iter(own), None))
    if one is None or one.mode is Mode.TRIAL or is_last_order(tx, one):
        return one
    targets = {(match.app, match.version) for match in ruling.matches}
    return None if (one.app, one.version) in targets else one


def is_last_order(tx: Tx, one: Registration) -> bool:
    """Return whether it is the move that was requested last of its channel."""
    return one.mode is Mode.CHANNEL and (
        read_channel_state(tx, one.app, one.version).ordered == one.id
    )


def request_again(
    tx: Tx, rules: Sequence[Rule], pushed: ReportedPush, one: Registration, *, by_person: bool
) -> Again:
    """Do what was requested once more, and try again what is parked of what followed from it.

    A move that is not the last one requested of its channel would undo what was requested since.
    """
    followed = registrations_of(tx, [pushed.id]).get(pushed.id, ())
    parked = [other.id for other in followed if other.state is State.PARKED and other.id != one.id]
    for identity in parked:
        requeue(tx, identity)
    if one.mode is Mode.TRIAL:
        opened = _try_again(tx, rules, pushed, one, by_person=by_person)
        return Again((opened, *parked), pushed.sentence)
    if not is_last_order(tx, one):
        why = OVER.format(app=one.app, channel=one.version, tag=one.tag)
        if one.state is State.PARKED:
            supersede(tx, one.id, why)
        return Again(tuple(parked), why)
    able = rules_moving(rules, one.app, one.version, one.repository)
    no_later = newest_known(tx, one.app, one.version)  # no push so far is later than this time
    opened = _open(tx, able, pushed, one, push_time=no_later, by_person=by_person)
    if opened != one.id:
        learn(tx, opened, pushed.digest, overwritten=False)
        order_instead(tx, one.app, one.version, registration=opened, before=one.id)
    return Again((opened, *parked), pushed.sentence)


def _try_again(
    tx: Tx, rules: Sequence[Rule], pushed: ReportedPush, one: Registration, *, by_person: bool
) -> str:
    """Try the version as requested: near the same location, and kept for the same time."""
    image = ImageReference(repository=one.repository, tag=one.tag)
    found, run = read_target(tx, one.app, one.version), last_run(tx, one.id)
    goes_on = is_under_way(tx, one.app, one.version, image)
    able = [rule for rule in rules if (rule.app, rule.repository) == (one.app, one.repository)]
    push_time = None if found is None else found.push_time
    opened = _open(tx, able, pushed, one, push_time=push_time, by_person=by_person)
    if opened != one.id:
        learn(tx, opened, one.digest, overwritten=False)
    elif run is not None and run.passed is None:
        goes_on = True  # a run without a verdict is continued as planned
    if run is not None and not goes_on and (run.near or run.keep is not None):
        plan_run(tx, opened, near=run.near, keep=run.keep)
    return opened


def _open(
    tx: Tx,
    able: Sequence[Rule],
    pushed: ReportedPush,
    one: Registration,
    *,
    push_time: int | None,
    by_person: bool,
) -> str:
    """Open or join the registration, under a rule that does it now; without one it parks."""
    rule = rule_to_repeat(tx, able, one.id)
    match = Match(one.rule if rule is None else rule.name, one.app, one.version, one.mode)
    push = Reported(one.repository, one.tag, pushed.pushed_at, pushed.received_at)
    (opened,) = open_registrations(
        tx, pushed.id, (match,), push, push_time=push_time, by_person=by_person
    )
    requeue(tx, opened)
    return opened
