"""Channels in the ledger: what each follows, its hold, what was reported to it, how it moved."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row

from receiver.images import ImageReference
from receiver.ledger import views
from receiver.ledger.approvals import waiting_moves
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_any_passed, has_passed, passed_digests
from receiver.rules.channel_order import ChannelState, Hold, ManualAction, Pushed, Report, higher
from receiver.rules.rule import TargetKey
from receiver.timestamps import Time

MOVE = "m"
PUSH = "push"  # the action of a move that no person ordered
MAX_MOVES = 20
HISTORY_MOVES = 200  # that are looked through for an image to return to
HISTORY_CLOSED = 200  # whose requests may still explain what Edgegap has
UNDOING = frozenset({"rollback", "restore"})  # moves that put an earlier image back

_HOLDS = """SELECT t.repository, t.tag, t.push_time, t.registration_id FROM targets t
 WHERE t.app = :app AND t.version = :name AND t.mode = 'channel'"""
_FOLLOWS = """SELECT highest, held_at, held_tag, held_action, lifted_above, ordered, action, sent
 FROM channels WHERE app = :app AND name = :name"""
# A catch-up may find a push long after it was made, and a person may have it tried: what counts is
# when it was pushed.
FIRST_REPORT = """SELECT min(CASE WHEN d.source <> 'webhook' AND d.pushed_at < d.received_at
   THEN d.pushed_at ELSE d.received_at END)
  FROM led_to l JOIN deliveries d ON d.id = l.delivery_id WHERE l.registration_id = """
_REQUESTS = """SELECT r.id, r.repository, r.tag, r.push_time,
  coalesce(({first} r.id), r.created_at) AS reported_at
 FROM {which} r
 WHERE r.mode = 'channel'
  AND EXISTS (SELECT 1 FROM requests a WHERE a.registration_id = r.id
   AND a.method IN ('POST', 'PATCH') AND a.effect <> 'none') ORDER BY r.id DESC"""
_OF_CHANNEL = "(SELECT * FROM registrations WHERE app = :app AND version = :name AND {which})"
_ASKED = _REQUESTS.format(first=FIRST_REPORT, which=_OF_CHANNEL.format(which="state <> 'done'"))
# What a person closed, and what was superseded, the newest ones: all that come while a channel is
# held are. Repeats the predicate of the index `registrations_done`.
_NEWEST_CLOSED = f"""state = 'done' AND id > :last
 AND outcome IN ('dismissed', 'superseded') ORDER BY id DESC LIMIT {HISTORY_CLOSED}"""
_CLOSED = _REQUESTS.format(first=FIRST_REPORT, which=_OF_CHANNEL.format(which=_NEWEST_CLOSED))
_MAKE = "INSERT INTO channels (app, name) VALUES (:app, :name) ON CONFLICT DO NOTHING"
_ORDER = """UPDATE channels SET ordered = :ordered, action = :action, source = :source
 WHERE app = :app AND name = :name"""
_ORDER_INSTEAD = """UPDATE channels SET ordered = :ordered
 WHERE app = :app AND name = :name AND ordered = :before"""
_HOLD = """UPDATE channels SET held_at = :since, held_tag = :tag, held_action = :action,
  lifted_above = :above WHERE app = :app AND name = :name"""
_RELEASE = """UPDATE channels SET held_at = NULL, held_tag = '', held_action = '',
  lifted_above = NULL WHERE app = :app AND name = :name AND held_at IS NOT NULL"""
# A request that is parked is given up; one that is still to be carried out stays.
_GIVE_UP = """UPDATE channels SET ordered = NULL WHERE app = :app AND name = :name
  AND ordered IN (SELECT r.id FROM registrations r WHERE r.id = channels.ordered
   AND r.state = 'parked')"""
_FOLLOWED = """UPDATE channels SET highest = :highest, ordered = :ordered, drift = '',
  drift_at = NULL, compared_at = :now,
  sent = COALESCE(CAST(:sent AS TEXT), sent) WHERE app = :app AND name = :name"""
_KNOWN = """SELECT digest, push_time, registration_id FROM channel_reports
 WHERE app = :app AND channel = :name AND repository = :repository AND tag = :tag"""
_REPORT = """INSERT INTO channel_reports (app, channel, repository, tag, digest, push_time,
  registration_id)
 VALUES (:app, :name, :repository, :tag, :digest, :push_time, :registration)
 ON CONFLICT (app, channel, repository, tag) DO UPDATE SET
  digest = COALESCE(excluded.digest, channel_reports.digest),
  registration_id = excluded.registration_id,
  push_time = CASE WHEN excluded.push_time > channel_reports.push_time
   THEN excluded.push_time ELSE channel_reports.push_time END"""
_CLOSED_REPORT = """INSERT INTO channel_reports (app, channel, repository, tag, digest, push_time,
  registration_id)
 SELECT app, version, repository, tag, digest, push_time, id FROM registrations
  WHERE id = :id AND mode = 'channel' AND state = 'done'
 ON CONFLICT DO NOTHING"""
_FORGET = """DELETE FROM channel_reports
 WHERE (app, channel, repository, tag, registration_id) IN (
  SELECT r.app, r.version, r.repository, r.tag, r.id
   FROM registrations r JOIN led_to l ON l.registration_id = r.id
   WHERE l.delivery_id = :delivery AND r.mode = 'channel' AND r.outcome = 'dismissed')"""
_MOVED = """INSERT INTO channel_moves (id, app, channel, at, from_repository, from_tag, repository,
  tag, digest, push_time, action, source, rule, registration_id)
 VALUES (:id, :app, :name, :now, :from_repository, :from_tag, :repository, :tag, :digest,
  :push_time, :action, :source, :rule, :registration)"""
_LAST_MOVE = """SELECT registration_id, repository, tag FROM channel_moves
 WHERE app = :app AND channel = :name ORDER BY id DESC LIMIT 1"""
_ACTION = """SELECT action FROM channel_moves WHERE app = :app AND channel = :name
  AND registration_id = :registration ORDER BY id DESC LIMIT 1"""
_SOURCE = """SELECT d.source FROM led_to l JOIN deliveries d ON d.id = l.delivery_id
 WHERE l.registration_id = :registration ORDER BY d.id LIMIT 1"""
_MOVES = """SELECT at, from_repository, from_tag, repository, tag, digest, push_time AS pushed_at,
  action, source, rule, registration_id,
  (SELECT coalesce(d.requested_by, d.pusher) FROM led_to l JOIN deliveries d ON d.id = l.delivery_id
    WHERE l.registration_id = m.registration_id ORDER BY d.requested_by IS NULL, d.id LIMIT 1) AS by
 FROM channel_moves m WHERE app = :app AND channel = :name ORDER BY id DESC LIMIT :most"""
_HISTORY = """SELECT from_repository, from_tag, repository, tag, digest, action FROM channel_moves
 WHERE app = :app AND channel = :name ORDER BY id DESC LIMIT :most"""
_NEWEST_KNOWN = """SELECT max(push_time) FROM (
 SELECT push_time FROM targets WHERE app = :app AND version = :name AND mode = 'channel'
 UNION ALL SELECT push_time FROM registrations
  WHERE app = :app AND version = :name AND mode = 'channel' AND state <> 'done') known"""
_LATER = """SELECT DISTINCT tag FROM registrations
 WHERE app = :app AND repository = :repository AND state <> 'done' AND state <> 'parked'
  AND (push_time, id) > (:push_time, :id)"""


def read_channel_state(tx: Tx, app: str, name: str) -> ChannelState:
    """Return what the receiver put into a channel, and its hold; empty for a new channel."""
    has = tx.run(_HOLDS, app=app, name=name).first()
    follows = tx.run(_FOLLOWS, app=app, name=name).first()
    hold = None
    if follows is not None and follows.held_at is not None:
        action, above = follows.held_action, follows.lifted_above
        hold = Hold(follows.held_at, follows.held_tag, action, above)
    last = "" if has is None else has.registration_id or ""
    rows = [
        *tx.run(_ASKED, app=app, name=name),
        *tx.run(_CLOSED, app=app, name=name, last=last),
    ]
    return ChannelState(
        repository="" if has is None else has.repository,
        tag="" if has is None else has.tag,
        push_time=0 if has is None else has.push_time,
        registration=last,
        highest=None if follows is None else follows.highest,
        hold=hold,
        ordered=None if follows is None else follows.ordered,
        action="" if follows is None else follows.action,
        sent="" if follows is None else follows.sent,
        asked=tuple(
            Pushed(row.repository, row.tag, row.push_time, row.id, row.reported_at) for row in rows
        ),
    )


def channel_images(tx: Tx, app: str) -> dict[str, ImageReference]:
    """Return the image that the receiver put into each channel of an app."""
    rows = tx.run(
        "SELECT version, repository, tag FROM targets WHERE app = :app AND mode = 'channel'"
        " AND mode <> 'create'",  # in the words of the index `targets_moving`
        app=app,
    )
    return {row.version: ImageReference(repository=row.repository, tag=row.tag) for row in rows}


def wake_channel(tx: Tx, app: str, name: str) -> None:
    """Let what waits to move a channel be decided now."""
    tx.run(
        "UPDATE registrations SET due_at = :now WHERE app = :app AND version = :name"
        " AND mode = 'channel' AND state = 'waiting' AND due_at > :now",
        app=app,
        name=name,
        now=tx.now,
    )


def known_report(
    tx: Tx, app: str, name: str, image: ImageReference, *, registration: str
) -> Report | None:
    """Return what was last reported to the channel of this tag, by another registration."""
    tag = {"repository": image.repository, "tag": image.tag}
    row = tx.run(_KNOWN, app=app, name=name, **tag).first()
    if row is None or row.registration_id == registration:
        return None
    return Report(row.digest, row.push_time)


def reported(tx: Tx, app: str, name: str, tag: str) -> list[ImageReference]:
    """Return the images of this tag that were reported to the channel: one for each repository."""
    rows = tx.run(
        "SELECT repository, tag FROM channel_reports"
        " WHERE app = :app AND channel = :name AND tag = :tag ORDER BY repository",
        app=app,
        name=name,
        tag=tag,
    )
    return [ImageReference(repository=row.repository, tag=row.tag) for row in rows]


def newest_known(tx: Tx, app: str, name: str) -> int | None:
    """Return the newest push time (epoch ms) that the channel has or that is on its way to it."""
    found: int | None = tx.run(_NEWEST_KNOWN, app=app, name=name).scalar()
    return found


def make_channel(tx: Tx, app: str, name: str) -> None:
    """Make the channel's row if there is none."""
    tx.run(_MAKE, app=app, name=name)


