"""Replay: apply the current rules to a delivery, and queue its registrations again.

A person requests a replay. What a person requested before, a move or a trial, is done again: no
rule leads to these. At a start and after a reload, only the registrations that the configuration
may have fixed are queued again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from receiver.dockerhub.webhook import Push
from receiver.images import ImageReference
from receiver.ledger import queries
from receiver.ledger.approvals import decide_again
from receiver.ledger.channels import (
    forget_dismissed,
    newest_known,
    read_channel_state,
    replace_order,
)
from receiver.ledger.deletions import deleted_since
from receiver.ledger.deliveries import (
    COMMAND,
    RESTORE,
    Reported,
    open_registrations,
    reassign_to_rule,
    requeue,
    set_digest,
    set_to_try,
    supersede,
    update_decision,
)
from receiver.ledger.targets import read_target, rule_to_repeat
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import is_under_way, last_run, plan_run
from receiver.ledger.views import (
    DeliveryId,
    OpenRegistration,
    ReasonWord,
    Registration,
    RegistrationId,
    ReportedPush,
    Sentence,
    Why,
    described,
)
from receiver.reasons import REASONS, Reason, State, Verdict
from receiver.rules.rule import (
    Decision,
    Match,
    Mode,
    Rule,
    names_target,
    rule_on,
    rules_moving,
    successor,
)

NOT_AGAIN = (
    "{match.app}/{match.version} was deleted since ({why}) and is not created again; to create it, "
    "replay this delivery by its id."
)

OVER = (
    "{app}/{channel} was moved, held or released otherwise since, so this request is not carried "
    "out again. To do so: `receiver promote {app} {channel} --to {tag}`."
)


class Replayed(msgspec.Struct, frozen=True):
    """A replayed delivery: the rules were applied again and its registrations restarted."""

    delivery: DeliveryId
    verdict: Verdict
    reason: Why
    sentence: Sentence
    registrations: tuple[RegistrationId, ...]


class ReplayedDeliveries(msgspec.Struct, frozen=True):
    """The replayed deliveries, and the ids that do not exist."""

    replayed: tuple[Replayed, ...]
    missing: Annotated[tuple[str, ...], described("Ids of no delivery and no registration.")]
    next: Annotated[
        DeliveryId | None,
        described("Pass it as `after` to replay the rest; null if this was all."),
    ] = None


def replay(
    tx: Tx, rules: Sequence[Rule], delivery: str, *, asked_for: bool = True
) -> Replayed | None:
    """Apply the current rules to a delivery and queue its registrations now.

    `asked_for`: a person named this delivery. Otherwise a version that was deleted since is not
    created again. Returns None if the delivery does not exist. A refused delivery has no push and
    stays refused.
    """
    pushed = queries.find_push(tx, delivery)
    if pushed is None:
        return None
    delivery = pushed.id
    if pushed.verdict is Verdict.REFUSED:
        return Replayed(delivery, pushed.verdict, pushed.reason, pushed.sentence, ())
    ruling = rule_on(_push(pushed), rules)
    requested = _requested_by(tx, pushed, ruling)
    if requested is not None:
        if not asked_for and requested.state is State.DONE:
            return Replayed(delivery, pushed.verdict, pushed.reason, pushed.sentence, ())
        return _request_again(tx, rules, pushed, requested, by_person=True)
    update_decision(tx, delivery, ruling)
    matches, sentence = ruling.matches, ruling.sentence
    if not asked_for:
        deleted = {
            match: deleted_since(tx, delivery, match.app, match.version) for match in matches
        }
        matches = tuple(match for match, why in deleted.items() if why is None)
        whys = (NOT_AGAIN.format(match=m, why=why) for m, why in deleted.items() if why is not None)
        sentence = " ".join(filter(None, (sentence, *whys)))
    forget_dismissed(tx, delivery)
    opened = _open_again(tx, pushed, matches, by_person=True, asked_for=asked_for)
    if opened:
        _supersede_others(tx, delivery, opened)
    reason = None if ruling.reason is None else ReasonWord(ruling.reason.value)
    return Replayed(delivery, ruling.verdict, reason, sentence, opened)


def selected(
    tx: Tx, ids: Iterable[str], *, parked: bool, since: int | None, after: str, most: int
) -> tuple[dict[str, bool], str | None]:
    """Return these and the next parked or later deliveries, and whether a person named each.

    The second value is the one to go on after, None at the end.
    """
    chosen = dict.fromkeys(ids, True)
    if not parked and since is None:
        return chosen, None
    found = queries.deliveries_to_replay(tx, parked=parked, since=since, after=after, most=most)
    for identity in found:
        chosen.setdefault(identity, False)
    return chosen, found[-1] if len(found) == most else None


def replay_selected(
    tx: Tx, rules: Sequence[Rule], chosen: Mapping[str, bool]
) -> dict[str, Replayed | None]:
    """Replay deliveries, each with whether a person named it; None for those that do not exist."""
    return {one: replay(tx, rules, one, asked_for=named) for one, named in chosen.items()}


def read_rules_again(tx: Tx, rules: Sequence[Rule], *, before: Sequence[Rule] = ()) -> list[str]:
    """At start and after a reload: queue again what a change of the configuration may have fixed.

    These are the parked registrations whose reason the configuration can resolve, and the waiting
    registrations whose rule has changed. Other registrations of their deliveries are not changed.
    A move or a trial whose rule was renamed goes on under the rule's new name. Moves that wait for
    a trial or an approval are decided again. `before` are the rules that a reload replaces: with
    replicas, only a [rule.trial] that it removed ends trials that are to come, because a replica
    may have started with a file that has none yet. Returns the ids of the deliveries.
    """
    named = {rule.name: rule for rule in rules}
    tried = {rule.name for rule in before if rule.trial is not None}
    fixable = {reason.value for reason, explained in REASONS.items() if explained.by_config}
    astray: dict[str, list[str]] = {}
    again: list[str] = []
    for one in queries.unfinished_registrations(tx):
        otherwise = _rule_changed(one, named) and not _succeeded(tx, one, rules)
        if one.mode is Mode.CREATE and not otherwise:
            to_try = named[one.rule].trial is not None
            if to_try or one.rule in tried or not tx.postgresql:
                set_to_try(tx, one.id, to_try=to_try)
        if one.state is State.WORKING:
            continue
        if not (one.reason in fixable if one.state is State.PARKED else otherwise):
            continue
        if otherwise or one.reason == Reason.VERSION_NAME_INVALID.value:
            astray.setdefault(one.delivery_id, []).append(one.id)
            continue
        requeue(tx, one.id)
        again.append(one.delivery_id)
    decide_again(tx)
    for delivery, registrations in astray.items():
        _replay_changed(tx, rules, delivery, registrations)
    return [*again, *astray]


def _replay_changed(tx: Tx, rules: Sequence[Rule], delivery: str, astray: Sequence[str]) -> None:
    """Apply the current rules to a push in place of these registrations.

    Its other registrations are not changed: their versions may have been deleted on purpose.
    """
    pushed = queries.get_push(tx, delivery)
    ruling = rule_on(_push(pushed), rules)
    requested = _requested_by(tx, pushed, ruling)
    if requested is not None:
        for identity in astray:
            requeue(tx, identity)  # the worker parks registrations that no rule matches
        _request_again(tx, rules, pushed, requested, by_person=False)
        return
    update_decision(tx, delivery, ruling)
    others = {
        (one.app, one.version)
        for one in queries.registrations_of(tx, [delivery]).get(delivery, ())
        if one.id not in astray
    }
    matches = tuple(one for one in ruling.matches if (one.app, one.version) not in others)
    opened = _open_again(tx, pushed, matches, by_person=False)
    if opened:
        _supersede(tx, astray, opened)
    else:  # no rule matches any more: the worker parks the registrations now
        for identity in astray:
            requeue(tx, identity)


def _open_again(
    tx: Tx,
    pushed: ReportedPush,
    matches: tuple[Match, ...],
    *,
    by_person: bool,
    asked_for: bool = False,
) -> tuple[str, ...]:
    """Open or join the registrations of a delivery's matches, and queue them now."""
    by_command = pushed.source == COMMAND
    pushed_at = pushed.pushed_at or (None if by_command else pushed.received_at)
    opened = open_registrations(
        tx,
        pushed.id,
        matches,
        Reported(pushed.repository, pushed.tag or "", pushed_at, pushed.received_at),
        by_person=by_person,
        asked_for=asked_for or by_command,
    )
    for match, identity in zip(matches, opened, strict=True):
        if match.invalid is None:
            requeue(tx, identity)
    return opened


