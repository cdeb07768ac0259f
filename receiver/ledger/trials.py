"""Trials in the ledger: each run of a deployment, and what it proved of an image."""

import json

import msgspec
from msgspec.structs import asdict

from receiver.backoff import MAX_CALL
from receiver.images import ImageReference
from receiver.ledger import views
from receiver.ledger.targets import STRETCH, is_reported
from receiver.ledger.transaction import Tx
from receiver.reasons import State
from receiver.rules.channel_order import Evidence
from receiver.rules.trial import Phase, TrialRun

TRIAL = "x"
STOPPED_UNWATCHED = "its deployment was stopped while nothing worked on it"
# The registrations of which a deployment may run: by the index `trials_running`.
RUNNING = """SELECT t.registration_id FROM trials t
 WHERE t.stopped_at IS NULL AND t.requested_at IS NOT NULL"""

_COLUMNS = """request_id, requested_at, ready_at, left_at, unread_at, decided_at, passed, why,
 exit_code, log, notes, stop_at, stopped_at"""
# One that runs comes before one that is planned: what is kept is stopped before the next begins.
_CURRENT = """ORDER BY requested_at IS NOT NULL AND stopped_at IS NULL DESC, id DESC LIMIT 1"""
_LAST = f"""SELECT id, at, keep, {_COLUMNS}, (SELECT count(*) FROM trials e
   WHERE e.registration_id = :registration AND e.id < t.id AND e.passed IS NULL AND e.why <> ''
  ) AS repeats
 FROM trials t WHERE registration_id = :registration {_CURRENT}"""  # noqa: S608 - constant SQL
_INSERT = """INSERT INTO trials (id, registration_id, app, version, repository, tag, digest, at,
  keep, requested_at)
 SELECT :id, r.id, r.app, r.version, r.repository, r.tag, r.digest, :near, :keep, :requested_at
  FROM registrations r WHERE r.id = :registration"""
_OPEN = """SELECT id, state FROM registrations WHERE app = :app AND version = :version
 AND repository = :repository AND tag = :tag AND mode = 'trial' AND state <> 'done'"""
_REQUESTED = """UPDATE trials SET requested_at = :now,
  digest = (SELECT r.digest FROM registrations r WHERE r.id = registration_id) WHERE id = :id"""
_NOTE = f"""UPDATE trials SET
  digest = coalesce(digest, (SELECT r.digest FROM registrations r WHERE r.id = :registration)),
  request_id = :request_id, requested_at = :requested_at,
  ready_at = :ready_at, left_at = :left_at, unread_at = :unread_at, decided_at = :decided_at,
  passed = :passed, why = :why, exit_code = :exit_code, log = :log, notes = :notes,
  stop_at = :stop_at, stopped_at = :stopped_at
 WHERE id = (SELECT id FROM trials WHERE registration_id = :registration {_CURRENT})"""  # noqa: S608
# Of a digest, whatever its tag.
_VERDICT = """SELECT passed FROM trials
 WHERE app = :app AND repository = :repository AND digest = {digest} AND passed IS NOT NULL
 ORDER BY id DESC LIMIT 1"""
_VERDICT_OF_DIGEST = _VERDICT.format(digest=":digest")
# Its registration may be purged: then its push was before the run.
_PUSHED_AGAIN = """SELECT 1 FROM targets g
 WHERE g.app = t.app AND g.version = t.version AND g.repository = t.repository AND g.tag = t.tag
  AND g.mode = 'create' AND g.push_time / 1000 > coalesce(
    (SELECT r.push_time FROM registrations r WHERE r.id = t.registration_id), t.requested_at)
   / 1000"""
_VERDICT_OF_TAG = f"""SELECT t.passed, t.digest FROM (SELECT * FROM trials
  WHERE app = :app AND repository = :repository AND tag = :tag AND passed IS NOT NULL
  ORDER BY id DESC LIMIT {STRETCH}) t
 WHERE NOT EXISTS ({_PUSHED_AGAIN}) ORDER BY t.id DESC LIMIT 1"""  # noqa: S608 - constant SQL
