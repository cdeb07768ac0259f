"""Moves of channels that wait, and who approved one: once, however many approve it."""

from receiver.images import ImageReference
from receiver.ledger.transaction import Tx
from receiver.ledger.views import Approval, WaitingMove, read_view
from receiver.signing import Approvable
from receiver.timestamps import Time

_INSERT = """INSERT INTO approvals (app, channel, repository, tag, digest, at, approver, address)
 VALUES (:app, :channel, :repository, :tag, :digest, :now, :approver, :address)
 ON CONFLICT DO NOTHING"""
_FIND = """SELECT at, approver, address FROM approvals
 WHERE app = :app AND channel = :channel AND repository = :repository AND tag = :tag
  AND digest = :digest"""
_WAKE = """UPDATE registrations SET due_at = :now WHERE app = :app AND version = :channel
 AND repository = :repository AND tag = :tag AND mode = 'channel' AND state = 'waiting'"""
# While it is tried again it is `working`, and still waits for the approval.
_WAITS = """SELECT id, digest FROM registrations WHERE app = :app AND version = :channel
 AND repository = :repository AND tag = :tag AND mode = 'channel'
 AND state IN ('queued', 'waiting', 'working') AND waiting_reason = 'needs_approval' {lock}"""
_ASKED = """SELECT app, version, repository, tag, digest FROM registrations
 WHERE id = :id AND mode = 'channel' AND state IN ('queued', 'waiting', 'working')
  AND waiting_reason = 'needs_approval'"""

# With a reason that is not known it is a new wait, which is notified of.
_OTHER_DIGEST = """UPDATE registrations SET waiting_reason = NULL, due_at = :now
 WHERE id = :id AND state IN ('waiting', 'queued') AND digest IS NOT NULL
  AND waiting_reason IN ('needs_trial', 'needs_approval')
  AND (CAST(:seen AS TEXT) IS NULL OR digest <> CAST(:seen AS TEXT))"""


def approve(tx: Tx, move: Approvable, *, approver: str, address: str) -> bool:
    """Record an approval and let the move go on; False if it was approved before."""
    place = _place(move)
    fresh = tx.run(_INSERT, **place, now=tx.now, approver=approver, address=address).rowcount
    del place["digest"]
    tx.run(_WAKE, **place, now=tx.now)
    return bool(fresh)


def approval_of(tx: Tx, move: Approvable) -> Approval | None:
    """Return the approval of a move to exactly this image, None if there is none."""
    row = tx.run(_FIND, **_place(move)).first()
    return None if row is None else Approval(Time(row.at), row.approver, row.address)


def waiting_for_approval(tx: Tx, move: Approvable, *, to_approve: bool = False) -> str | None:
    """Return the registration that waits for this approval, None if none does any more.

    `to_approve`: it is locked, so that an attempt at it that ends meanwhile sees the approval.
    """
    place = _place(move)
    del place["digest"]
    lock = "FOR NO KEY UPDATE" if to_approve and tx.postgresql else ""
    row = tx.run(_WAITS.format(lock=lock), **place).first()
    return None if row is None or row.digest != move.digest else str(row.id)


def wait_for_other_digest(tx: Tx, registration: str, *, seen: str | None) -> None:
    """Begin a wait for a trial or an approval again if the tag's digest is not the one seen."""
    tx.run(_OTHER_DIGEST, id=registration, seen=seen, now=tx.now)


def approvable(tx: Tx, registration: str) -> Approvable | None:
    """Return the move that waits for an approval, None if the registration waits for none."""
    row = tx.run(_ASKED, id=registration).first()
    if row is None:
        return None
    image = ImageReference(repository=row.repository, tag=row.tag)
    return Approvable(row.app, row.version, image, row.digest)


def _place(move: Approvable) -> dict[str, str]:
    return {
        "app": move.app,
        "channel": move.channel,
        "repository": move.image.repository,
        "tag": move.image.tag,
        "digest": move.digest or "",
    }


# The moves of channels that wait for a trial or for an approval.

_MOVES = """SELECT r.id AS registration_id, r.app, r.version AS channel, r.repository, r.tag,
  r.digest, r.waiting_reason AS reason, r.sentence, r.waiting_since AS since_at,
  (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = r.id) AS delivery
 FROM registrations r
 WHERE r.state IN ('queued', 'waiting', 'working') AND r.mode = 'channel'
  AND r.waiting_reason IN ('needs_trial', 'needs_approval') {which}
 ORDER BY r.app, r.version, r.id"""
_OF_APP = "AND r.app = :app"
_OF_CHANNEL = f"{_OF_APP} AND r.version = :channel"


def waiting_moves(
    tx: Tx, app: str | None = None, channel: str | None = None
) -> tuple[WaitingMove, ...]:
    """Return the moves that wait, of all channels, of an app's or of one."""
    which = "" if app is None else _OF_APP if channel is None else _OF_CHANNEL
    rows = tx.run(_MOVES.format(which=which), app=app, channel=channel).mappings()
    return tuple(read_view(WaitingMove, row) for row in rows)
