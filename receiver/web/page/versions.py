"""An app's versions: those at Edgegap, the push of each, its channels, and what can be pruned.

The list of Edgegap is cached for a few seconds; if Edgegap is unavailable, only the ledger's part
is shown.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from receiver.edgegap.listing import partly_listed
from receiver.edgegap.responses import Body
from receiver.edgegap.shown import flag
from receiver.ledger.channels import channel_rows
from receiver.ledger.deletions import last_deletions
from receiver.ledger.targets import Target, last_deliveries, targets_of
from receiver.pipeline.attempt import why_refused
from receiver.pipeline.prune import MOST_AT_ONCE, Scope, keep_count, plan, rules_for_app
from receiver.pipeline.retry import Operation
from receiver.rules.rule import Mode
from receiver.service import Service
from receiver.timestamps import read_iso

FRESH_SECONDS = 15.0
MOST_REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class _Listed:
    at: float
    versions: list[Body]
    problem: str
    held: dict[str, str]  # each target's image in the ledger before the request to Edgegap


class VersionsView:
    """A cache of the versions at Edgegap, by app."""

    def __init__(self) -> None:
        self._listed: dict[str, _Listed] = {}
        self._one_at_a_time = asyncio.Lock()

    def forget(self) -> None:
        """Clear the cache: we changed something at Edgegap."""
        self._listed.clear()

    async def of(self, service: Service, app: str) -> dict[str, Any]:
        """Return an app's versions and channels, as plain rows for JSON."""
        listed = await self._ask(service, app)
        targets = await service.ledger.read(lambda tx: targets_of(tx, app))
        names = {_text(body, "name") for body in listed.versions}
        shown = [
            target for target in targets if target.version in names or target.mode == Mode.CHANNEL
        ]
        deliveries = await service.ledger.read(
            lambda tx: last_deliveries(tx, [target.registration for target in shown])
        )
        moving = [(app, target.version) for target in shown if target.mode == Mode.CHANNEL]
        rows = await service.ledger.read(lambda tx: channel_rows(tx, moving))
        follows = {row["channel"]: {"held": row["held"], "moves": row["moves"]} for row in rows}
        deletions = await service.ledger.read(lambda tx: last_deletions(tx, app))
        planned = await plan(service.ledger, service.settings, Scope(app, most=MOST_AT_ONCE))
        known = {target.version: target for target in shown}
        versions = [
            _version(body, known.get(_text(body, "name")), deliveries) for body in listed.versions
        ]
        images = {row["version"]: row["image"] for row in versions}
        return {
            "app": app,
            "problem": listed.problem,
            "versions": sorted(versions, key=lambda row: row["created_at"] or 0, reverse=True),
            "channels": [
                _channel(target, deliveries, _at_edgegap(target, listed, images))
                | follows[target.version]
                for target in shown
                if target.mode == Mode.CHANNEL
            ],
            "keep": keep_count(service.settings, app),
            "prunable": [candidate.made.version for candidate in planned],
            "deletions": deletions,
        }

    async def _ask(self, service: Service, app: str) -> _Listed:
        async with self._one_at_a_time:
            last = self._listed.get(app)
            if last is not None and time.monotonic() - last.at < FRESH_SECONDS:
                return last
            targets = await service.ledger.read(lambda tx: targets_of(tx, app))
            held = {target.version: _image(target) for target in targets}
            listing = await service.client.versions(app)
            response, problem = listing.answer, ""
            if response.ok and not listing.complete:
                problem = partly_listed(listing).capitalize() + "."
            elif not response.ok:
                rules = ", ".join(rule.name for rule in rules_for_app(service.settings, app))
                facts = {"app": app, "rule": rules}
                _, problem = await why_refused(service.client, Operation.LIST, response, **facts)
            if len(self._listed) >= MOST_REMEMBERED:
                self._listed.clear()
            listed = self._listed[app] = _Listed(
                time.monotonic(), list(listing.rows), problem, held
            )
            return listed


def _version(body: Body, target: Target | None, deliveries: dict[str, str]) -> dict[str, Any]:
    """Return a version as Edgegap returned it; only these fields, as others contain secrets."""
    registration = target.registration if target is not None else None
    return {
        "version": _text(body, "name"),
        "image": f"{_text(body, 'docker_image')}:{_text(body, 'docker_tag')}",
        "registry": _text(body, "docker_repository"),
        "active": flag(body.get("is_active")) is True,
        "created_at": read_iso(body.get("create_time")),
        "mode": target.mode if target is not None else None,
        "created_here": target is not None and target.created_here,
        "by_hand": target is not None and target.by_hand,
        "delivery": deliveries.get(registration or ""),
    }


def _image(target: Target) -> str:
    return f"{target.repository}:{target.tag}"


def _at_edgegap(target: Target, listed: _Listed, images: dict[str, str]) -> str | None:
    """Return the image of a channel at Edgegap; None if the channel was moved since the request."""
    moved = listed.held.get(target.version) != _image(target)
    return None if moved else images.get(target.version)


def _channel(target: Target, deliveries: dict[str, str], at_edgegap: str | None) -> dict[str, Any]:
    """Return a channel's image, and its image at Edgegap, None if that is not known."""
    before = target.before
    return {
        "channel": target.version,
        "repository": target.repository,
        "tag": target.tag,
        "at_edgegap": at_edgegap,
        "before": before and {"repository": before.repository, "tag": before.tag},
        "delivery": deliveries.get(target.registration or ""),
    }


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""
