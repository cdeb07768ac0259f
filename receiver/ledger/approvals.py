"""Moves of channels that wait, and their approvals: only the first one of a move counts."""

from receiver.images import ImageReference
from receiver.ledger.transaction import Tx
from receiver.ledger.views import Approval, WaitingMove, read_view
from receiver.signing import Approvable
from receiver.timestamps import Time

_INSERT = """INSERT INTO approvals
  (app, channel, repository, tag, digest, push_time, at, approver, address)
 VALUES (:app, :channel, :repository, :tag, :digest, :push_time, :now, :approver, :address)
 ON CONFLICT DO NOTHING"""
_FIND = """SELECT at, approver, address FROM approvals
 WHERE app = :app AND channel = :channel AND repository = :repository AND tag = :tag
  AND digest = :digest AND push_time = :push_time"""
_OF_REGISTRATION = """SELECT a.at, a.approver, a.address FROM registrations r
  JOIN approvals a ON a.app = r.app AND a.channel = r.version AND a.repository = r.repository
   AND a.tag = r.tag AND a.digest = COALESCE(r.digest, '')
   AND a.push_time = CASE WHEN r.digest IS NULL THEN r.push_time ELSE 0 END
 WHERE r.id = :id AND r.mode = 'channel'"""
_WAKE = """UPDATE registrations SET due_at = :now WHERE app = :app AND version = :channel
 AND repository = :repository AND tag = :tag AND mode = 'channel' AND state = 'waiting'"""
_WAKE_ALL = """UPDATE registrations SET due_at = :now WHERE mode = 'channel'
 AND state = 'waiting' AND waiting_reason IN ('needs_trial', 'needs_approval') AND due_at > :now"""
# While it is tried again it is `working`, and still waits for the approval.
_WAITS = """SELECT id, digest, push_time FROM registrations WHERE app = :app AND version = :channel
 AND repository = :repository AND tag = :tag AND mode = 'channel'
 AND state IN ('queued', 'waiting', 'working') AND waiting_reason = 'needs_approval' {lock}"""
_ASKED = """SELECT app, version, repository, tag, digest, push_time FROM registrations
 WHERE id = :id AND mode = 'channel' {which}"""
_WAITING = "AND state IN ('queued', 'waiting', 'working') AND waiting_reason = 'needs_approval'"

# Without a reason it is a new wait, with a new notification.
_OTHER_IMAGE = """UPDATE registrations SET waiting_reason = NULL, due_at = :now
 WHERE id = :id AND state IN ('waiting', 'queued')
  AND waiting_reason IN ('needs_trial', 'needs_approval')
  AND CASE WHEN digest IS NULL THEN push_time <> :push_time
   ELSE CAST(:digest AS TEXT) IS NULL OR digest <> CAST(:digest AS TEXT) END"""
_MOVES = """SELECT r.id AS registration_id, r.app, r.version AS channel, r.repository, r.tag,
  r.digest, r.push_time AS pushed_at, r.waiting_reason AS reason, r.sentence,
  r.waiting_since AS since_at,
  (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = r.id) AS delivery
 FROM registrations r
 WHERE r.state IN ('queued', 'waiting', 'working') AND r.mode = 'channel'
  AND r.waiting_reason IN ('needs_trial', 'needs_approval') {which}
 ORDER BY r.app, r.version, r.id"""
_OF_APP = "AND r.app = :app"
_OF_CHANNEL = f"{_OF_APP} AND r.version = :channel"


def approve(tx: Tx, move: Approvable, *, approver: str, address: str) -> bool:
    """Record an approval and let the move go on; False if it was approved before."""
    by = {"approver": approver, "address": address}
    fresh = tx.run(_INSERT, **_place(move), **_image(move), **by, now=tx.now).rowcount
    tx.run(_WAKE, **_place(move), now=tx.now)
    return bool(fresh)


def decide_again(tx: Tx) -> None:
    """Let all moves that wait for a trial or an approval be decided now: rules have changed."""
    tx.run(_WAKE_ALL, now=tx.now)


def approval_of(tx: Tx, move: Approvable) -> Approval | None:
    """Return the approval of a move to exactly this image, None if there is none."""
    row = tx.run(_FIND, **_place(move), **_image(move)).first()
    return None if row is None else Approval(Time(row.at), row.approver, row.address)


def approval_of_registration(tx: Tx, registration: str) -> Approval | None:
    """Return the approval of a registration's move, None if there is none or it moves nothing."""
    row = tx.run(_OF_REGISTRATION, id=registration).first()
    return None if row is None else Approval(Time(row.at), row.approver, row.address)


def waiting_for_approval(tx: Tx, move: Approvable, *, to_approve: bool = False) -> str | None:
    """Return the registration that waits for this approval, None if none does any more.

    `to_approve`: it is locked, so that an attempt at it that ends meanwhile sees the approval.
    """
    lock = "FOR NO KEY UPDATE" if to_approve and tx.postgresql else ""
    row = tx.run(_WAITS.format(lock=lock), **_place(move)).first()
    return None if row is None or not move.is_of(row.digest, row.push_time) else str(row.id)


def wait_for_other_image(tx: Tx, registration: str, *, digest: str | None, push_time: int) -> None:
    """Begin a wait for a trial or an approval again if it is of another image than was seen."""
    tx.run(_OTHER_IMAGE, id=registration, digest=digest, push_time=push_time, now=tx.now)


def approvable(tx: Tx, registration: str, *, waits: bool = True) -> Approvable | None:
    """Return the move of a registration, None if it moves nothing or waits for no approval.

    `waits=False`: also if it does not wait any more.
    """
    which = _WAITING if waits else ""
    row = tx.run(_ASKED.format(which=which), id=registration).first()
    if row is None:
        return None
    image = ImageReference(repository=row.repository, tag=row.tag)
    return Approvable(row.app, row.version, image, row.digest, row.push_time)


def _place(move: Approvable) -> dict[str, str]:
    return {
        "app": move.app,
        "channel": move.channel,
        "repository": move.image.repository,
        "tag": move.image.tag,
    }


def _image(move: Approvable) -> dict[str, str | int]:
    if move.digest is None:
        return {"digest": "", "push_time": move.push_time}
    return {"digest": move.digest, "push_time": 0}


def waiting_moves(
    tx: Tx, app: str | None = None, channel: str | None = None
) -> tuple[WaitingMove, ...]:
    """Return the moves that wait, of all channels, of an app's or of one."""
    which = "" if app is None else _OF_APP if channel is None else _OF_CHANNEL
    rows = tx.run(_MOVES.format(which=which), app=app, channel=channel).mappings()
    return tuple(read_view(WaitingMove, row) for row in rows)
