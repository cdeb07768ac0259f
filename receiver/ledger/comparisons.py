"""Channels compared with Edgegap: what is due, what may be judged, and what was found."""

from collections.abc import Iterable

import msgspec

from receiver import backoff
from receiver.images import ImageReference
from receiver.ledger.channels import MOVE, make_channel, read_channel_state
from receiver.ledger.ids import first_id
from receiver.ledger.transaction import Tx
from receiver.reasons import Outcome
from receiver.rules.channel_order import ChannelState
from receiver.rules.rule import TargetKey
from receiver.timestamps import Time

LATE_MS = 60 * 60 * 1000  # how long an unanswered PATCH can explain what Edgegap has

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
_MOVING = """SELECT 1 FROM registrations r WHERE r.app = :app AND r.version = :name
  AND r.state <> 'done' AND r.state <> 'parked'
  AND (r.state = 'working' OR r.id = (
   SELECT c.ordered FROM channels c WHERE c.app = :app AND c.name = :name))"""
# A trial or an approval may be waited for as long as it takes: that moves nothing next.
_COMING = """SELECT 1 FROM registrations WHERE app = :app AND repository = :repository
  AND tag = :tag AND state <> 'done' AND state <> 'parked' AND mode <> 'trial'
  AND coalesce(waiting_reason, '') NOT IN ('needs_trial', 'needs_approval') LIMIT 1"""
_PARKED = """SELECT 1 FROM registrations WHERE app = :app AND version = :name
  AND state <> 'done' AND state = 'parked' AND repository = :repository AND tag = :tag
  AND finished_at >= (SELECT drift_at FROM channels c WHERE c.app = :app AND c.name = :name)"""
_LATE = """SELECT DISTINCT r.repository, r.tag FROM requests a
  JOIN registrations r ON r.id = a.registration_id
 WHERE a.at > :since AND a.method = 'PATCH' AND r.app = :app AND r.version = :name
  AND (a.effect = 'unknown' OR (a.effect = 'done' AND NOT EXISTS (
   SELECT 1 FROM channel_moves m WHERE m.app = r.app AND m.channel = r.version
    AND m.id >= :first AND m.registration_id = r.id)))"""
DISABLED = "a disabled version"  # what Edgegap has, if the image is right


def expect_answer(tx: Tx, app: str, name: str, call: str) -> None:
    """Note that a PATCH of the channel is sent, or was not answered. `call` is its own name."""
    make_channel(tx, app, name)
    tx.run(_EXPECT, app=app, name=name, call=call, due=tx.now + backoff.MAX_CALL)


def was_answered(tx: Tx, app: str, name: str, call: str) -> None:
    """Note that the PATCH was answered: nothing is left to compare, unless another was not."""
    tx.run(_ANSWERED, app=app, name=name, call=call)


def next_check(tx: Tx) -> int | None:
    """Return when the next channel is to be compared (epoch ms), None if none is."""
    found: int | None = tx.run("SELECT min(check_at) FROM channels").scalar()
    return found


def to_compare(
    tx: Tx, channels: Iterable[TargetKey], within: int | None
) -> dict[TargetKey, ChannelState]:
    """Return the content of the channels that are to be compared with Edgegap now.

    These are the channels with an unanswered PATCH whose comparison is due and, with `within`
    (ms), all channels that were not compared within that time.
    """
    due: dict[TargetKey, ChannelState] = {}
    for app, name in channels:
        row = tx.run(
            "SELECT check_at, compared_at FROM channels WHERE app = :app AND name = :name",
            app=app,
            name=name,
        ).first()
        check_at = None if row is None else row.check_at
        compared = row.compared_at if row is not None and row.compared_at is not None else 0
        long_ago = within is not None and not 0 <= tx.now - compared < within
        if not long_ago and (check_at is None or check_at > tx.now):
            continue
        state = read_channel_state(tx, app, name)
        if state.tag or check_at is not None:  # the first PATCH of a channel may be unanswered
            due[TargetKey(app, name)] = state
    return due


def is_comparable(tx: Tx, app: str, name: str, state: ChannelState) -> bool:
    """Return whether the channel is as it was when Edgegap was asked, and is not being moved.

    A move that waits is no reason not to: it may wait for an approval for days.
    """
    if read_channel_state(tx, app, name) != state:
        return False
    return tx.run(_MOVING, app=app, name=name).first() is None


def has_open_push(tx: Tx, app: str, image: ImageReference) -> bool:
    """Return whether a push of this image is being worked on: it may move channels next."""
    row = tx.run(_COMING, app=app, repository=image.repository, tag=image.tag).first()
    return row is not None


def is_superseded(tx: Tx, registration: str) -> bool:
    """Return whether a registration ended because another push or its needs were before it."""
    row = tx.run("SELECT outcome FROM registrations WHERE id = :id", id=registration).one()
    return bool(row.outcome == Outcome.SUPERSEDED)


def is_parked(tx: Tx, app: str, name: str, state: ChannelState) -> bool:
    """Return whether putting the channel back was tried since, and is parked: a person decides."""
    tag = {"repository": state.repository, "tag": state.tag}
    return tx.run(_PARKED, app=app, name=name, **tag).first() is not None


def late_moves(tx: Tx, app: str, name: str) -> list[ImageReference]:
    """Return the images of the channel's latest PATCHes that may still be carried out.

    Those without a definite answer, and those after which Edgegap did not show the image.
    """
    since = tx.now - LATE_MS
    rows = tx.run(_LATE, app=app, name=name, since=since, first=first_id(MOVE, since))
    return [ImageReference(repository=row.repository, tag=row.tag) for row in rows]


def note_compared(tx: Tx, app: str, name: str, drift: str) -> bool:
    """Note what was found: `drift` says what Edgegap has instead. True if that is new."""
    make_channel(tx, app, name)
    known = tx.run("SELECT drift FROM channels WHERE app = :app AND name = :n", app=app, n=name)
    fresh = bool(drift) and known.scalar() != drift
    tx.run(_COMPARED, app=app, name=name, drift=drift, now=tx.now)
    return fresh


def disabled_sentence(app: str, name: str) -> str:
    """Return what is wrong with a channel that is disabled, and what to do."""
    return (
        f"The channel {app}/{name} is disabled at Edgegap: no player can be sent there. Enable it "
        "in Edgegap's dashboard."
    )


def _sentence(app: str, name: str, drift: str) -> str:
    """Return what is wrong with the channel, and what to do."""
    if drift == DISABLED:
        return disabled_sentence(app, name)
    return (
        f"The channel {app}/{name} has {drift} at Edgegap, not what was put there last: "
        "it was changed outside the receiver, or a request was carried out late. "
        f"`receiver channels {app}` shows what was put there; `receiver promote` or `rollback` "
        "puts it back, and so does restore = true in its [[channel]]."
    )


class Drifted(msgspec.Struct, frozen=True):
    """A channel that was changed outside the receiver: what to do, and since when."""

    sentence: str
    since_at: Time


def drifted(tx: Tx, channels: Iterable[TargetKey]) -> list[Drifted]:
    """Return each of the channels that was changed outside the receiver."""
    known = set(channels)
    rows = tx.run(
        "SELECT app, name, drift, drift_at FROM channels WHERE drift <> '' ORDER BY app, name"
    )
    return [
        Drifted(_sentence(row.app, row.name, row.drift), Time(row.drift_at))
        for row in rows
        if (row.app, row.name) in known
    ]