def _rule_changed(one: OpenRegistration, named: Mapping[str, Rule]) -> bool:
    rule = named.get(one.rule)
    if rule is None or rule.repository != one.repository:
        return True
    return not names_target(rule, one.mode, one.tag, one.app, one.version)


def _succeeded(tx: Tx, one: OpenRegistration, rules: Sequence[Rule]) -> bool:
    """Give a move or a trial to the rule that has its target now; False if there is none."""
    if one.mode is Mode.CREATE:  # its push is ruled on again
        return False
    match = Match(one.rule, one.app, one.version, one.mode)
    rule = successor(rules, match, one.repository, one.tag)
    if rule is not None:
        reassign_to_rule(tx, one.id, rule.name)
    return rule is not None


def _supersede_others(tx: Tx, delivery: str, kept: Sequence[str]) -> None:
    """End the delivery's open registrations that no current rule and no person asks for."""
    others = []
    for one in queries.registrations_of(tx, [delivery]).get(delivery, ()):
        if _is_last_order(tx, one):
            requeue(tx, one.id)
        elif one.id not in kept:
            others.append(one.id)
    _supersede(tx, others, kept)


def _supersede(tx: Tx, identities: Iterable[str], kept: Sequence[str]) -> None:
    for identity in identities:
        if identity in kept:
            continue
        sentence = f"The current rules give this push other targets: see {', '.join(kept)}."
        supersede(tx, identity, sentence)


