"""An app's versions: what Edgegap has, which push each came from, what is rolled back or pruned.

Edgegap is asked at most so often, whoever looks; where it cannot be, the ledger's part is shown.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from receiver.asking import why_refused
from receiver.edgegap.answers import Body
from receiver.edgegap.listing import partly_listed
from receiver.edgegap.shown import flag
from receiver.ledger.channels import channel_rows
from receiver.ledger.deletions import last_deletions
from receiver.ledger.targets import Target, last_deliveries, targets_of
from receiver.retry import Call
from receiver.rules import Mode
from receiver.service import Service
from receiver.times import read_iso
from receiver.upkeep.pruning import MOST_AT_ONCE, Scope, kept_by, plan, rules_of

FRESH_SECONDS = 15.0
MOST_REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class _Listed:
    at: float
    versions: list[Body]
    problem: str
    held: dict[str, str]  # what the ledger had in each target before Edgegap was asked


class Shelf:
    """What Edgegap had when it was asked last, by app."""

    def __init__(self) -> None:
        self._listed: dict[str, _Listed] = {}
        self._one_at_a_time = asyncio.Lock()

    def forget(self) -> None:
        """Ask Edgegap anew next time: something was changed by us."""
        self._listed.clear()

    async def of(self, service: Service, app: str) -> dict[str, Any]:
        """Return all there is to know of an app's versions, as plain rows for JSON."""
        listed = await self._ask(service, app)
        targets = await service.ledger.read(lambda tx: targets_of(tx, app))
        names = {_text(body, "name") for body in listed.versions}
        shown = [one for one in targets if one.version in names or one.mode == Mode.CHANNEL]
        told_by = await service.ledger.read(
            lambda tx: last_deliveries(tx, [one.registration for one in shown])
        )
        moving = [(app, one.version) for one in shown if one.mode == Mode.CHANNEL]
        rows = await service.ledger.read(lambda tx: channel_rows(tx, moving))
        follows = {row["channel"]: {"held": row["held"], "moves": row["moves"]} for row in rows}
        deletions = await service.ledger.read(lambda tx: last_deletions(tx, app))
        planned = await plan(service.ledger, service.settings, Scope(app, most=MOST_AT_ONCE))
        known = {one.version: one for one in shown}
        there = [_there(body, known.get(_text(body, "name")), told_by) for body in listed.versions]
        images = {row["version"]: row["image"] for row in there}
        return {
            "app": app,
            "problem": listed.problem,
            "versions": sorted(there, key=lambda row: row["created_at"] or 0, reverse=True),
            "channels": [
                _channel(one, told_by, _at_edgegap(one, listed, images)) | follows[one.version]
                for one in shown
                if one.mode == Mode.CHANNEL
            ],
            "keep": kept_by(service.settings, app),
            "prunable": [one.made.version for one in planned],
            "deletions": deletions,
        }

    async def _ask(self, service: Service, app: str) -> _Listed:
        async with self._one_at_a_time:
            last = self._listed.get(app)
            if last is not None and time.monotonic() - last.at < FRESH_SECONDS:
                return last
            targets = await service.ledger.read(lambda tx: targets_of(tx, app))
            held = {one.version: _image(one) for one in targets}
            listing = await service.client.versions(app)
            answer, problem = listing.answer, ""
            if answer.ok and not listing.complete:
                problem = partly_listed(listing).capitalize() + "."
            elif not answer.ok:
                rules = ", ".join(rule.name for rule in rules_of(service.settings, app))
                facts = {"app": app, "rule": rules}
                _, problem = await why_refused(service.client, Call.LIST, answer, **facts)
            if len(self._listed) >= MOST_REMEMBERED:
                self._listed.clear()
            listed = self._listed[app] = _Listed(
                time.monotonic(), list(listing.rows), problem, held
            )
            return listed


def _there(body: Body, target: Target | None, told_by: dict[str, str]) -> dict[str, Any]:
    """Return one version as Edgegap has it; only these fields, for others hold secrets."""
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
        "delivery": told_by.get(registration or ""),
    }


def _image(target: Target) -> str:
    return f"{target.repository}:{target.tag}"


def _at_edgegap(target: Target, listed: _Listed, images: dict[str, str]) -> str | None:
    """Return what Edgegap has in a moving target; None where it was moved since that was asked."""
    moved = listed.held.get(target.version) != _image(target)
    return None if moved else images.get(target.version)


def _channel(target: Target, told_by: dict[str, str], found: str | None) -> dict[str, Any]:
    """Return what a channel was put to, and what Edgegap has there, None where it is not known."""
    before = target.before
    return {
        "channel": target.version,
        "repository": target.repository,
        "tag": target.tag,
        "at_edgegap": found,
        "before": before and {"repository": before.repository, "tag": before.tag},
        "delivery": told_by.get(target.registration or ""),
    }


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""