_PASSED = f"""SELECT o.digest FROM (SELECT id, digest FROM trials
  WHERE app = :app AND repository = :repository AND tag = :tag AND passed AND digest IS NOT NULL
  ORDER BY id DESC LIMIT {STRETCH}) o
 WHERE ({_VERDICT.format(digest="o.digest")})
 GROUP BY o.digest ORDER BY max(o.id) DESC"""  # noqa: S608 - constant SQL
_UNSTOPPED = """SELECT t.id, t.registration_id, t.request_id, t.app, t.version, t.requested_at,
  coalesce(t.stop_at > t.decided_at, false) AS is_kept
 FROM trials t LEFT JOIN registrations r ON r.id = t.registration_id
 WHERE t.stopped_at IS NULL AND t.requested_at IS NOT NULL"""
# Runs that nobody works on: their registration has ended, is parked or is gone.
_LEFT = f"""{_UNSTOPPED} AND (t.stop_at IS NULL OR t.stop_at <= :now)
  AND (r.id IS NULL OR r.state IN ('done', 'parked'))"""
_ACTIVE = """SELECT request_id FROM trials WHERE registration_id = :registration
 AND stopped_at IS NULL ORDER BY id DESC LIMIT 1"""
_KNOWN = """SELECT 1 FROM registrations WHERE id = :id
 UNION ALL SELECT 1 FROM trials WHERE registration_id = :id LIMIT 1"""
_STATE = "SELECT state FROM registrations WHERE id = :id {lock}"
_STOP = """UPDATE trials SET request_id = coalesce(request_id, :request_id),
  stop_at = coalesce(stop_at, :now),
  why = CASE WHEN passed IS NULL AND why = '' THEN :why ELSE why END
 WHERE id = :id AND stopped_at IS NULL"""
_STOPPED = "UPDATE trials SET stopped_at = :now WHERE id = :id AND stopped_at IS NULL"
_TIME = """SELECT app, sum(stopped_at - requested_at) AS milliseconds FROM trials
 WHERE requested_at IS NOT NULL AND request_id IS NOT NULL AND stopped_at IS NOT NULL {which}
 GROUP BY app ORDER BY app"""
# One that was requested comes first, then the older one: two never wait for each other.
_BEFORE = """SELECT r.version FROM registrations r
 WHERE r.app = :app AND r.state <> 'done' AND r.state <> 'parked' AND r.mode = 'trial'
  AND r.repository || '' = :repository AND r.digest = :digest AND r.id <> :id
  AND (r.id < :id OR EXISTS (SELECT 1 FROM trials t WHERE t.registration_id = r.id
   AND t.requested_at IS NOT NULL AND t.stopped_at IS NULL))
 ORDER BY r.id LIMIT 1"""
_WAKE = """UPDATE registrations SET due_at = :now WHERE app = :app AND repository = :repository
 AND (tag = :tag OR digest = CAST(:digest AS TEXT))
 AND mode IN ('channel', 'trial') AND state = 'waiting' AND due_at > :now"""

_WAKE_NEXT = """UPDATE registrations SET due_at = :now WHERE id = (
 SELECT r.id FROM registrations r
  WHERE r.state = 'waiting' AND r.waiting_reason = 'no_capacity' AND r.due_at > :now
   AND NOT EXISTS (SELECT 1 FROM pauses p WHERE p.repository IN (r.repository, '*'))
  ORDER BY r.id DESC LIMIT 1)"""


class OrphanedRun(msgspec.Struct, frozen=True):
    """A run whose deployment may still be there although no registration works on it.

    `may_appear`: Edgegap may carry out the request late. `is_kept`: it ran on after its verdict, as
    was wanted, and that time is over. `at_end`: nothing works on it because the process ends.
    """

    id: str
    registration: str
    request_id: str | None
    app: str
    version: str
    may_appear: bool
    is_kept: bool
    at_end: bool = False


