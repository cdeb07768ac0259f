"""Results: what an attempt ended with, from the retry policy to the database."""

import json
from typing import Self

import msgspec
from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.edgegap.plans import Rejected
from receiver.edgegap.responses import Answer, Effect
from receiver.edgegap.sent_settings import SentSettings
from receiver.images import ImageReference
from receiver.ledger.approvals import wait_for_other_image
from receiver.ledger.channels import PUSH, note_move, note_report, record_followed_image
from receiver.ledger.claims import Claimed, evidence_of
from receiver.ledger.comparisons import expect_answer, was_answered
from receiver.ledger.sent_settings import note_linked, note_sent
from receiver.ledger.targets import read_target, store_target
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import begin_run, note_run
from receiver.reasons import Outcome, Reason, State
from receiver.rules.channel_order import ChannelState, Report, is_ordered
from receiver.rules.rule import Mode, TargetKey
from receiver.rules.trial import TrialRun

NEED_EVIDENCE = frozenset({Reason.NEEDS_TRIAL, Reason.NEEDS_APPROVAL})
POST, PATCH = "POST", "PATCH"

_SETTLE = """UPDATE registrations SET state = :state, outcome = :outcome, reason = :reason,
  sentence = :sentence, notes = :notes, overwritten = (:overwritten OR overwritten),
  digest = CASE WHEN CAST(:digest AS TEXT) = CAST(:seen AS TEXT) THEN digest
   ELSE COALESCE(CAST(:digest AS TEXT), digest) END,
  due_at = :due_at, waiting_reason = :waiting_reason, waiting_since = :waiting_since,
  waiting_first = :waiting_first, waits = :waits, crashes = 0, lease_owner = NULL,
  lease_until = NULL, updated_at = :now, finished_at = :finished_at
 WHERE id = :id AND state = 'working' AND lease_owner = :owner AND fence = :fence
 RETURNING look_again"""
_LOOK_AGAIN = """UPDATE registrations SET state = 'queued', outcome = NULL, reason = NULL,
  sentence = '', due_at = :now, finished_at = NULL, look_again = false WHERE id = :id"""
_RECORD = """INSERT INTO requests (registration_id, attempt, step, at, method, path, status,
  milliseconds, message, effect)
 VALUES (:id, :attempt, :step, :at, :method, :path, :status, :milliseconds, :message, :effect)
 ON CONFLICT (registration_id, attempt, step) DO UPDATE SET status = excluded.status,
  milliseconds = excluded.milliseconds, message = excluded.message, at = excluded.at,
  effect = excluded.effect"""
_SETTLED = """SELECT 1 FROM registrations WHERE id = :id AND fence = :fence AND state = :state
  AND lease_owner IS NULL"""
_OF = "SELECT rule, digest FROM registrations WHERE id = :id"
_WAS_SENT = """SELECT 1 FROM requests
 WHERE registration_id = :id AND attempt = :attempt AND method = :method"""
_STILL_OURS = """SELECT 1 FROM registrations
 WHERE id = :id AND state = 'working' AND lease_owner = :owner AND fence = :fence"""