def order(
    tx: Tx, app: str, name: str, *, registration: str, action: ManualAction, source: str
) -> None:
    """Note that a person, or the receiver to restore it, ordered this registration's move."""
    make_channel(tx, app, name)
    tx.run(_ORDER, app=app, name=name, ordered=registration, action=action.value, source=source)


def replace_order(tx: Tx, app: str, name: str, *, registration: str, before: str) -> None:
    """Note that a registration makes the move that was ordered of the one before it."""
    tx.run(_ORDER_INSTEAD, app=app, name=name, ordered=registration, before=before)


def hold_channel(tx: Tx, app: str, name: str, hold: Hold) -> None:
    """Stop pushes from moving the channel, except a push above the version that lifts the hold."""
    make_channel(tx, app, name)
    above, action = hold.lifted_above, hold.action
    tx.run(_HOLD, app=app, name=name, since=hold.since, tag=hold.tag, action=action, above=above)


def release_channel(tx: Tx, app: str, name: str) -> bool:
    """Lift the hold, and give up the move that it was for if that is parked; False if none was."""
    tx.run(_GIVE_UP, app=app, name=name)
    return bool(tx.run(_RELEASE, app=app, name=name).rowcount)


def note_report(
    tx: Tx,
    app: str,
    name: str,
    image: ImageReference,
    report: Report,
    *,
    registration: str,
) -> None:
    """Note that a tag was reported to the channel and decided on, moved or not."""
    tx.run(
        _REPORT, app=app, name=name, repository=image.repository, tag=image.tag,
        digest=report.digest, push_time=report.push_time, registration=registration,
    )  # fmt: skip


