"""Claims: which registrations are worked on next, by whom, and until when.

First a step of each trial whose deployment may run: it costs money until it is stopped. Then
versions and channels, the oldest first. The other trials come last: hundreds may wait for room at
Edgegap, and would all be tried again before a new push gets its version.

A claim has a lease, which is renewed during the work, returned at a stop, and reclaimed when its
owner is dead. A worker that lost its lease cannot renew it: the statement checks the owner and the
fence.
"""

from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.edgegap.responses import Effect
from receiver.images import ImageReference
from receiver.ledger.approvals import approval_of
from receiver.ledger.channels import (
    FIRST_REPORT,
    channel_images,
    known_report,
    later_tags,
    read_channel_state,
)
from receiver.ledger.deletions import deleted_before
from receiver.ledger.targets import digest_of_tag, reports_new_push
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import RUNNING, has_passed, last_run, passed_digests, trial_evidence
from receiver.reasons import Reason, State, explain
from receiver.rules.channel_order import ChannelState, Evidence, Pushed, Report
from receiver.rules.rule import Mode
from receiver.rules.trial import TrialRun
from receiver.signing import Approvable

LEASE_MS = 30_000
CRASHES_TO_ALONE = 5  # after this many in a row nothing else is worked on with it
_COLUMNS = """id, rule, app, version, mode, repository, tag, push_time, attempts, fence, crashes,
  waiting_reason, waiting_since, waiting_first, waits, created_at, digest, overwritten, replayed,
  by_hand, to_try"""

# A pause holds back what was not begun: a deployment that was requested is watched and stopped.
_GOES_ON = f"""(NOT EXISTS (SELECT 1 FROM pauses p WHERE p.repository IN ({{0}}.repository, '*'))
   OR {{0}}.id IN ({RUNNING}))"""  # noqa: S608 - constant SQL
_TURN = f"""CASE WHEN {{0}}.mode <> 'trial' THEN 2 WHEN {{0}}.id IN ({RUNNING}) THEN 1
   ELSE 3 END"""

# Not `IN ('queued', 'waiting')`: for that SQLite takes the index by state, and sorts the whole
# queue; in these words it walks an index of what is due, and stops at the last one it needs.
# During an upgrade a newer replica may write modes that this version does not know: it skips them.
# Moves of a channel are claimed newest push first, so that older ones end as superseded.
# The selection is a separate query, so that PostgreSQL runs it once, whatever plan it uses.
_CLAIM = f"""WITH due AS MATERIALIZED (
  SELECT r.id FROM {{first}} registrations r
   WHERE r.state NOT IN ('done', 'parked', 'working') AND r.due_at <= :now
    AND r.mode IN ('create', 'channel', 'trial') AND {{which}}
    AND {_GOES_ON.format("r")}
    AND NOT EXISTS (SELECT 1 FROM registrations w
      WHERE w.app = r.app AND w.version = r.version AND w.state = 'working')
    AND NOT EXISTS (SELECT 1 FROM deletions d
      WHERE d.app = r.app AND d.version = r.version AND d.ended_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM registrations o
      WHERE o.app = r.app AND o.version = r.version AND o.state <> 'done'
       AND o.state NOT IN ('done', 'parked', 'working')
       AND o.due_at <= :now
       AND CASE WHEN r.mode = 'channel' THEN (o.push_time, o.id) > (r.push_time, r.id)
        ELSE ({_TURN.format("o")}, o.due_at, o.id) < ({_TURN.format("r")}, r.due_at, r.id) END
       AND {_GOES_ON.format("o")})
   ORDER BY r.due_at, r.id LIMIT :most {{lock}})
 UPDATE registrations SET state = 'working', lease_owner = :owner, lease_until = :until,
  attempts = attempts + 1, fence = fence + 1, look_again = false, updated_at = :now
 WHERE state NOT IN ('done', 'parked', 'working') AND id IN (SELECT id FROM due)
 RETURNING {_COLUMNS}"""  # noqa: S608 - constant SQL
_NOT_ALONE = f"r.crashes < {CRASHES_TO_ALONE}"
# Repeats the predicate of the index `registrations_alone`. `+` keeps SQLite from the index of what
# is due.
_ALONE = f"r.crashes >= {CRASHES_TO_ALONE}"
_WAITS_ALONE = f"""SELECT 1 FROM registrations r
 WHERE {_ALONE} AND r.state NOT IN ('done', 'parked', 'working')
  AND +r.due_at <= :now AND r.mode IN ('create', 'channel', 'trial')
  AND {_GOES_ON.format("r")} LIMIT 1"""  # noqa: S608 - constant SQL
