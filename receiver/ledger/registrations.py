"""Registrations taken up: claimed with a lease and a fence, with all that is known of them."""

import json
from operator import itemgetter

import msgspec
from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.edgegap.responses import Answer, Effect
from receiver.images import ImageReference
from receiver.ledger.approvals import approval_of, wait_for_other_image
from receiver.ledger.channels import (
    FIRST_REPORT,
    PUSH,
    channel_images,
    known_report,
    later_tags,
    note_followed,
    note_move,
    note_report,
    read_channel_state,
)
from receiver.ledger.comparisons import expect_answer, was_answered
from receiver.ledger.deletions import deleted_before
from receiver.ledger.due import COLUMNS, CRASHES_TO_ALONE, take_due
from receiver.ledger.result import Result
from receiver.ledger.sent_settings import note_linked, note_sent
from receiver.ledger.targets import digest_of_tag, led_by_new_push, read_target, store_target
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import (
    begin_run,
    has_passed,
    last_run,
    note_run,
    passed_digests,
    trial_evidence,
)
from receiver.reasons import Outcome, Reason, State
from receiver.rules.channel_order import ChannelState, Evidence, Pushed, Report, is_ordered
from receiver.rules.rule import Mode
from receiver.rules.trial import TrialRun
from receiver.signing import Approvable

NEED_EVIDENCE = frozenset({Reason.NEEDS_TRIAL, Reason.NEEDS_APPROVAL})
_READ = f"SELECT {COLUMNS} FROM registrations WHERE id = :id"  # noqa: S608 - our words
_WRITES = """SELECT method, effect FROM requests
 WHERE registration_id = :id AND method IN ('POST', 'PATCH', 'DELETE')"""
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


class Claimed(msgspec.Struct, frozen=True):
    """A registration in our hands, until the lease runs out or it is settled.

    `ours`: a POST of ours may have made the version; `moved`: a PATCH of ours may have moved it.
    `made_room`: a version was deleted for it once. `by_hand`: a person asked for it, and its push
    is not the newest. `to_try`: its rule tries versions. `alone`: its workers died repeatedly, so
    nothing else is worked on at the same time. `deleted`: why the version was deleted, if it only
    repeats a push from before that. `trial` is its last run, if it tries a version. For a channel,
    `reported_at` is when the push was first reported (epoch ms), `channel_state` what the receiver
    last put into it, `known` the last report of this tag to it, `later` the tags of later pushes
    that are being worked on, and `evidence` what a move or a trial needs. `known_digest` is the
    tag's when it was last reported to the target.
    """

    id: str
    rule: str
    app: str
    version: str
    mode: Mode
    image: ImageReference
    push_time: int
    attempt: int
    fence: int
    waited: WaitState
    created_at: int
    ours: bool = False
    moved: bool = False
    made_room: bool = False
    reported_at: int = 0
    channel_state: ChannelState = msgspec.field(default_factory=ChannelState)
    known: Report | None = None
    later: frozenset[str] = frozenset()
    overwritten: bool = False
    replayed: bool = False
    by_hand: bool = False
    to_try: bool = False
    alone: bool = False
    deleted: str | None = None
    digest: str | None = None
    known_digest: str | None = None
    trial: TrialRun | None = None
    evidence: Evidence = msgspec.field(default_factory=Evidence)

    @property
    def pushed(self) -> Pushed:
        """The push, as the order of a channel sees it."""
        image = self.image
        return Pushed(
            image.repository, image.tag, self.push_time, self.id, self.reported_at, self.known
        )

    @property
    def names(self) -> dict[str, str]:
        """Its rule and its target, by name."""
        return {"rule": self.rule, "app": self.app, "version": self.version}

    def allows_overwrite(self, digest: str | None) -> bool:
        """Return whether a person replayed it after it was parked for this very image."""
        return self.replayed and self.digest in {None, digest}


def claim(tx: Tx, *, owner: str, most: int, alone: bool = False) -> list[Claimed]:
    """Take up to `most` registrations that are due, one for each target.

    `alone`: of those that must be worked on alone, else of the others.
    """
    rows = take_due(tx, owner=owner, most=most, alone=alone)
    return [_claimed(tx, row) for row in sorted(rows, key=itemgetter("id"))]