def note_closed(tx: Tx, registration: str) -> None:
    """Note that a move was closed before it was decided: a repeated report moves nothing, too."""
    tx.run(_CLOSED_REPORT, id=registration)


def forget_dismissed(tx: Tx, delivery: str) -> None:
    """Let the moves of a delivery be decided again, which a person replays after dismissing it."""
    tx.run(_FORGET, delivery=delivery)


def record_followed_image(
    tx: Tx,
    app: str,
    name: str,
    image: ImageReference,
    *,
    seen: ChannelState,
    ordered: bool,
    sent: str | None,
) -> None:
    """Note that the channel has the image now, by an order or by a push that may move it.

    `seen` is the state that the decision was based on. If the channel already had this image, its
    hold and a person's request stay. Otherwise the push ends the hold, unless a person set a new
    one in the meantime.
    """
    make_channel(tx, app, name)
    now, tag = read_channel_state(tx, app, name), image.tag
    stays = ordered or (seen.repository, seen.tag) == (image.repository, tag)
    by_hand = ordered and seen.action != ManualAction.RESTORE
    highest = now.highest if ordered else higher(now.highest, tag)
    tx.run(
        _FOLLOWED,
        app=app,
        name=name,
        highest=higher(None, tag) if by_hand else highest,
        ordered=now.ordered if stays or now.ordered != seen.ordered else None,
        sent=sent,
        now=tx.now,
    )
    if stays or now.hold is None:
        return
    if now.hold == seen.hold:
        release_channel(tx, app, name)
    elif now.hold.lifted_above is not None:
        above = higher(now.hold.lifted_above, tag)
        hold_channel(tx, app, name, Hold(now.hold.since, now.hold.tag, now.hold.action, above))


def action_of(tx: Tx, app: str, name: str, registration: str) -> str | None:
    """Return what moved the channel by this registration: a push or a person; None if nothing."""
    found = tx.run(_ACTION, app=app, name=name, registration=registration).scalar()
    return None if found is None else str(found)


