"""What Docker Hub's API says of a repository: tags, webhooks, immutable tags. Pure.

Every field may be missing, null or of another type, as in real records and public clients. Docker
documents no webhooks: their fields are those of public clients from 2016 to 2026.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from receiver.dockerhub.manifest import Platforms, image_size, images_of, read_tag_record
from receiver.dockerhub.webhook import milliseconds
from receiver.images import is_tag

WEBHOOK_NAME = "edgegap-receiver"
# Also with the escaped slashes of JSON. The address of a webhook may be a secret, like our links.
_ADDRESS = re.compile(r"""(https?:\\?/\\?/)([^\s"'<>\\/?#]*)[^\s"'<>]*""", re.IGNORECASE)


class Tag(msgspec.Struct, frozen=True):
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
        updated_at=milliseconds(row.get("last_updated")) or pushed_at,
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
    pushed = milliseconds(row.get("tag_last_pushed"))
    if pushed is not None:
        return pushed
    of_images = [milliseconds(image.get("last_pushed")) for image in images_of(row)]
    newest = max((moment for moment in of_images if moment is not None), default=None)
    updated = milliseconds(row.get("last_updated"))
    known = [moment for moment in (updated, newest) if moment is not None]
    return min(known, default=None)


class Webhook(msgspec.Struct, frozen=True):
    """A webhook; without a `slug` it cannot be deleted by the API."""

    name: str
    urls: tuple[str, ...]
    slug: str | None


class WebhookPage(msgspec.Struct, frozen=True):
    """One page of the list, and whether there is another."""

    webhooks: tuple[Webhook, ...]
    has_next: bool


def read_webhooks(body: Mapping[str, Any]) -> WebhookPage | None:
    """Read one page of the list; None if it is not one."""
    rows = body.get("results")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    return WebhookPage(tuple(_webhook(row) for row in rows), bool(body.get("next")))


def new_webhook(name: str, url: str) -> dict[str, Any]:
    """Return the body that creates a webhook."""
    return {
        "name": name,
        "expect_final_callback": False,
        "webhooks": [{"name": name, "hook_url": url}],
    }


def unused_name(taken: Collection[str]) -> str:
    """Return a name for our webhook that no other has."""
    names = [WEBHOOK_NAME, *(f"{WEBHOOK_NAME}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def without_addresses(text: str) -> str:
    """Return the text with each URL cut off after its host."""
    return _ADDRESS.sub(lambda found: f"{found[1]}{found[2].rpartition('@')[2]}/***", text)


def _webhook(row: Mapping[str, Any]) -> Webhook:
    hooks = row.get("webhooks")
    urls = [
        hook["hook_url"]
        for hook in (hooks if isinstance(hooks, list) else [])
        if isinstance(hook, dict) and isinstance(hook.get("hook_url"), str)
    ]
    slug = row.get("slug")
    return Webhook(
        name=_text(row.get("name")),
        urls=tuple(urls),
        slug=slug if isinstance(slug, str) and slug else None,
    )


def _text(value: object) -> str:
    return "".join(filter(str.isprintable, value)) if isinstance(value, str) else ""


class ImmutableTags(msgspec.Struct, frozen=True):
    """Which tags of a repository can be neither overwritten nor deleted; without rules, all.

    Source: docs.docker.com/reference/api/hub; a beta feature. The rules are regular expressions,
    which Docker Hub evaluates.
    """

    enabled: bool
    rules: tuple[str, ...] = ()

    def with_rules(self, added: Sequence[str]) -> "ImmutableTags":
        """Return the settings with these rules, too; what is immutable already stays so."""
        if self.enabled and not self.rules:
            return self
        return ImmutableTags(enabled=True, rules=tuple(dict.fromkeys([*self.rules, *added])))

    def body(self) -> dict[str, Any]:
        """Return the body that sets them."""
        return {"immutable_tags": self.enabled, "immutable_tags_rules": list(self.rules)}


def read_immutable_tags(record: Mapping[str, Any]) -> ImmutableTags | None:
    """Read the settings from the record of a repository; None if it does not have them."""
    match record.get("immutable_tags_settings"):
        case {"enabled": bool(enabled), "rules": list(rules)} if all(
            isinstance(rule, str) for rule in rules
        ):
            return ImmutableTags(enabled=enabled, rules=tuple(rules))
    return None
