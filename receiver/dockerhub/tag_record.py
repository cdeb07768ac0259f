"""A tag as Docker Hub's API describes it. Pure.

Every field may be missing, null or of another type, as in real records and public clients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from receiver.dockerhub.manifest import Platforms, image_size, images_of, read_tag_record
from receiver.dockerhub.webhook import FIRST_SECOND, LAST_SECOND
from receiver.images import is_tag
from receiver.timestamps import read_iso


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag as Docker Hub lists it.

    `pushed_at` and `updated_at` are in epoch milliseconds, None if not known; lists are sorted by
    `updated_at`, which is never before the push, and which also changes without one. `size` is that
    of the image that Edgegap runs, compressed, in bytes; None if it is not known.
    """

    tag: str
    pushed_at: int | None
    updated_at: int | None
    digest: str | None
    media_type: str | None
    platforms: Platforms | None
    size: int | None = None


def read_tag(row: Mapping[str, Any]) -> Tag | None:
    """Read a tag record; None if it has no valid tag name."""
    name = row.get("name")
    if not isinstance(name, str) or not is_tag(name):
        return None
    digest, platforms = read_tag_record(row)
    media_type = row.get("media_type")
    pushed_at = _pushed_at(row)
    return Tag(
        tag=name,
        pushed_at=pushed_at,
        updated_at=_time(row.get("last_updated")) or pushed_at,
        digest=digest,
        media_type=media_type if isinstance(media_type, str) and media_type else None,
        platforms=platforms,
        size=image_size(row),
    )


def _pushed_at(row: Mapping[str, Any]) -> int | None:
    """Return when the tag was pushed.

    `tag_last_pushed` may be null or Go's zero time. Without it, `last_updated` counts, but no later
    than the newest push of one of its images: it also changes without a push
    (github.com/docker/hub-feedback/issues/1888), and an old tag must not look new.
    """
    pushed = _time(row.get("tag_last_pushed"))
    if pushed is not None:
        return pushed
    of_images = [_time(image.get("last_pushed")) for image in images_of(row)]
    newest = max((moment for moment in of_images if moment is not None), default=None)
    updated = _time(row.get("last_updated"))
    known = [moment for moment in (updated, newest) if moment is not None]
    return min(known, default=None)


def _time(value: object) -> int | None:
    """Return a time in epoch ms; None for times outside Docker Hub's existence."""
    moment = read_iso(value)
    if moment is None or not FIRST_SECOND * 1000 <= moment < LAST_SECOND * 1000:
        return None
    return moment
