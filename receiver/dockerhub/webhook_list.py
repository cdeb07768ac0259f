"""A repository's webhooks, as Docker Hub's API lists them. Pure.

Docker documents none of this. The fields are those of public clients from 2016 to 2026; each may be
missing.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

NAME = "edgegap-receiver"
# Also with the escaped slashes of JSON. The address of a webhook may be a secret, like our links.
_ADDRESS = re.compile(r"""(https?:\\?/\\?/)([^\s"'<>\\/?#]*)[^\s"'<>]*""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook; without a `slug` it cannot be deleted by the API."""

    name: str
    urls: tuple[str, ...]
    slug: str | None


@dataclass(frozen=True, slots=True)
class WebhookPage:
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
    names = [NAME, *(f"{NAME}-{number}" for number in range(2, len(taken) + 2))]
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
