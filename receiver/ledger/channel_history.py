"""What a channel had before: the image that a rollback without a version puts back."""

from collections.abc import Iterator
from dataclasses import dataclass

from receiver.images import ImageReference
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed

_MOVED_TO = """SELECT id, from_repository, from_tag FROM channel_moves
 WHERE app = :app AND channel = :name AND repository = :repository AND tag = :tag
  AND action NOT IN ('rollback', 'restore')
  AND (from_repository <> repository OR from_tag <> tag)
  AND (CAST(:until AS TEXT) IS NULL OR id < :until) ORDER BY id DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An image that the channel had, until the move with the id `until`."""

    image: ImageReference
    until: str


def before(tx: Tx, app: str, name: str, image: ImageReference) -> ImageReference | None:
    """Return what a channel that has this image had before, None if nothing is known.

    It is the last image that passed its trial, or else the last one.
    """
    earlier = list(_earlier(tx, app, name, image))
    passed = (one for one in earlier if one.image != image and has_passed(tx, app, one.image, None))
    found = next(passed, next(iter(earlier), None))
    return None if found is None else found.image


def _earlier(tx: Tx, app: str, name: str, image: ImageReference) -> Iterator[Earlier]:
    """Yield what the channel had before the image, newest first; what a rollback undid is left out.

    Each was there before the one that is yielded before it, so the walk ends.
    """
    until = None
    while True:
        tag = {"repository": image.repository, "tag": image.tag}
        row = tx.run(_MOVED_TO, app=app, name=name, until=until, **tag).first()
        if row is None:
            return
        image = ImageReference(repository=row.from_repository, tag=row.from_tag)
        until = str(row.id)
        yield Earlier(image, until)
