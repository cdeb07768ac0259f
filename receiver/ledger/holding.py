"""What a target holds by our own doing, and which digest a tag had when it was led there."""

from dataclasses import dataclass

from receiver.images import ImageReference
from receiver.ledger.transactions import Tx

_HOLDS = """INSERT INTO targets (app, version, mode, repository, tag, digest, push_time,
  created_here, made_at, by_hand, registration_id, updated_at)
 VALUES (:app, :version, :mode, :repository, :tag, :digest, :push_time, :created,
  CASE WHEN :created THEN :now END, :by_hand, :id, :now)
 ON CONFLICT (app, version) DO UPDATE SET repository = excluded.repository, tag = excluded.tag,
  digest = excluded.digest, push_time = excluded.push_time, updated_at = excluded.updated_at,
  registration_id = excluded.registration_id, mode = excluded.mode, by_hand = excluded.by_hand,
  created_here = CASE WHEN excluded.created_here THEN true ELSE targets.created_here END,
  made_at = CASE WHEN excluded.created_here THEN excluded.made_at ELSE targets.made_at END,
  deleted_at = CASE WHEN excluded.created_here THEN NULL ELSE targets.deleted_at END"""
# A report with a time that was not reported of the tag before; Docker Hub gives whole seconds.
_LATER = """SELECT 1 FROM deliveries d WHERE d.id IN ({which}) AND d.source <> 'command'
  AND d.pushed_at / 1000 > (SELECT coalesce(max(coalesce(e.pushed_at, e.received_at)) / 1000, -1)
   FROM deliveries e WHERE e.repository = d.repository AND e.tag = d.tag AND e.id < d.id) LIMIT 1"""
_ONE, _OF_REGISTRATION = (
    _LATER.format(which=":id"),
    _LATER.format(which="SELECT delivery_id FROM led_to WHERE registration_id = :id"),
)
_HELD = """SELECT repository, tag, digest, push_time, by_hand, registration_id FROM targets
 WHERE app = :app AND version = :version"""
_DIGEST = """SELECT digest FROM registrations WHERE app = :app AND version = :version
  AND repository = :repository AND tag = :tag
  AND id <> :id AND state = 'done' AND outcome IN ('created', 'updated', 'unchanged')
  AND digest IS NOT NULL ORDER BY id DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a target holds, by which registration. `push_time` in epoch milliseconds."""

    repository: str
    tag: str
    digest: str | None
    push_time: int
    registration: str

    @property
    def image(self) -> ImageReference:
        """What of Docker Hub it holds."""
        return ImageReference(repository=self.repository, tag=self.tag)


def held(tx: Tx, app: str, version: str) -> Held | None:
    """Return what the target holds by our own doing, None where nothing."""
    row = tx.run(_HELD, app=app, version=version).first()
    if row is None:
        return None
    return Held(row.repository, row.tag, row.digest, row.push_time, row.registration_id or "")


def digest_of_tag(
    tx: Tx,
    holding: Held | None,
    *,
    registration: str,
    app: str,
    version: str,
    image: ImageReference,
) -> str | None:
    """Return the digest that this image's tag had when the target was last led to it.

    `registration` is the one that asks: it does not count itself.
    """
    if holding is not None and holding.image == image:
        return holding.digest
    found = tx.run(
        _DIGEST,
        id=registration,
        app=app,
        version=version,
        repository=image.repository,
        tag=image.tag,
    ).scalar()
    return None if found is None else str(found)


def is_new_push(tx: Tx, delivery: str) -> bool:
    """Return whether it reports a push of its tag that is later than all that were reported."""
    return tx.run(_ONE, id=delivery).first() is not None


def led_by_new_push(tx: Tx, registration: str) -> bool:
    """Return whether one of the deliveries that led to it does; a repeated report is no push."""
    return tx.run(_OF_REGISTRATION, id=registration).first() is not None


def hold(
    tx: Tx, app: str, version: str, new: Held, *, mode: str, created: bool, by_hand: bool = False
) -> None:
    """Write down what a target has now.

    `by_hand`: a person asked for it, and its push is not the newest. So it stays until the tag is
    pushed again.
    """
    before = tx.run(_HELD, app=app, version=version).first()
    digest, push_time = new.digest, new.push_time
    if before is not None and (before.repository, before.tag) == (new.repository, new.tag):
        digest = digest or before.digest  # this attempt learned none
        repeated = bool(before.by_hand) and not led_by_new_push(tx, new.registration)
        by_hand = by_hand or repeated
        if by_hand or not before.by_hand:  # reported again, with an earlier time
            push_time = max(push_time, before.push_time)
    tx.run(
        _HOLDS,
        id=new.registration,
        app=app,
        version=version,
        mode=mode,
        repository=new.repository,
        tag=new.tag,
        digest=digest,
        push_time=push_time,
        created=created,
        by_hand=by_hand,
        now=tx.now,
    )
