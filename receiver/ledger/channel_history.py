"""What a channel had before: the image that a rollback without a version puts back."""

from collections.abc import Iterator
from dataclasses import dataclass

from receiver.images import ImageReference
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed, passed_digests

_MOVED_TO = """SELECT id, from_repository, from_tag FROM channel_moves
 WHERE app = :app AND channel = :name AND repository = :repository AND tag = :tag
  AND action NOT IN ('rollback', 'restore')
  AND (from_repository <> repository OR from_tag <> tag)
  AND (CAST(:until AS TEXT) IS NULL OR id < :until) ORDER BY id DESC LIMIT 1"""

_DIGEST = """SELECT digest FROM channel_moves
 WHERE app = :app AND channel = :name AND repository = :repository AND tag = :tag
  AND id < :until AND digest IS NOT NULL ORDER BY id DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An image that the channel had. `digest` is the one that passed its trial, if one did."""

    image: ImageReference
    digest: str | None = None


def before(tx: Tx, app: str, name: str, image: ImageReference) -> Earlier | None:
    """Return what a channel that has this image had before, None if nothing is known.

    It is the last image that passed its trial, or else the last one.
    """
    last = None
    for earlier, until in _earlier(tx, app, name, image):
        last = last or Earlier(earlier)
        tag = {"repository": earlier.repository, "tag": earlier.tag}
        digest = tx.run(_DIGEST, app=app, name=name, until=until, **tag).scalar()
        if earlier != image and has_passed(tx, app, earlier, digest):
            return Earlier(earlier, digest or next(iter(passed_digests(tx, app, earlier)), None))
    return last


def _earlier(
    tx: Tx, app: str, name: str, image: ImageReference
) -> Iterator[tuple[ImageReference, str]]:
    """Yield what the channel had before the image, newest first; what a rollback undid is left out.

    Each comes with the id of the move that ended it, which is older than the one before: so the
    walk ends.
    """
    until = None
    while True:
        tag = {"repository": image.repository, "tag": image.tag}
        row = tx.run(_MOVED_TO, app=app, name=name, until=until, **tag).first()
        if row is None:
            return
        image = ImageReference(repository=row.from_repository, tag=row.from_tag)
        until = str(row.id)
        yield image, until