class Result(msgspec.Struct, frozen=True):
    """How an attempt ended: done, waiting until `due_at` (epoch ms; 0: due now), or parked.

    `waited` is how long it has waited, stored until the next attempt. `warnings` are the notes that
    a notification repeats. `sent` is the keyed hash of the hidden values that a channel was sent,
    None if none were. `moved`: a channel has the image by a request of ours, even if Edgegap did
    not store everything else that was requested.

    `settings` are those that a version was sent; `planned_again` if they were found out by planning
    the request a second time. `linked` are the pull profiles that this attempt linked.

    `trial` is the run of a registration that tries a version.

    `undecided`: a channel's move is superseded only because its needs are not met; a later report
    is decided again.

    Other registrations must wait too: all until the API token is accepted again (`close_gate`), or
    until `slow_down_until` (epoch ms).
    """

    state: State
    outcome: Outcome | None = None
    reason: Reason | None = None
    sentence: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    due_at: int = 0
    waited: WaitState = msgspec.field(default_factory=WaitState)
    digest: str | None = None
    overwritten: bool = False
    sent: str | None = None
    moved: bool = False
    settings: SentSettings | None = None
    planned_again: bool = False
    linked: tuple[str, ...] = ()
    calls: tuple[Answer, ...] = ()
    trial: TrialRun | None = None
    undecided: bool = False
    close_gate: bool = False
    slow_down_until: int | None = None

    @classmethod
    def done(cls, outcome: Outcome, sentence: str = "") -> Self:
        """Return the result of work that is finished."""
        return cls(State.DONE, outcome=outcome, sentence=sentence)

    @classmethod
    def parked(cls, reason: Reason, sentence: str, warnings: tuple[str, ...] = ()) -> Self:
        """Return the result of work that stops until something changes; `sentence` says what."""
        return cls(State.PARKED, reason=reason, sentence=sentence, warnings=warnings)

    @classmethod
    def rejected(cls, rejected: Rejected) -> Self:
        """Return the result of work for which no request can be planned."""
        return cls.parked(rejected.reason, rejected.sentence, rejected.notes)

    @classmethod
    def waiting(cls, reason: Reason, sentence: str, due_at: int, waited: WaitState) -> Self:
        """Return the result of work whose next attempt is due at `due_at` (epoch ms)."""
        return cls(State.WAITING, reason=reason, sentence=sentence, due_at=due_at, waited=waited)

    def ending_as(self, other: "Result") -> Self:
        """Return what was found and sent in this attempt, ending as the other result."""
        return replace(
            self,
            state=other.state,
            outcome=other.outcome,
            reason=other.reason,
            sentence=other.sentence,
            due_at=other.due_at,
            waited=other.waited,
            close_gate=other.close_gate,
            slow_down_until=other.slow_down_until,
        )

    def shifted(self, step: int) -> Self:
        """Return the result with its times moved by a step of the ledger's clock (ms)."""
        return replace(
            self,
            due_at=self.due_at and self.due_at + step,
            waited=self.waited.shifted(step),
            slow_down_until=self.slow_down_until and self.slow_down_until + step,
            trial=None if self.trial is None else self.trial.shifted(step),
        )


def already_finished(tx: Tx, claimed: Claimed, result: Result) -> bool:
    """Return whether this very result is in the ledger: its transaction's answer was lost."""
    return bool(
        tx.run(_SETTLED, id=claimed.id, fence=claimed.fence, state=result.state.value).first()
    )


def record_request(
    tx: Tx, claimed: Claimed, owner: str, *, step: int, method: str, path: str
) -> bool:
    """Record that a call is about to be sent, so that what it makes is known as ours.

    False when the lease was lost: then it must not be sent.
    """
    if not tx.run(_STILL_OURS, id=claimed.id, owner=owner, fence=claimed.fence).first():
        return False
    call = Answer(method=method, path=path, status=None, message="sent")
    _record_call(tx, claimed, step, call, at=tx.now)
    if claimed.mode is Mode.TRIAL and method == POST:
        begin_run(tx, claimed.id)
    if claimed.mode is Mode.CHANNEL and method == PATCH:
        expect_answer(tx, claimed.app, claimed.version, call_of(claimed))
    return True


def settle(tx: Tx, claimed: Claimed, owner: str, result: Result) -> bool:
    """Write the result of an attempt; False when the lease was lost and nothing was written."""
    finished = result.state in {State.DONE, State.PARKED}
    row = tx.run(
        _SETTLE,
        id=claimed.id,
        owner=owner,
        fence=claimed.fence,
        now=tx.now,
        state=result.state.value,
        outcome=result.outcome and result.outcome.value,
        reason=result.reason and result.reason.value,
        sentence=result.sentence,
        notes=json.dumps(result.notes, ensure_ascii=False),
        digest=result.digest,
        seen=claimed.digest,  # another digest in the row was learned meanwhile, and stays
        overwritten=result.overwritten,
        due_at=result.due_at or tx.now,
        waiting_reason=result.waited.reason and result.waited.reason.value,
        waiting_since=result.waited.since,
        waiting_first=result.waited.first,
        waits=result.waited.times,
        finished_at=tx.now if finished else None,
    ).first()
    if row is None:
        return False
    for step, call in enumerate(result.calls):
        _record_call(tx, claimed, step, call, at=call.at or tx.now)
    _settle_target(tx, claimed, result)
    if finished and row.look_again:
        tx.run(_LOOK_AGAIN, id=claimed.id, now=tx.now)
    if result.reason in NEED_EVIDENCE:
        _settle_wait(tx, claimed, result, look_again=row.look_again)
    return True


