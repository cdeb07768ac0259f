"""Registrations worked on: each call recorded before it is sent, and what came of it settled.

Who lost the lease writes nothing: each of these statements names the owner and the fence.
"""

import json
from dataclasses import dataclass, field

from receiver.channel_order import Holds, Report, is_ordered
from receiver.edgegap.answers import Answer, Effect
from receiver.images import ImageReference
from receiver.ledger.channel_checks import expect_answer, was_answered
from receiver.ledger.channels import PUSH, note_followed, note_move, note_report
from receiver.ledger.holding import Held, held, hold
from receiver.ledger.registrations import Claimed
from receiver.ledger.transactions import Tx
from receiver.reasons import Outcome, Reason, State
from receiver.retry import Waited
from receiver.rules import Mode

PATCH = "PATCH"

_SETTLE = """UPDATE registrations SET state = :state, outcome = :outcome, reason = :reason,
  sentence = :sentence, notes = :notes, overwritten = (:overwritten OR overwritten),
  digest = COALESCE(CAST(:digest AS TEXT), digest),
  due_at = :due_at, waiting_reason = :waiting_reason, waiting_since = :waiting_since,
  waiting_first = :waiting_first, waits = :waits, crashes = 0, lease_owner = NULL,
  lease_until = NULL, updated_at = :now, finished_at = :finished_at
 WHERE id = :id AND state = 'working' AND lease_owner = :owner AND fence = :fence
 RETURNING look_again"""
_LOOK_AGAIN = """UPDATE registrations SET state = 'queued', outcome = NULL, reason = NULL,
  sentence = '', due_at = :now, finished_at = NULL, look_again = false WHERE id = :id"""
_CALL = """INSERT INTO attempts (registration_id, attempt, step, at, method, path, status,
  milliseconds, message, effect)
 VALUES (:id, :attempt, :step, :at, :method, :path, :status, :milliseconds, :message, :effect)
 ON CONFLICT (registration_id, attempt, step) DO UPDATE SET status = excluded.status,
  milliseconds = excluded.milliseconds, message = excluded.message, at = excluded.at,
  effect = excluded.effect"""
_SETTLED = """SELECT 1 FROM registrations WHERE id = :id AND fence = :fence AND state = :state
  AND lease_owner IS NULL"""
_OF = "SELECT rule, digest FROM registrations WHERE id = :id"
_WAS_SENT = """SELECT 1 FROM attempts
 WHERE registration_id = :id AND attempt = :attempt AND method = :method"""
_STILL_OURS = """SELECT 1 FROM registrations
 WHERE id = :id AND state = 'working' AND lease_owner = :owner AND fence = :fence"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of an attempt. `due_at` and `waited` matter only when it waits.

    `warnings` are those of the notes that a notification repeats. `sent` is the keyed hash of the
    hidden values that a channel was sent, None if none were. `moved`: a channel has the image, by a
    request of ours, also if that is not all that was asked for.
    """

    state: State
    outcome: Outcome | None = None
    reason: Reason | None = None
    sentence: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    due_at: int | None = None
    waited: Waited = field(default_factory=Waited)
    digest: str | None = None
    overwritten: bool = False
    sent: str | None = None
    moved: bool = False
    calls: tuple[Answer, ...] = ()


def was_settled(tx: Tx, claimed: Claimed, settlement: Settlement) -> bool:
    """Return whether this very settlement is in the ledger: its transaction's answer was lost."""
    return bool(
        tx.run(_SETTLED, id=claimed.id, fence=claimed.fence, state=settlement.state.value).first()
    )


def sent(tx: Tx, claimed: Claimed, owner: str, *, step: int, method: str, path: str) -> bool:
    """Record that a call is about to be sent, so that what it makes is known as ours.

    False when the lease was lost: then it must not be sent.
    """
    if not tx.run(_STILL_OURS, id=claimed.id, owner=owner, fence=claimed.fence).first():
        return False
    call = Answer(method=method, path=path, status=None, message="sent")
    _record_call(tx, claimed, step, call, at=tx.now)
    if claimed.mode is Mode.CHANNEL and method == PATCH:
        expect_answer(tx, claimed.app, claimed.version, call_of(claimed))
    return True


