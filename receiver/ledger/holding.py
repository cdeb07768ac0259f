"""What a target holds by our own doing, and which digest a tag had when it was led there."""

from dataclasses import dataclass

from receiver.images import ImageReference
from receiver.ledger.transactions import Tx

_HOLDS = """INSERT INTO targets (app, version, mode, repository, tag, digest, push_time,
  created_here, made_at, registration_id, updated_at)
 VALUES (:app, :version, :mode, :repository, :tag, :digest, :push_time, :created,
  CASE WHEN :created THEN :now END, :id, :now)
 ON CONFLICT (app, version) DO UPDATE SET repository = excluded.repository, tag = excluded.tag,
  digest = excluded.digest, push_time = excluded.push_time, updated_at = excluded.updated_at,
  registration_id = excluded.registration_id, mode = excluded.mode,
  created_here = CASE WHEN excluded.created_here THEN true ELSE targets.created_here END,
  made_at = CASE WHEN excluded.created_here THEN excluded.made_at ELSE targets.made_at END,
  retired_at = CASE WHEN excluded.created_here THEN NULL ELSE targets.retired_at END"""
_HELD = """SELECT repository, tag, digest, push_time, registration_id FROM targets
 WHERE app = :app AND version = :version"""
_DIGEST = """SELECT digest FROM registrations WHERE app = :app AND version = :version
  AND repository = :repository AND tag = :tag
  AND id <> :id AND state = 'done' AND digest IS NOT NULL ORDER BY id DESC LIMIT 1"""


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


def hold(tx: Tx, app: str, version: str, new: Held, *, mode: str, created: bool) -> None:
    """Write down what a target holds now."""
    before = held(tx, app, version)
    digest, push_time = new.digest, new.push_time
    if before is not None and before.image == new.image:
        digest = digest or before.digest  # this attempt learned none
        push_time = max(push_time, before.push_time)  # reported again, with an earlier time
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
        now=tx.now,
    )