# In this order, each by an index of its own. The few of the first are looked up one by one.
_RUNS = (f"({RUNNING}) t CROSS JOIN", f"r.id = t.registration_id AND {_NOT_ALONE}")
_NO_TRIAL, _TRIAL = "r.mode <> 'trial'", "r.mode = 'trial'"
_IN_TURN = (_RUNS, ("", f"{_NO_TRIAL} AND {_NOT_ALONE}"), ("", f"{_TRIAL} AND {_NOT_ALONE}"))
_NEXT_DUE = f"""SELECT r.due_at FROM registrations r
 WHERE r.state NOT IN ('done', 'parked', 'working')
  AND r.mode IN ('create', 'channel', 'trial') AND {{which}}
  AND {_GOES_ON.format("r")}
 ORDER BY r.due_at, r.id LIMIT 1"""  # noqa: S608 - constant SQL
_READ = f"SELECT {_COLUMNS} FROM registrations WHERE id = :id"  # noqa: S608 - constant SQL
_WRITES = """SELECT method, effect FROM requests
 WHERE registration_id = :id AND method IN ('POST', 'PATCH', 'DELETE')"""
MAX_CRASHES = CRASHES_TO_ALONE + 1
_FOREVER = 2**62

_RENEW = """UPDATE registrations SET lease_until = :until
 WHERE id = :id AND state = 'working' AND lease_owner = :owner AND fence = :fence"""
# `due_at` is kept: interrupted work comes before work that was queued since. After a second crash
# the work goes to the end of the queue: it may be the cause of the crashes.
_HAND_BACK = """UPDATE registrations SET state = 'queued', lease_owner = NULL,
  lease_until = NULL, updated_at = :now
 WHERE id = :id AND state = 'working' AND lease_owner = :owner"""
_OWN = "SELECT id FROM registrations WHERE state = 'working' AND lease_owner = :owner"
_EXPIRED = """SELECT id FROM registrations
 WHERE state = 'working' AND lease_until < :before ORDER BY id {lock}"""
_VOID = """UPDATE registrations SET crashes = crashes + 1, lease_owner = NULL, lease_until = NULL,
  due_at = CASE WHEN crashes = 0 THEN due_at ELSE :now END, updated_at = :now,
  state = CASE WHEN crashes + 1 >= :most THEN 'parked' ELSE 'queued' END,
  reason = CASE WHEN crashes + 1 >= :most THEN :reason END,
  sentence = CASE WHEN crashes + 1 >= :most THEN :sentence ELSE '' END
 WHERE id = :id AND state = 'working' RETURNING state"""


