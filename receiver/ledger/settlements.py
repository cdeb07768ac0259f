"""Registrations worked on: each call recorded before it is sent, and what came of it settled.

Who lost the lease writes nothing: each of these statements names the owner and the fence.
"""

import json
from dataclasses import dataclass, field

from receiver.channel_order import Report, is_ordered
from receiver.edgegap.answers import Answer, Effect
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
_WAS_SENT = """SELECT 1 FROM attempts
 WHERE registration_id = :id AND attempt = :attempt AND method = :method"""
_STILL_OURS = """SELECT 1 FROM registrations
 WHERE id = :id AND state = 'working' AND lease_owner = :owner AND fence = :fence"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of an attempt. `due_at` and `waited` matter only when it waits.

    `warnings` are those of the notes that a notification repeats. `sent` is the keyed hash of the
    hidden values that a channel was sent, None if none were.
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


def call_of(claimed: Claimed) -> str:
    """Return the name by which the PATCH of this attempt is known in its channel's row."""
    return f"{claimed.id}.{claimed.attempt}"


def _settle_channel(tx: Tx, claimed: Claimed, settlement: Settlement) -> None:
    """Write the result of an attempt at a channel: the report, the move, what it follows now."""
    app, name, image = claimed.app, claimed.version, claimed.image
    for call in settlement.calls:
        if call.method == PATCH:
            unknown = call.effect is Effect.UNKNOWN
            (expect_answer if unknown else was_answered)(tx, app, name, call_of(claimed))
    if settlement.state is not State.DONE:
        return
    digest = settlement.digest or claimed.digest
    report = Report(digest, claimed.push_time)
    note_report(tx, app, name, image, report, registration=claimed.id)
    if settlement.outcome is Outcome.SUPERSEDED:
        return
    before, ordered = held(tx, app, name), is_ordered(claimed.pushed, claimed.holds)
    was_there = None if before is None else before.image
    if settlement.outcome is not Outcome.UNCHANGED or was_there != image:
        note_move(
            tx,
            app,
            name,
            image,
            report,
            before=was_there,
            action=claimed.holds.action if ordered else PUSH,
            rule=claimed.rule,
            registration=claimed.id,
        )
    new = Held(image.repository, image.tag, settlement.digest, claimed.push_time, claimed.id)
    created = settlement.outcome is Outcome.CREATED
    hold(tx, app, name, new, mode=claimed.mode.value, created=created)
    note_followed(
        tx, app, name, image.tag, seen=claimed.holds, ordered=ordered, sent=settlement.sent
    )


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