def settle(tx: Tx, claimed: Claimed, owner: str, settlement: Settlement) -> bool:
    """Write what came of an attempt; False when the lease was lost and nothing was written."""
    finished = settlement.state in {State.DONE, State.PARKED}
    row = tx.run(
        _SETTLE,
        id=claimed.id,
        owner=owner,
        fence=claimed.fence,
        now=tx.now,
        state=settlement.state.value,
        outcome=settlement.outcome and settlement.outcome.value,
        reason=settlement.reason and settlement.reason.value,
        sentence=settlement.sentence,
        notes=json.dumps(settlement.notes, ensure_ascii=False),
        digest=settlement.digest,
        overwritten=settlement.overwritten,
        due_at=tx.now if settlement.due_at is None else settlement.due_at,
        waiting_reason=settlement.waited.reason and settlement.waited.reason.value,
        waiting_since=settlement.waited.since,
        waiting_first=settlement.waited.first,
        waits=settlement.waited.times,
        finished_at=tx.now if finished else None,
    ).first()
    if row is None:
        return False
    for step, call in enumerate(settlement.calls):
        _record_call(tx, claimed, step, call, at=call.at or tx.now)
    if claimed.mode is Mode.CHANNEL:
        _settle_channel(tx, claimed, settlement)
    elif settlement.state is State.DONE and settlement.outcome is not Outcome.SUPERSEDED:
        hold(
            tx,
            claimed.app,
            claimed.version,
            Held(
                claimed.image.repository,
                claimed.image.tag,
                settlement.digest,
                claimed.push_time,
                claimed.id,
            ),
            mode=claimed.mode.value,
            created=settlement.outcome is Outcome.CREATED,
            by_hand=claimed.by_hand,
        )
    if finished and row.look_again:
        tx.run(_LOOK_AGAIN, id=claimed.id, now=tx.now)
    return True


def compare_again(tx: Tx, claimed: Claimed) -> None:
    """Have the channel of a lost lease compared with Edgegap, if this attempt sent a PATCH."""
    if claimed.mode is not Mode.CHANNEL:
        return
    call = {"id": claimed.id, "attempt": claimed.attempt, "method": PATCH}
    if tx.run(_WAS_SENT, **call).first():
        expect_answer(tx, claimed.app, claimed.version, call_of(claimed))


def adopt(tx: Tx, app: str, name: str, shown: Holds, *, seen: Holds) -> None:
    """Record that a channel has what a request asked for whose registration did not end so.

    `shown` is what it has, `seen` what the ledger had of it.
    """
    (asked,) = [one for one in seen.asked if one.registration == shown.registration]
    row = tx.run(_OF, id=asked.registration).one()
    image = ImageReference(repository=asked.repository, tag=asked.tag)
    report = Report(row.digest, asked.push_time)
    move = _Move(asked.registration, row.rule, is_ordered(asked, seen), seen)
    _follow(tx, (app, name), image, report, move)


def call_of(claimed: Claimed) -> str:
    """Return the name by which the PATCH of this attempt is known in its channel's row."""
    return f"{claimed.id}.{claimed.attempt}"


def _settle_channel(tx: Tx, claimed: Claimed, settlement: Settlement) -> None:
    """Write the result of an attempt at a channel: the report, the move, what it follows now."""
    app, name, image = claimed.app, claimed.version, claimed.image
    over = settlement.state is State.DONE
    has = settlement.moved or (over and settlement.outcome is not Outcome.SUPERSEDED)
    for call in settlement.calls:
        if call.method == PATCH:
            certain = call.effect is Effect.NONE or (call.effect is Effect.DONE and has)
            (was_answered if certain else expect_answer)(tx, app, name, call_of(claimed))
    if not (over or settlement.moved):
        return
    report = Report(settlement.digest or claimed.digest, claimed.push_time)
    if not has:
        note_report(tx, app, name, image, report, registration=claimed.id)
        return
    ordered = is_ordered(claimed.pushed, claimed.holds)
    sent, outcome = settlement.sent, settlement.outcome
    move = _Move(claimed.id, claimed.rule, ordered, claimed.holds, sent, outcome)
    _follow(tx, (app, name), image, report, move)


@dataclass(frozen=True, slots=True)
class _Move:
    """A channel's move by a registration: `seen` is what the decision went by."""

    registration: str
    rule: str
    ordered: bool
    seen: Holds
    sent: str | None = None
    outcome: Outcome | None = None


def _follow(
    tx: Tx, place: tuple[str, str], image: ImageReference, report: Report, move: _Move
) -> None:
    """Write that a channel has the image now: the report, the move, what it follows."""
    note_report(tx, *place, image, report, registration=move.registration)
    before = held(tx, *place)
    was_there = None if before is None else before.image
    if move.outcome is not Outcome.UNCHANGED or was_there != image:
        note_move(
            tx,
            *place,
            image,
            report,
            before=was_there,
            action=move.seen.action if move.ordered else PUSH,
            rule=move.rule,
            registration=move.registration,
        )
    new = Held(image.repository, image.tag, report.digest, report.push_time, move.registration)
    hold(tx, *place, new, mode=Mode.CHANNEL.value, created=move.outcome is Outcome.CREATED)
    note_followed(tx, *place, image.tag, seen=move.seen, ordered=move.ordered, sent=move.sent)


def _record_call(tx: Tx, claimed: Claimed, step: int, call: Answer, *, at: int) -> None:
    tx.run(
        _CALL,
        id=claimed.id,
        attempt=claimed.attempt,
        step=step,
        at=at,
        method=call.method,
        path=call.path,
        status=call.status,
        milliseconds=call.milliseconds,
        message=call.message,
        effect=call.effect.value,
    )