def _push(of: ReportedPush) -> Push:
    return Push(of.repository, of.tag, of.media_type, of.pusher, of.pushed_at)


def _requested_by(tx: Tx, pushed: ReportedPush, ruling: Decision) -> Registration | None:
    """Return the move or the trial that this delivery requested, None if it is a push.

    A push by a command leads to what the rules make of it, as `ruling` says.
    """
    led = queries.registrations_of(tx, [pushed.id]).get(pushed.id, ())
    if pushed.source not in {COMMAND, RESTORE} or any(one.mode is Mode.CREATE for one in led):
        return None
    own = [one for one in led if one.mode is Mode.TRIAL] or led
    opened = (one for one in own if one.created_at == pushed.received_at)  # else it joined one
    one = next(opened, next(iter(own), None))
    if one is None or one.mode is Mode.TRIAL or _is_last_order(tx, one):
        return one
    targets = {(match.app, match.version) for match in ruling.matches}
    return None if (one.app, one.version) in targets else one


def _is_last_order(tx: Tx, one: Registration) -> bool:
    """Return whether it is the move that was requested last of its channel."""
    return one.mode is Mode.CHANNEL and (
        read_channel_state(tx, one.app, one.version).ordered == one.id
    )


def _request_again(
    tx: Tx, rules: Sequence[Rule], pushed: ReportedPush, one: Registration, *, by_person: bool
) -> Replayed:
    """Do what was requested once more, and try again what is parked of what followed from it.

    A move that is not the last one requested of its channel would undo what was requested since.
    """
    sentence = pushed.sentence
    followed = queries.registrations_of(tx, [pushed.id]).get(pushed.id, ())
    parked = [other.id for other in followed if other.state is State.PARKED and other.id != one.id]
    for identity in parked:
        requeue(tx, identity)
    if one.mode is Mode.TRIAL:
        again = [_try_again(tx, rules, pushed, one, by_person=by_person)]
    elif _is_last_order(tx, one):
        able = rules_moving(rules, one.app, one.version, one.repository)
        no_later = newest_known(tx, one.app, one.version)  # no push so far is later than this time
        opened = _open(tx, able, pushed, one, push_time=no_later, by_person=by_person)
        if opened != one.id:
            set_digest(tx, opened, pushed.digest, overwritten=False)
            replace_order(tx, one.app, one.version, registration=opened, before=one.id)
        again = [opened]
    else:
        again, sentence = [], OVER.format(app=one.app, channel=one.version, tag=one.tag)
        if one.state is State.PARKED:
            supersede(tx, one.id, sentence)
    return Replayed(pushed.id, pushed.verdict, pushed.reason, sentence, (*again, *parked))


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
        set_digest(tx, opened, one.digest, overwritten=False)
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