def note_move(
    tx: Tx,
    app: str,
    name: str,
    image: ImageReference,
    report: Report,
    *,
    before: ImageReference | None,
    action: str,
    rule: str,
    registration: str,
) -> None:
    """Add a move to the channel's history, once however often its registration is tried.

    What is restored was moved from what Edgegap was found to have.
    """
    last = tx.run(_LAST_MOVE, app=app, name=name).first()
    if last is not None and last.registration_id == registration and last.tag == image.tag:
        return
    row = tx.run("SELECT source, drift FROM channels WHERE app = :a AND name = :n", a=app, n=name)
    channel, source = row.first(), tx.run(_SOURCE, registration=registration).scalar()
    if channel is not None and action != PUSH:
        source = channel.source
    if channel is not None and action == ManualAction.RESTORE:
        repository, colon, tag = channel.drift.partition(":")
        before = ImageReference(repository=repository, tag=tag) if colon else None
    tx.run(
        _MOVED,
        id=tx.new_id(MOVE),
        app=app,
        name=name,
        now=tx.now,
        from_repository=None if before is None else before.repository,
        from_tag=None if before is None else before.tag,
        repository=image.repository,
        tag=image.tag,
        digest=report.digest,
        push_time=report.push_time,
        action=action,
        source=source or "",
        rule=rule,
        registration=registration,
    )


def moves_of(tx: Tx, app: str, name: str, most: int = MAX_MOVES) -> list[views.Move]:
    """Return the last moves of a channel, the newest first."""
    rows = tx.run(_MOVES, app=app, name=name, most=most).mappings()
    return [views.read_view(views.Move, row) for row in rows]


def list_channels(tx: Tx, channels: Iterable[TargetKey]) -> list[views.Channel]:
    """Return what each of these channels has, with its hold, its drift and its last moves."""
    return [_channel(tx, app, name) for app, name in channels]


def _channel(tx: Tx, app: str, name: str) -> views.Channel:
    state = read_channel_state(tx, app, name)
    hold = state.hold
    row = tx.run(
        "SELECT drift, drift_at FROM channels WHERE app = :app AND name = :name",
        app=app,
        name=name,
    ).first()
    drift, drift_at = ("", None) if row is None else (row.drift, row.drift_at)
    return views.Channel(
        app=app,
        channel=name,
        repository=state.repository or None,
        tag=state.tag or None,
        highest=state.highest,
        held=None
        if hold is None
        else views.Hold(
            since_at=Time(hold.since),
            tag=hold.tag,
            action="rollback" if hold.action == ManualAction.ROLLBACK else "promote",
            lifted_above=hold.lifted_above,
        ),
        drift=drift or None,
        drift_at=None if drift_at is None else Time(drift_at),
        moves=tuple(moves_of(tx, app, name)),
        waiting=waiting_moves(tx, app, name),
    )


def later_tags(tx: Tx, app: str, pushed: Pushed) -> frozenset[str]:
    """Return the tags of later pushes of the repository that are being worked on."""
    rows = tx.run(
        _LATER,
        app=app,
        repository=pushed.repository,
        push_time=pushed.push_time,
        id=pushed.registration,
    )
    return frozenset(str(row.tag) for row in rows)


class Earlier(msgspec.Struct, frozen=True):
    """An image that the channel had. `digest` is the one that passed its trial, if one did."""

    image: ImageReference
    digest: str | None = None


def before(tx: Tx, app: str, name: str, image: ImageReference) -> Earlier | None:
    """Return what a channel that has this image had before, None if nothing is known.

    It is the last image that passed its trial, or else the last one, of the channel's last
    HISTORY_MOVES moves: where nothing is tried, all of a long history would be looked through.
    """
    moves = tx.run(_HISTORY, app=app, name=name, most=HISTORY_MOVES).all()
    last, is_tried = None, has_any_passed(tx, app)
    for earlier, digest in _earlier(moves, image):
        last = last or Earlier(earlier)
        if not is_tried:
            break
        if earlier != image and has_passed(tx, app, earlier, digest):
            return Earlier(earlier, digest or next(iter(passed_digests(tx, app, earlier)), None))
    return last


def _earlier(
    moves: Sequence[Row[Any]], image: ImageReference
) -> Iterator[tuple[ImageReference, str | None]]:
    """Yield the images that a channel had before this one, newest first, with their digests.

    What a rollback undid is left out. `moves` are the channel's, newest first.
    """
    for place, move in enumerate(moves):
        earlier = ImageReference(move.from_repository, move.from_tag)
        if ImageReference(move.repository, move.tag) != image or earlier == image:
            continue
        if move.from_tag is None or move.action in UNDOING:
            continue
        image, tag = earlier, (earlier.repository, earlier.tag)
        older = (one.digest for one in moves[place + 1 :] if (one.repository, one.tag) == tag)
        yield image, next((digest for digest in older if digest is not None), None)
