"""Which channels are to be compared with Edgegap, and what the comparison found.

A PATCH without an answer may be carried out later, after a newer one: its channel is compared after
the longest time a call can take. That is noted before the PATCH is sent, so that no kill loses it.
"""

from collections.abc import Iterable

from receiver import retry
from receiver.channel_order import Holds
from receiver.images import ImageReference
from receiver.ledger.channels import holds_of, make_channel
from receiver.ledger.transactions import Tx

LATE_MS = 60 * 60 * 1000  # so long a PATCH without an answer explains what Edgegap has

_EXPECT = """UPDATE channels SET
  check_for = CASE WHEN check_at IS NULL OR check_for = :call THEN :call ELSE '' END,
  check_at = CASE WHEN check_at IS NULL OR check_at < :due THEN :due ELSE check_at END
 WHERE app = :app AND name = :name"""
_ANSWERED = """UPDATE channels SET check_at = NULL, check_for = ''
 WHERE app = :app AND name = :name AND check_for = :call"""
_COMPARED = """UPDATE channels SET compared_at = :now, drift = :drift,
  drift_at = CASE WHEN :drift = '' THEN NULL WHEN drift = '' THEN :now ELSE drift_at END,
  check_for = CASE WHEN check_at <= :now THEN '' ELSE check_for END,
  check_at = CASE WHEN check_at <= :now THEN NULL ELSE check_at END
 WHERE app = :app AND name = :name"""
_OPEN = """SELECT 1 FROM registrations WHERE app = :app AND version = :name
  AND state <> 'done' AND state <> 'parked'"""
_PARKED = """SELECT 1 FROM registrations WHERE app = :app AND version = :name
  AND state <> 'done' AND state = 'parked' AND repository = :repository AND tag = :tag
  AND finished_at >= (SELECT drift_at FROM channels c WHERE c.app = :app AND c.name = :name)"""
_LATE = """SELECT DISTINCT r.repository, r.tag FROM attempts a
  JOIN registrations r ON r.id = a.registration_id
 WHERE a.at > :since AND a.method = 'PATCH' AND r.app = :app AND r.version = :name
  AND (a.effect = 'unknown' OR (a.effect = 'done' AND NOT EXISTS (
   SELECT 1 FROM channel_moves m WHERE m.registration_id = r.id)))"""


def expect_answer(tx: Tx, app: str, name: str, call: str) -> None:
    """Note that a PATCH of the channel is sent, or was not answered. `call` is its own name."""
    make_channel(tx, app, name)
    tx.run(_EXPECT, app=app, name=name, call=call, due=tx.now + retry.LONGEST_CALL)


def was_answered(tx: Tx, app: str, name: str, call: str) -> None:
    """Note that the PATCH was answered: nothing is left to compare, unless another was not."""
    tx.run(_ANSWERED, app=app, name=name, call=call)


def next_check(tx: Tx) -> int | None:
    """Return when the next channel is to be compared (epoch ms), None if none is."""
    found: int | None = tx.run("SELECT min(check_at) FROM channels").scalar()
    return found


def to_compare(
    tx: Tx, channels: Iterable[tuple[str, str]], within: int | None
) -> dict[tuple[str, str], Holds]:
    """Return what those of the channels hold that are to be compared with Edgegap now.

    These are the ones with an unanswered PATCH whose time has come and, with `within` (ms), all
    that were not compared for so long.
    """
    due: dict[tuple[str, str], Holds] = {}
    for app, name in channels:
        row = tx.run(
            "SELECT check_at, compared_at FROM channels WHERE app = :app AND name = :name",
            app=app,
            name=name,
        ).first()
        checked = row is not None and row.check_at is not None and row.check_at <= tx.now
        compared = row.compared_at if row is not None and row.compared_at is not None else 0
        long_ago = within is not None and not 0 <= tx.now - compared < within
        holds = holds_of(tx, app, name) if checked or long_ago else Holds()
        if holds.tag:
            due[app, name] = holds
    return due


def may_judge(tx: Tx, app: str, name: str, holds: Holds) -> bool:
    """Return whether the channel is as it was when Edgegap was asked, and nothing is on its way."""
    if holds_of(tx, app, name) != holds:
        return False
    return tx.run(_OPEN, app=app, name=name).first() is None


def is_parked(tx: Tx, app: str, name: str, holds: Holds) -> bool:
    """Return whether putting the channel back was tried since, and is parked: a person decides."""
    tag = {"repository": holds.repository, "tag": holds.tag}
    return tx.run(_PARKED, app=app, name=name, **tag).first() is not None


def came_late(tx: Tx, app: str, name: str) -> list[ImageReference]:
    """Return the images of the channel's latest PATCHes that may still be carried out.

    Those without a definite answer, and those after which Edgegap did not show the image.
    """
    rows = tx.run(_LATE, app=app, name=name, since=tx.now - LATE_MS)
    return [ImageReference(repository=row.repository, tag=row.tag) for row in rows]


def note_compared(tx: Tx, app: str, name: str, drift: str) -> bool:
    """Note what was found: `drift` says what Edgegap has instead. True if that is new."""
    make_channel(tx, app, name)
    known = tx.run("SELECT drift FROM channels WHERE app = :app AND name = :n", app=app, n=name)
    fresh = bool(drift) and known.scalar() != drift
    tx.run(_COMPARED, app=app, name=name, drift=drift, now=tx.now)
    return fresh


def _sentence(app: str, name: str, drift: str) -> str:
    """Return what is wrong with the channel, and what to do."""
    return (
        f"The channel {app}/{name} has {drift} at Edgegap, not what was put there last: "
        "another hand moved it, or a request of the receiver was carried out late. "
        f"`receiver channels {app}` shows what was put there; `receiver promote` or `rollback` "
        "puts it back, and so does restore = true in its [[channel]]."
    )


def drifted(tx: Tx, channels: Iterable[tuple[str, str]]) -> list[tuple[str, int]]:
    """Return a sentence, and since when (epoch ms), for each of the channels that was moved."""
    known = set(channels)
    rows = tx.run(
        "SELECT app, name, drift, drift_at FROM channels WHERE drift <> '' ORDER BY app, name"
    )
    return [
        (_sentence(row.app, row.name, row.drift), row.drift_at)
        for row in rows
        if (row.app, row.name) in known
    ]
