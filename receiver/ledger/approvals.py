"""Who approved the move of a channel to an image: once, however many approve it."""

from dataclasses import dataclass

from receiver.images import ImageReference
from receiver.ledger.transaction import Tx

_INSERT = """INSERT INTO approvals (app, channel, repository, tag, digest, at, approver, address)
 VALUES (:app, :channel, :repository, :tag, :digest, :now, :approver, :address)
 ON CONFLICT DO NOTHING"""
_FIND = """SELECT at, approver, address FROM approvals
 WHERE app = :app AND channel = :channel AND repository = :repository AND tag = :tag
  AND digest = :digest"""
_WAKE = """UPDATE registrations SET due_at = :now WHERE app = :app AND version = :channel
 AND repository = :repository AND tag = :tag AND mode = 'channel' AND state = 'waiting'"""
_WAITS = """SELECT id, digest FROM registrations WHERE app = :app AND version = :channel
 AND repository = :repository AND tag = :tag AND mode = 'channel' AND state = 'waiting'
 AND waiting_reason = 'needs_approval'"""


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved a move, when (epoch ms), and from which address."""

    at: int
    approver: str
    address: str


def approve(
    tx: Tx,
    app: str,
    channel: str,
    image: ImageReference,
    digest: str | None,
    *,
    approver: str,
    address: str,
) -> bool:
    """Record an approval and let the move go on; False if it was approved before."""
    place = _place(app, channel, image, digest)
    fresh = tx.run(_INSERT, **place, now=tx.now, approver=approver, address=address).rowcount
    del place["digest"]
    tx.run(_WAKE, **place, now=tx.now)
    return bool(fresh)


def approval_of(
    tx: Tx, app: str, channel: str, image: ImageReference, digest: str | None
) -> Approval | None:
    """Return the approval of a move to exactly this image, None if there is none."""
    row = tx.run(_FIND, **_place(app, channel, image, digest)).first()
    return None if row is None else Approval(row.at, row.approver, row.address)


def waiting_for_approval(
    tx: Tx, app: str, channel: str, image: ImageReference, digest: str | None
) -> str | None:
    """Return the registration that waits for this approval, None if none does any more."""
    place = _place(app, channel, image, digest)
    del place["digest"]
    row = tx.run(_WAITS, **place).first()
    return None if row is None or row.digest not in {digest, None} else str(row.id)


def _place(app: str, channel: str, image: ImageReference, digest: str | None) -> dict[str, str]:
    return {
        "app": app,
        "channel": channel,
        "repository": image.repository,
        "tag": image.tag,
        "digest": digest or "",
    }
