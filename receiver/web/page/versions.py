"""An app's versions: those at Edgegap, the push of each, its channels, and what can be pruned.

The list of Edgegap is cached for a few seconds; if Edgegap is unavailable, only the ledger's part
is shown.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from receiver.edgegap.listing import partly_listed
from receiver.edgegap.responses import Body
from receiver.edgegap.shown import flag
from receiver.ledger import views
from receiver.ledger.channels import list_channels
from receiver.ledger.deletions import last_deletions
from receiver.ledger.targets import Target, last_deliveries, targets_of
from receiver.ledger.trials import trial_time
from receiver.ledger.views import App, DeliveryId, EndedDeletion, Repository, Tag, described
from receiver.ledger.waiting_moves import waiting_moves
from receiver.pipeline.prune import MOST_AT_ONCE, Scope, keep_count, plan, rules_for_app
from receiver.pipeline.refusals import why_refused
from receiver.pipeline.retry import Operation
from receiver.rules.rule import Mode
from receiver.service import Service
from receiver.timestamps import Time, read_iso

FRESH_SECONDS = 15.0
MOST_REMEMBERED = 100


class Version(msgspec.Struct, frozen=True):
    """A version at Edgegap, and the push that created it."""

    version: Annotated[str, described("The version or the channel.", "1.4.2")]
    image: Annotated[str, described("Its image at Edgegap.", "studio/game-server:1.4.2")]
    registry: str
    active: bool
    created_at: Time | None
    mode: Annotated[Mode | None, described("Null if it was not created here.")]
    created_here: bool
    by_hand: Annotated[
        bool,
        described(
            "An older tag that was pushed manually: retention neither counts nor deletes it."
        ),
    ]
    delivery: Annotated[DeliveryId | None, described("The newest delivery of its push.")]


class PreviousImage(msgspec.Struct, frozen=True):
    """The image that a rollback would restore."""

    repository: Repository
    tag: Tag


class AppChannel(msgspec.Struct, frozen=True):
    """A channel of the app: its current and its previous image."""

    channel: Annotated[str, described("The name of the channel.", "staging")]
    repository: Repository
    tag: Tag
    at_edgegap: Annotated[
        str | None, described("The channel's image at Edgegap; null if it is not known.")
    ]
    before: PreviousImage | None
    delivery: DeliveryId | None
    held: Annotated[views.Hold | None, described("Null if pushes move the channel.")]
    moves: Annotated[tuple[views.Move, ...], described("The last moves, the newest first.")]


class AppVersions(msgspec.Struct, frozen=True):
    """An app's versions at Edgegap, its channels, and what retention would delete."""

    app: App
    problem: Annotated[
        str, described("Why Edgegap could not be queried; empty if there was no problem.")
    ]
    versions: Annotated[tuple[Version, ...], described("Newest first.")]
    channels: tuple[AppChannel, ...]
    keep: Annotated[
        int | None, described("Number of versions that retention keeps; null if it is off.")
    ]
    prunable: Annotated[tuple[str, ...], described("The versions that retention would delete now.")]
    waiting: Annotated[
        tuple[views.WaitingMove, ...],
        described("Moves of channels that wait for a trial or for an approval."),
    ]
    trial_milliseconds: Annotated[
        int, described("For how long the deployments of its trials ran; they cost money.", 90000)
    ]
    deletions: Annotated[
        tuple[EndedDeletion, ...],
        described("The last attempts to delete a version, the newest first."),
    ]


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

    async def of(self, service: Service, app: str) -> AppVersions:
        """Return an app's versions and channels."""
        listed = await self._ask(service, app)
        targets = await service.ledger.read(lambda tx: targets_of(tx, app))
        names = {_text(body, "name") for body in listed.versions}
        shown = [
            target for target in targets if target.version in names or target.mode == Mode.CHANNEL
        ]
        moving = [target for target in shown if target.mode == Mode.CHANNEL]
        deliveries = await service.ledger.read(
            lambda tx: last_deliveries(tx, [target.registration for target in shown])
        )
        follows = await service.ledger.read(
            lambda tx: list_channels(tx, [(app, target.version) for target in moving])
        )
        deletions = await service.ledger.read(lambda tx: last_deletions(tx, app))
        waiting, tried = await service.ledger.read(
            lambda tx: (waiting_moves(tx, app), trial_time(tx))
        )
        planned = await plan(service.ledger, service.settings, Scope(app, most=MOST_AT_ONCE))
        known = {target.version: target for target in shown}
        versions = [
            _version(body, known.get(_text(body, "name")), deliveries) for body in listed.versions
        ]
        images = {one.version: one.image for one in versions}
        return AppVersions(
            app=app,
            problem=listed.problem,
            versions=tuple(sorted(versions, key=lambda one: one.created_at or 0, reverse=True)),
            channels=tuple(
                _channel(target, deliveries, _at_edgegap(target, listed, images), follow)
                for target, follow in zip(moving, follows, strict=True)
            ),
            keep=keep_count(service.settings, app),
            prunable=tuple(candidate.made.version for candidate in planned),
            waiting=waiting,
            trial_milliseconds=tried.get(app, 0),
            deletions=tuple(deletions),
        )

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


def _version(body: Body, target: Target | None, deliveries: Mapping[str, str]) -> Version:
    """Return a version as Edgegap returned it; only these fields, as others contain secrets."""
    registration = target.registration if target is not None else None
    created_at = read_iso(body.get("create_time"))
    return Version(
        version=_text(body, "name"),
        image=f"{_text(body, 'docker_image')}:{_text(body, 'docker_tag')}",
        registry=_text(body, "docker_repository"),
        active=flag(body.get("is_active")) is True,
        created_at=None if created_at is None else Time(created_at),
        mode=None if target is None else Mode(target.mode),
        created_here=target is not None and target.created_here,
        by_hand=target is not None and target.by_hand,
        delivery=deliveries.get(registration or ""),
    )


def _image(target: Target) -> str:
    return f"{target.repository}:{target.tag}"


def _at_edgegap(target: Target, listed: _Listed, images: dict[str, str]) -> str | None:
    """Return the image of a channel at Edgegap; None if the channel was moved since the request."""
    moved = listed.held.get(target.version) != _image(target)
    return None if moved else images.get(target.version)


def _channel(
    target: Target, deliveries: Mapping[str, str], at_edgegap: str | None, follow: views.Channel
) -> AppChannel:
    before = target.before
    return AppChannel(
        channel=target.version,
        repository=target.repository,
        tag=target.tag,
        at_edgegap=at_edgegap,
        before=None if before is None else PreviousImage(before.repository, before.tag),
        delivery=deliveries.get(target.registration or ""),
        held=follow.held,
        moves=follow.moves,
    )


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""
