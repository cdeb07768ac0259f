"""Tags and repositories as Docker Hub's API returns them, modelled on captured responses."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from zlib import crc32

from receiver.sandbox.dockerhub_account import Repository, TagPush
from receiver.sandbox.dockerhub_images import Part

DEFAULT_PAGE_SIZE = 10
MAX_PAGE_SIZE = 100

_PUSHER = 7654321


def tag_record(repository: Repository, push: TagPush) -> dict[str, Any]:
    """Return the record of a tag."""
    pushed = timestamp(push.pushed_at)
    size = sum(part.size for part in push.image.parts)
    return {
        "creator": _PUSHER,
        "id": crc32(f"{repository.name}:{push.tag}".encode()),
        "images": [_image_record(part, pushed) for part in push.image.parts],
        "last_updated": pushed,
        "last_updater": _PUSHER,
        "last_updater_username": repository.name.partition("/")[0],
        "name": push.tag,
        "repository": repository.number,
        "full_size": size,
        "v2": True,
        "tag_status": "active",
        "tag_last_pulled": None,
        "tag_last_pushed": pushed,
        "media_type": push.image.shown_as,
        "content_type": push.image.content_type,
        "digest": push.image.top.digest,
        **repository.altered.get(push.tag, {}),
    }


def _image_record(part: Part, pushed: str) -> dict[str, Any]:
    return {
        "architecture": part.architecture,
        "features": "",
        "variant": part.variant,
        "digest": part.digest,
        "os": part.os,
        "os_features": "",
        "os_version": None,
        "size": part.size,
        "status": "active",
        "last_pulled": None,
        "last_pushed": pushed,
    }


def repository_record(
    repository: Repository,
    tags: Mapping[str, TagPush],
    allowed: frozenset[str],
    *,
    administers: bool,
) -> dict[str, Any]:
    """Return the record of a repository, for a caller with these permissions."""
    namespace, _, name = repository.name.partition("/")
    pushed = [push.pushed_at for push in tags.values()]
    return {
        "user": namespace,
        "name": name,
        "namespace": namespace,
        "repository_type": "image",
        "status": 1,
        "status_description": "active",
        "description": "",
        "is_private": repository.private,
        "is_automated": False,
        "star_count": 0,
        "pull_count": 0,
        "last_updated": timestamp(max(pushed)) if pushed else None,
        "last_modified": None,
        "date_registered": timestamp(0),
        "collaborator_count": 0,
        "affiliation": None,
        "hub_user": namespace,
        "has_starred": False,
        "full_description": None,
        "permissions": {
            "read": "pull" in allowed,
            "write": "push" in allowed,
            "admin": administers,
        },
        "media_types": sorted({push.image.shown_as for push in tags.values()}),
        "content_types": sorted({push.image.content_type for push in tags.values()}),
        "categories": [],
        "immutable_tags_settings": {
            "enabled": repository.immutable,
            "rules": list(repository.immutable_rules),
        },
        "storage_size": sum(part.size for push in tags.values() for part in push.image.parts),
        "source": None,
    }


def tags_page(
    repository: Repository,
    tags: dict[str, TagPush],
    query: Mapping[str, str],
    *,
    base: str,
    flipped: bool,
    endless: bool,
) -> dict[str, Any] | None:
    """Return one page of tags, newest first; None after the last page, unless `endless`.

    With `flipped`, `ordering=last_updated` means the oldest first.
    """
    number = max(1, int(query.get("page", "1")))
    size = min(MAX_PAGE_SIZE, max(1, int(query.get("page_size", str(DEFAULT_PAGE_SIZE)))))
    rows = sorted(tags.values(), key=lambda push: push.pushed_at)
    ordering = query.get("ordering")
    if ordering in {"name", "-name"}:
        rows.sort(key=lambda push: push.tag)
    newest = {None, "-last_updated" if flipped else "last_updated"}
    if ordering in {*newest, "-name"}:
        rows.reverse()
    last = max(1, -(-len(rows) // size))
    if number > last and not endless:
        return None
    shown = min(number, last)

    def url(page: int) -> str:
        namespace, _, name = repository.name.partition("/")
        path = f"{base}/v2/namespaces/{namespace}/repositories/{name}/tags"
        return f"{path}?{urlencode({**query, 'page': page, 'page_size': size})}"

    return {
        "count": len(rows),
        "next": url(number + 1) if number < last or endless else None,
        "previous": url(number - 1) if number > 1 else None,
        "results": [tag_record(repository, p) for p in rows[(shown - 1) * size : shown * size]],
    }


def timestamp(seconds: float) -> str:
    """Format epoch seconds as Docker Hub does."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
