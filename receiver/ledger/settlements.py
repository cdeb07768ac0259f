"""Registrations worked on: each call recorded before it is sent, and what came of it settled.

Who lost the lease writes nothing: each of these statements names the owner and the fence.
"""

import json
from dataclasses import dataclass, field

from receiver.edgegap.answers import Answer
from receiver.ledger.holding import Held, hold
from receiver.ledger.registrations import Claimed
from receiver.ledger.transactions import Tx
from receiver.reasons import Outcome, Reason, State
from receiver.retry import Waited

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
  milliseconds, message)
 VALUES (:id, :attempt, :step, :at, :method, :path, :status, :milliseconds, :message)
 ON CONFLICT (registration_id, attempt, step) DO UPDATE SET status = excluded.status,
  milliseconds = excluded.milliseconds, message = excluded.message, at = excluded.at"""
_SETTLED = """SELECT 1 FROM registrations WHERE id = :id AND fence = :fence AND state = :state
  AND lease_owner IS NULL"""
_STILL_OURS = """SELECT 1 FROM registrations
 WHERE id = :id AND state = 'working' AND lease_owner = :owner AND fence = :fence"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ended. `due_at` and `waited` matter only when it waits.

    `warnings` are those of the notes that a notification repeats.
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
    calls: tuple[Answer, ...] = ()


def was_settled(tx: Tx, claimed: Claimed, settlement: Settlement) -> bool:
    """Tell whether this very settlement is in the ledger: its transaction's answer was lost."""
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
    if settlement.state is State.DONE and settlement.outcome is not Outcome.SUPERSEDED:
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
    )