class Claimed(msgspec.Struct, frozen=True):
    """A claimed registration, with all that an attempt at it needs.

    `ours`: a POST of ours may have made the version; `moved`: a PATCH of ours may have moved
    it. `deleted_for_room`: a version was deleted for it once. `by_hand`: a person asked for it,
    and its push is not the newest. `to_try`: its rule tries versions. `alone`: its workers died
    repeatedly, so nothing else is worked on at the same time. `deleted`: why the version was
    deleted, if it only repeats a push from before that. `trial` is its last run, if it tries a
    version. For a channel, `reported_at` is when the push was first reported (epoch ms),
    `channel_state` what the receiver last put into it, `known` the last report of this tag to
    it, `later` the tags of later pushes that are being worked on, and `evidence` what a move or
    a trial needs. `known_digest` is the tag's when it was last reported to the target.
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
    deleted_for_room: bool = False
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
    rows = _take_due(tx, owner=owner, most=most, alone=alone)
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
            deleted_for_room=any(method == "DELETE" for method, _ in writes),
        )
    if not claimed.replayed and (why := deleted_before(tx, claimed.id)) is not None:
        claimed = replace(claimed, deleted=None if reports_new_push(tx, claimed.id) else why)
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
        evidence, later = evidence_of(tx, claimed), later_tags(tx, app, claimed.pushed)
        return replace(claimed, evidence=evidence, later=later)
    digest = digest_of_tag(tx, app, version, image, registration=claimed.id)
    if claimed.mode is Mode.TRIAL:
        found = trial_evidence(tx, claimed.id, app, image, digest=claimed.digest)
        claimed = replace(claimed, trial=last_run(tx, claimed.id), evidence=found)
    return replace(claimed, known_digest=digest)


def evidence_of(tx: Tx, claimed: Claimed) -> Evidence:
    """Return what a move of a channel needs, as far as it is there now."""
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
    """Return the reason; one that only a newer version knows is read as a fault."""
    return Reason(reason) if reason in set(Reason) else Reason.FAULT


def _take_due(tx: Tx, *, owner: str, most: int, alone: bool = False) -> list[Mapping[Any, Any]]:
    """Give up to `most` registrations that are due to the owner, one for each target.

    `alone`: of those that must be worked on alone, else of the others.
    """
    lock = "FOR UPDATE OF r SKIP LOCKED" if tx.postgresql else ""
    times = {"now": tx.now, "until": tx.now + LEASE_MS}
    taken: list[Mapping[Any, Any]] = []
    for first, which in [("", _ALONE)] if alone else _IN_TURN:
        if len(taken) < most:
            sql = _CLAIM.format(lock=lock, first=first, which=which)
            taken += tx.run(sql, owner=owner, most=most - len(taken), **times).mappings()
    return taken


def waits_alone(tx: Tx) -> bool:
    """Return whether one that must be worked on alone is due."""
    return tx.run(_WAITS_ALONE, now=tx.now).first() is not None


def next_due(tx: Tx) -> int | None:
    """Return when the next registration is due (epoch ms), None when none is queued."""
    times = [tx.run(_NEXT_DUE.format(which=which)).scalar() for which in (_NO_TRIAL, _TRIAL)]
    return min((int(due) for due in times if due is not None), default=None)


def renew(tx: Tx, claims: Iterable[Claimed], owner: str) -> list[str]:
    """Renew the leases; return the ids of those that are lost."""
    lost = []
    for claimed in sorted(claims, key=_place):
        renewed = tx.run(
            _RENEW, id=claimed.id, owner=owner, fence=claimed.fence, until=tx.now + LEASE_MS
        )
        if not renewed.rowcount:
            lost.append(claimed.id)
    return lost


def _place(claimed: Claimed) -> tuple[str, ...]:
    """In the order in which pushes join registrations, so that replicas cannot deadlock."""
    return claimed.app, claimed.version, claimed.mode, claimed.image.repository, claimed.image.tag


def release_lease(tx: Tx, owner: str, *, in_progress: Collection[str] = ()) -> int:
    """Release the owner's registrations that it is not working on, without counting a crash.

    At a stop these are all of them; otherwise those claimed by a transaction whose answer was
    lost, as in a restart of the database. Returns how many there were.
    """
    lost = [str(row.id) for row in tx.run(_OWN, owner=owner) if row.id not in in_progress]
    for identity in lost:
        tx.run(_HAND_BACK, id=identity, owner=owner, now=tx.now)
    return len(lost)


class Reclaimed(msgspec.Struct, frozen=True):
    """A registration whose lease a dead worker had, with its state now: queued or parked."""

    id: str
    state: State


def reclaim_expired(
    tx: Tx, *, all_of_them: bool, in_progress: Collection[str] = ()
) -> list[Reclaimed]:
    """Free what a dead worker held, and return it.

    After five crashes in a row a registration is worked on alone, and another crash parks it: a
    registration that crashed only because of another in the same process succeeds alone.

    `all_of_them` is for the start on SQLite: the lock proves that the former owner is dead.
    `in_progress` registrations of this process are not freed, however late their renewal is.
    """
    reason = Reason.CRASHES_THE_WORKER
    lock = "FOR UPDATE SKIP LOCKED" if tx.postgresql else ""
    expired = tx.run(_EXPIRED.format(lock=lock), before=_FOREVER if all_of_them else tx.now)
    reclaimed = []
    for identity in [str(row.id) for row in expired]:
        if identity in in_progress:
            continue
        row = tx.run(
            _VOID,
            id=identity,
            now=tx.now,
            most=MAX_CRASHES,
            reason=reason.value,
            sentence=explain(reason),
        ).one()
        reclaimed.append(Reclaimed(identity, State(row.state)))
    return reclaimed