def last_run(tx: Tx, registration: str) -> TrialRun | None:
    """Return the last run of a registration, None if there was none."""
    row = tx.run(_LAST, registration=registration).mappings().first()
    if row is None:
        return None
    values = {name: row[name] for name in TrialRun.__struct_fields__ if name in row}
    passed = None if row["passed"] is None else bool(row["passed"])
    lists = {name: tuple(json.loads(row[name])) for name in ("log", "notes")}
    return TrialRun(**{**values, "near": row["at"], "passed": passed, **lists})


def shown_run(tx: Tx, registration: str) -> views.TrialRun | None:
    """Return the last run of a registration as people see it, None if there was none."""
    run = last_run(tx, registration)
    if run is None:
        return None
    return views.read_view(views.TrialRun, asdict(run), deployment=run.request_id)


def is_under_way(tx: Tx, app: str, version: str, image: ImageReference) -> bool:
    """Return whether a trial of an image under this version is requested or not yet over.

    A deployment that is only kept after its verdict is no trial any more.
    """
    where = {"app": app, "version": version, "repository": image.repository, "tag": image.tag}
    row = tx.run(_OPEN, **where).first()
    if row is None:
        return False
    run = last_run(tx, row.id)
    if row.state == State.PARKED and run is not None and run.is_kept:
        return False
    return row.state == State.WORKING or (run is not None and run.phase is not Phase.ENDED)


def plan_run(tx: Tx, registration: str, *, near: str, keep: int | None) -> None:
    """Record that a person wants a run, near a location and kept for that time (ms)."""
    given = {"registration": registration, "near": near, "keep": keep}
    tx.run(_INSERT, id=tx.new_id(TRIAL), requested_at=None, **given)


def begin_run(tx: Tx, registration: str) -> None:
    """Record that a deployment is about to be requested; a planned run begins with it.

    After a run without a verdict it is the same trial, near the same location.
    """
    last = tx.run(_LAST, registration=registration).first()
    if last is not None and last.requested_at is None and last.stopped_at is None:
        tx.run(_REQUESTED, id=last.id, now=tx.now)
        return
    near, keep = ("", None) if last is None or last.passed is not None else (last.at, last.keep)
    given = {"registration": registration, "near": near, "keep": keep, "requested_at": tx.now}
    tx.run(_INSERT, id=tx.new_id(TRIAL), **given)


def note_run(tx: Tx, registration: str, run: TrialRun) -> None:
    """Write what an attempt found of the last run of its registration.

    A deployment that is stopped after its verdict leaves room for one of the trials that wait for
    it: the newest, which may make the others unnecessary.
    """
    lists = {name: json.dumps(getattr(run, name), ensure_ascii=False) for name in ("log", "notes")}
    tx.run(_NOTE, registration=registration, **{**asdict(run), **lists})
    if run.stopped_at is not None and run.passed is not None:
        tx.run(_WAKE_NEXT, now=tx.now)


def has_passed(tx: Tx, app: str, image: ImageReference, digest: str | None) -> bool | None:
    """Return the last verdict on an image, None if there is none.

    It is the verdict of this digest, under any tag: a run whose digest is not known proves nothing
    of it. Without a digest it is that of the tag's last run, if the tag was not pushed again since.
    """
    named = {"app": app, "repository": image.repository, "tag": image.tag}
    if digest is None:
        last = tx.run(_VERDICT_OF_TAG, **named).first()
        if last is None or last.digest is None:
            return None if last is None else bool(last.passed)
        digest = last.digest
    found = tx.run(_VERDICT_OF_DIGEST, **named, digest=digest).scalar()
    return None if found is None else bool(found)


def has_any_passed(tx: Tx, app: str) -> bool:
    """Return whether any image of an app ever passed a trial."""
    look = "SELECT 1 FROM trials WHERE app = :app AND passed LIMIT 1"
    return tx.run(look, app=app).first() is not None


