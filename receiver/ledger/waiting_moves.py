"""The moves of channels that wait for a trial or for an approval."""

from receiver.ledger.transaction import Tx
from receiver.ledger.views import WaitingMove, read_view

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