def read_claimed(tx: Tx, identity: str) -> Claimed:
    """Return a registration as a worker would get it, without claiming it."""
    return _claimed(tx, tx.run(_READ, id=identity).mappings().one())


def _claimed(tx: Tx, row: object) -> Claimed:
    values = dict(row)  # type: ignore[call-overload]  # a RowMapping
    reason = values["waiting_reason"]
    claimed = Claimed(
        id=values["id"],
        rule=values["rule"],
        app=values["app"],
        version=values["version"],
        mode=Mode(values["mode"]),
        image=ImageReference(repository=values["repository"], tag=values["tag"]),
        push_time=values["push_time"],
        attempt=values["attempts"],
        fence=values["fence"],
        waited=WaitState(
            reason and _known(reason),
            values["waiting_since"],
            values["waits"],
            values["waiting_first"],
        ),
        created_at=values["created_at"],
        overwritten=bool(values["overwritten"]),
        replayed=bool(values["replayed"]),
        by_hand=bool(values["by_hand"]),
        to_try=bool(values["to_try"]),
        alone=values["crashes"] >= CRASHES_TO_ALONE,
        digest=values["digest"],
    )
    if claimed.attempt > 1:
        writes = [(row.method, row.effect) for row in tx.run(_WRITES, id=claimed.id)]
        made = {method for method, effect in writes if effect != Effect.NONE}
        claimed = replace(
            claimed,
            ours="POST" in made,
            moved="PATCH" in made,
            made_room=any(method == "DELETE" for method, _ in writes),
        )
    if not claimed.replayed and (why := deleted_before(tx, claimed.id)) is not None:
        claimed = replace(claimed, deleted=None if led_by_new_push(tx, claimed.id) else why)
    return with_what_is_known(tx, claimed)


def with_what_is_known(tx: Tx, claimed: Claimed) -> Claimed:
    """Return it with what the ledger knows of its target and of its tag there."""
    app, version, image = claimed.app, claimed.version, claimed.image
    if claimed.mode is Mode.CHANNEL:
        known = known_report(tx, app, version, image, registration=claimed.id)
        digest = None if known is None else known.digest
        channel_state = read_channel_state(tx, app, version)
        first: int | None = tx.run(f"{FIRST_REPORT} :id", id=claimed.id).scalar()
        at = claimed.created_at if first is None else first
        claimed = replace(
            claimed, reported_at=at, channel_state=channel_state, known=known, known_digest=digest
        )
        evidence, later = _evidence(tx, claimed), later_tags(tx, app, claimed.pushed)
        return replace(claimed, evidence=evidence, later=later)
    digest = digest_of_tag(tx, app, version, image, registration=claimed.id)
    if claimed.mode is Mode.TRIAL:
        found = trial_evidence(tx, claimed.id, app, image, digest=claimed.digest)
        claimed = replace(claimed, trial=last_run(tx, claimed.id), evidence=found)
    return replace(claimed, known_digest=digest)


def _evidence(tx: Tx, claimed: Claimed) -> Evidence:
    app, image, digest = claimed.app, claimed.image, claimed.digest
    approval = approval_of(tx, Approvable(app, claimed.version, image, digest, claimed.push_time))
    return Evidence(
        passed=has_passed(tx, app, image, digest),
        approved=approval is not None,
        digest=digest,
        proven=frozenset(passed_digests(tx, app, image)),
        channels=channel_images(tx, app),
    )


def _known(reason: str) -> Reason:
    """Return the reason; one of a newer program, which an upgrade begins with, is as a fault."""
    return Reason(reason) if reason in set(Reason) else Reason.FAULT


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
    if look_again or _evidence(tx, claimed) != claimed.evidence:
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


def adopt(tx: Tx, app: str, name: str, shown: ChannelState, *, seen: ChannelState) -> None:
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
    _follow(tx, (app, name), image, report, move)


class _Move(msgspec.Struct, frozen=True):
    """A channel's move by a registration: `seen` is what the decision went by."""

    registration: str
    rule: str
    ordered: bool
    seen: ChannelState
    sent: str | None = None
    outcome: Outcome | None = None


def _follow(
    tx: Tx, place: tuple[str, str], image: ImageReference, report: Report, move: _Move
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
    note_followed(tx, *place, image, seen=move.seen, ordered=move.ordered, sent=move.sent)


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