def passed_digests(tx: Tx, app: str, image: ImageReference) -> tuple[str, ...]:
    """Return the digests of an image's tag whose last trial passed, the last tried first."""
    rows = tx.run(_PASSED, app=app, repository=image.repository, tag=image.tag)
    return tuple(str(row.digest) for row in rows)


def trial_evidence(
    tx: Tx, registration: str, app: str, image: ImageReference, *, digest: str | None
) -> Evidence:
    """Return the verdict on an image, and which version with the same digest is tried first."""
    named = {"app": app, "repository": image.repository, "digest": digest, "id": registration}
    first = None if digest is None else tx.run(_BEFORE, **named).scalar()
    passed, reported = has_passed(tx, app, image, digest), is_reported(tx, registration)
    return Evidence(passed, digest=digest, tried_first=first, reported=reported)


def wake_channels(tx: Tx, app: str, image: ImageReference, digest: str | None) -> None:
    """Let what waits for a trial of this image be decided now: moves, and trials of its digest."""
    named = {"app": app, "repository": image.repository, "tag": image.tag, "digest": digest}
    tx.run(_WAKE, **named, now=tx.now)


def orphaned_runs(tx: Tx, *, at_end: bool = False) -> list[OrphanedRun]:
    """Return the runs whose deployment nobody stops any more; `at_end`: all that are not stopped.

    The latter are for a process that works on the ledger alone, and ends now.
    """
    rows = tx.run(_UNSTOPPED) if at_end else tx.run(_LEFT, now=tx.now)
    return [
        OrphanedRun(
            row.id,
            row.registration_id,
            row.request_id,
            row.app,
            row.version,
            row.request_id is None and tx.now - row.requested_at < MAX_CALL,
            bool(row.is_kept),
            at_end,
        )
        for row in rows
    ]


def may_run(tx: Tx, registration: str | None = None) -> bool:
    """Return whether a deployment of the registration may run; without one, of any."""
    which = "" if registration is None else "AND t.registration_id = :registration"
    return tx.run(f"{RUNNING} {which} LIMIT 1", registration=registration).first() is not None


def is_wanted(tx: Tx, registration: str, request_id: str) -> bool:
    """Return whether a deployment is one that its registration still works on."""
    row = tx.run(_ACTIVE, registration=registration).first()
    return row is not None and row.request_id in {None, request_id}


def is_ours(tx: Tx, registration: str) -> bool:
    """Return whether the ledger knows the registration: then its deployments are ours."""
    return tx.run(_KNOWN, id=registration).first() is not None


def note_stop(tx: Tx, left: OrphanedRun, request_id: str) -> bool:
    """Record that the deployment of a run is about to be stopped, unless it is worked on again.

    A run without a verdict then proves nothing: its registration repeats it.
    """
    look = _STATE.format(lock="FOR UPDATE" if tx.postgresql else "")
    state = tx.run(look, id=left.registration).scalar()
    if state not in {None, State.DONE, State.PARKED} and not left.at_end:
        return False
    tx.run(_STOP, id=left.id, request_id=request_id, now=tx.now, why=STOPPED_UNWATCHED)
    return True


def note_stopped(tx: Tx, identity: str) -> None:
    """Record that no deployment of the run is there any more."""
    tx.run(_STOPPED, id=identity, now=tx.now)


def was_tried(tx: Tx) -> bool:
    """Return whether the ledger knows any trial."""
    return tx.run("SELECT 1 FROM trials LIMIT 1").first() is not None


def trial_time(tx: Tx, app: str | None = None) -> dict[str, int]:
    """Return for how long the deployments of trials ran, of each app or of one, in milliseconds."""
    rows = tx.run(_TIME.format(which="" if app is None else "AND app = :app"), app=app)
    return {row.app: int(row.milliseconds or 0) for row in rows}