def _settle_target(tx: Tx, claimed: Claimed, result: Result) -> None:
    """Write what the target was sent, and what it has now."""
    app, version, image = claimed.app, claimed.version, claimed.image
    if result.settings is not None:
        posted = any(one.method == POST and one.effect is not Effect.NONE for one in result.calls)
        note_sent(
            tx,
            app,
            version,
            result.settings,
            registration=claimed.id,
            planned_again=result.planned_again,
            created=posted or result.planned_again,
        )
    note_linked(tx, app, version, result.linked)
    if claimed.mode is Mode.CHANNEL:
        _settle_channel(tx, claimed, result)
    elif claimed.mode is Mode.TRIAL:
        if result.trial is not None:
            note_run(tx, claimed.id, result.trial)
    elif result.state is State.DONE and result.outcome is not Outcome.SUPERSEDED:
        store_target(
            tx,
            app,
            version,
            image,
            digest=result.digest,
            push_time=claimed.push_time,
            registration=claimed.id,
            mode=claimed.mode,
            created=result.outcome is Outcome.CREATED,
            by_hand=claimed.by_hand,
        )


def _settle_wait(tx: Tx, claimed: Claimed, result: Result, *, look_again: bool) -> None:
    """Decide at once on what waits for a trial or an approval, if either came meanwhile."""
    if look_again or evidence_of(tx, claimed) != claimed.evidence:
        tx.run("UPDATE registrations SET due_at = :now WHERE id = :id", id=claimed.id, now=tx.now)
    seen = result.digest or claimed.digest  # another push may have joined it meanwhile
    wait_for_other_image(tx, claimed.id, digest=seen, push_time=claimed.push_time)


def compare_again(tx: Tx, claimed: Claimed) -> None:
    """Have the channel of a lost lease compared with Edgegap, if this attempt sent a PATCH."""
    if claimed.mode is not Mode.CHANNEL:
        return
    call = {"id": claimed.id, "attempt": claimed.attempt, "method": PATCH}
    if tx.run(_WAS_SENT, **call).first():
        expect_answer(tx, claimed.app, claimed.version, call_of(claimed))


def record_late_move(
    tx: Tx, app: str, name: str, shown: ChannelState, *, seen: ChannelState
) -> None:
    """Record that a channel has what a request asked for whose registration did not end so.

    `shown` is what it has, `seen` what the ledger had of it.
    """
    (asked,) = [one for one in seen.asked if one.registration == shown.registration]
    row = tx.run(_OF, id=asked.registration).one()
    image = ImageReference(repository=asked.repository, tag=asked.tag)
    report = Report(row.digest, asked.push_time)
    move = _Move(asked.registration, row.rule, is_ordered(asked, seen), seen)
    _record_channel_image(tx, TargetKey(app, name), image, report, move)


def call_of(claimed: Claimed) -> str:
    """Return the name by which the PATCH of this attempt is known in its channel's row."""
    return f"{claimed.id}.{claimed.attempt}"


def _settle_channel(tx: Tx, claimed: Claimed, result: Result) -> None:
    """Write the result of an attempt at a channel: the report, the move, what it follows now."""
    app, name, image = claimed.app, claimed.version, claimed.image
    over = result.state is State.DONE
    has = result.moved or (over and result.outcome is not Outcome.SUPERSEDED)
    for call in result.calls:
        if call.method == PATCH:
            certain = call.effect is Effect.NONE or (call.effect is Effect.DONE and has)
            (was_answered if certain else expect_answer)(tx, app, name, call_of(claimed))
    if not (over or result.moved):
        return
    report = Report(result.digest or claimed.digest, claimed.push_time)
    if not has:
        if not result.undecided:
            note_report(tx, app, name, image, report, registration=claimed.id)
        return
    ordered = is_ordered(claimed.pushed, claimed.channel_state)
    sent, outcome = result.sent, result.outcome
    move = _Move(claimed.id, claimed.rule, ordered, claimed.channel_state, sent, outcome)
    _record_channel_image(tx, TargetKey(app, name), image, report, move)


class _Move(msgspec.Struct, frozen=True):
    """A channel's move by a registration: `seen` is what the decision went by."""

    registration: str
    rule: str
    ordered: bool
    seen: ChannelState
    sent: str | None = None
    outcome: Outcome | None = None


def _record_channel_image(
    tx: Tx, place: TargetKey, image: ImageReference, report: Report, move: _Move
) -> None:
    """Write that a channel has the image now: the report, the move, what it follows."""
    note_report(tx, *place, image, report, registration=move.registration)
    before = read_target(tx, *place)
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
    store_target(
        tx,
        *place,
        image,
        digest=report.digest,
        push_time=report.push_time,
        registration=move.registration,
        mode=Mode.CHANNEL,
        created=move.outcome is Outcome.CREATED,
    )
    record_followed_image(tx, *place, image, seen=move.seen, ordered=move.ordered, sent=move.sent)


def _record_call(tx: Tx, claimed: Claimed, step: int, call: Answer, *, at: int) -> None:
    tx.run(
        _RECORD,
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
