"""An app's versions and channels, for the API and the page, and the API's operations on them.

Edgegap's lists are read in the background: no page waits for Edgegap.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from receiver.edgegap.fields import flag
from receiver.edgegap.in_time import LATE, in_time
from receiver.edgegap.listing import partly_listed
from receiver.edgegap.responses import Body
from receiver.images import ImageReference
from receiver.ledger import views
from receiver.ledger.approvals import waiting_moves
from receiver.ledger.channels import Earlier, before, channel_images, list_channels
from receiver.ledger.deletions import last_deletions
from receiver.ledger.targets import Origin, origins, targets_named
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import trial_time
from receiver.ledger.views import App, DeliveryId, EndedDeletion, Repository, Tag, described
from receiver.logs import requested_by
from receiver.periodic import log_errors
from receiver.pipeline.prune import (
    MAX_BATCH,
    Pruned,
    PrunePreview,
    RetentionBusy,
    Scope,
    count_running,
    keep_count,
    log_pruned,
    plan,
    prune,
    prune_preview,
    rules_for_app,
    why_refused,
)
from receiver.pipeline.retry import Operation
from receiver.rules.retention import Retention, Target
from receiver.rules.rule import Mode, TargetKey
from receiver.service import Service
from receiver.timestamps import Time, read_iso
from receiver.upkeep.version_settings import (
    ExportedSettings,
    VersionDiff,
    VersionReader,
    VersionUnknown,
    VersionUnreadable,
)
from receiver.web.bodies import (
    AppQuery,
    DiffQuery,
    ExportQuery,
    PrunableVersion,
    PruneRequest,
    PruneResult,
)
from receiver.web.messages import ProblemCode, json_response, problem
from receiver.web.operation import Group, api, fails, returns

FRESH_SECONDS = 15.0
PAGE_WAITS_SECONDS = 0.1  # a list that arrives within this time is on the page at once
MAX_APPS = 100


class VersionList(msgspec.Struct, frozen=True):
    """An app's versions at Edgegap. `listed_at`: when they were listed, None if never.

    `problem`: why the last request failed. `channels`: each channel's image in the ledger before
    the request. `changes`: how often we had changed something at Edgegap before it.
    """

    rows: Sequence[Body] = ()
    listed_at: Time | None = None
    problem: str = ""
    channels: dict[str, ImageReference] = msgspec.field(default_factory=dict)
    asked_at: float = 0.0
    changes: int = -1


class VersionLists:
    """A cache of the lists, by app; at most one request for each app at a time."""

    def __init__(self) -> None:
        self.wanted = False  # the overview shows them, too
        self.revision = 0  # grows with each change of a list
        self._lists: dict[str, VersionList] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._changes = 0

    def expire(self) -> None:
        """List the versions again next time: we changed something at Edgegap."""
        self._changes += 1

    async def stop(self) -> None:
        """Cancel all requests."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def fresh(self, service: Service, app: str) -> VersionList:
        """Return the current list; waits for Edgegap if the cached one is old, within its limit."""
        late = f"{LATE}: this is the list as it was last read. It is being read again."
        return await in_time(self._fresh(service, app)) or replace(self.known(app), problem=late)

    async def _fresh(self, service: Service, app: str) -> VersionList:
        for _ in range(2):  # the first may have begun before our last change
            if (task := self._refresh(service, app)) is not None:
                await asyncio.shield(task)
        return self.known(app)

    async def refresh(self, service: Service, apps: Sequence[str]) -> None:
        """Start to read the old lists, and wait a moment for those that arrive at once."""
        tasks = [task for app in apps if (task := self._refresh(service, app)) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=PAGE_WAITS_SECONDS)

    def known(self, app: str) -> VersionList:
        """Return the list as it was last read."""
        return self._lists.get(app, VersionList())

    def _refresh(self, service: Service, app: str) -> asyncio.Task[None] | None:
        """Return the request for a list that is old, and start it if there is none."""
        asking = self._asking.get(app)
        if asking is None and not self._is_fresh(app):
            asking = self._asking[app] = asyncio.create_task(self._ask(service, app))
            asking.add_done_callback(lambda _: self._asking.pop(app, None))
        return asking

    def _is_fresh(self, app: str) -> bool:
        known = self.known(app)
        is_recent = time.monotonic() - known.asked_at < FRESH_SECONDS
        return is_recent and known.changes == self._changes

    async def _ask(self, service: Service, app: str) -> None:
        with log_errors("version_list_fault", app=app):
            changes = self._changes
            channels = await service.ledger.read(lambda tx: channel_images(tx, app))
            before, now = self.known(app), await service.ledger.read(lambda tx: tx.now)
            listing = await service.client.versions(app)
            answer, problem = listing.answer, ""
            rows: Sequence[Body] = listing.rows
            listed_at: Time | None = Time(now)
            if answer.ok and not listing.complete:
                problem = partly_listed(listing).capitalize() + "."
            elif not answer.ok:
                rules = ", ".join(rule.name for rule in rules_for_app(service.settings, app))
                facts = {"app": app, "rule": rules}
                _, problem = await why_refused(service.client, Operation.LIST, answer, **facts)
                rows, listed_at, channels = before.rows, before.listed_at, before.channels
            if len(self._lists) >= MAX_APPS:
                self._lists.clear()
            asked_at = time.monotonic()
            self._lists[app] = VersionList(rows, listed_at, problem, channels, asked_at, changes)
            self.revision += 1


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
    pusher: Annotated[str | None, described("The user at Docker Hub who pushed it.", "anna")]
    push_to_version_milliseconds: Annotated[
        int | None, described("From the push to the version; null if the push did not create it.")
    ]
    channels: Annotated[
        tuple[str, ...], described("The channels that have its image.", ["staging"])
    ]
    retention: Annotated[
        Retention | None,
        described(
            "Why retention keeps it, or `beyond_keep`; null if retention is off or not concerned, "
            "or if there are too many versions to examine.",
            "newest",
        ),
    ]


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

    @property
    def image(self) -> str:
        """The image that the ledger knows, as Edgegap writes it."""
        return f"{self.repository}:{self.tag}"


class AppVersions(msgspec.Struct, frozen=True):
    """An app's versions at Edgegap, its channels, and what retention would delete."""

    app: App
    problem: Annotated[
        str, described("Why Edgegap could not be queried; empty if there was no problem.")
    ]
    listed_at: Annotated[
        Time | None, described("When Edgegap's list was read; null if it was not read yet.")
    ]
    versions: Annotated[tuple[Version, ...], described("Newest first.")]
    channels: tuple[AppChannel, ...]
    keep: Annotated[
        int | None, described("Number of versions that retention keeps; null if it is off.")
    ]
    prunable: Annotated[
        tuple[str, ...],
        described("The versions that retention would delete now, the oldest first; at most 50."),
    ]
    more_prunable: Annotated[
        bool, described("Whether there may be more; `pruneVersions` with `dry_run` lists all.")
    ]
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


class KnownVersions(msgspec.Struct, frozen=True):
    """What the ledger knows of an app's targets that exist; `tried` in milliseconds."""

    targets: dict[str, Target]
    before: Mapping[str, Earlier | None]
    origins: Mapping[str, Origin]
    channels: Sequence[views.Channel]
    deletions: Sequence[EndedDeletion]
    waiting: tuple[views.WaitingMove, ...]
    tried: int

    def origin(self, target: Target | None) -> Origin:
        """Return the newest push of a target, as far as the ledger has it."""
        return self.origins.get(target.registration, Origin()) if target else Origin()


async def all_versions(service: Service, request: Request) -> list[AppVersions]:
    """Return the versions of each app that rules name, with the lists as they were last read.

    The page's revision was made just before: it began to read those that are old.
    """
    lists = lists_of(request)
    return [await _view(service, app, lists.known(app)) for app in apps_of(service)]


async def _view(service: Service, app: str, listed: VersionList) -> AppVersions:
    names = [_text(body, "name") for body in listed.rows]
    known = await service.ledger.read(lambda tx: known_versions(tx, app, names))
    keep = keep_count(service.settings, app)
    old = PrunePreview()
    if keep is not None:
        old = await prune_preview(service.ledger, service.settings, Scope(app, most=MAX_BATCH))
    own = [
        target
        for follow in known.channels
        if (target := known.targets.get(follow.channel)) is not None
    ]
    versions = [_version(body, known, own, old.why) for body in listed.rows]
    images = {one.version: one.image for one in versions}
    return AppVersions(
        app=app,
        problem=listed.problem,
        listed_at=listed.listed_at,
        versions=tuple(sorted(versions, key=lambda one: one.created_at or 0, reverse=True)),
        channels=tuple(_channel(target, known, listed, images) for target in own),
        keep=keep,
        prunable=tuple(one.target.version for one in old.planned),
        more_prunable=old.more,
        waiting=known.waiting,
        trial_milliseconds=known.tried,
        deletions=tuple(known.deletions),
    )


def known_versions(tx: Tx, app: str, names: Sequence[str]) -> KnownVersions:
    """Read what the ledger knows of the app's channels and of these versions, by index."""
    moving = channel_images(tx, app)
    targets = targets_named(tx, app, [*names, *moving])
    return KnownVersions(
        {target.version: target for target in targets},
        {name: before(tx, app, name, image) for name, image in moving.items()},
        origins(tx, [target.registration for target in targets]),
        list_channels(tx, [TargetKey(app, name) for name in sorted(moving)]),
        last_deletions(tx, app),
        waiting_moves(tx, app),
        trial_time(tx, app).get(app, 0),
    )


def _version(
    body: Body, known: KnownVersions, channels: Sequence[Target], why: Mapping[str, Retention]
) -> Version:
    """Return a version as Edgegap returned it; only these fields, as others contain secrets."""
    name = _text(body, "name")
    target = known.targets.get(name)
    image = f"{_text(body, 'docker_image')}:{_text(body, 'docker_tag')}"
    origin = known.origin(target)
    created_at = read_iso(body.get("create_time"))
    counts = target is not None and target.created_here and not target.by_hand
    return Version(
        version=name,
        image=image,
        registry=_text(body, "docker_repository"),
        active=flag(body.get("is_active")) is True,
        created_at=None if created_at is None else Time(created_at),
        mode=None if target is None else Mode(target.mode),
        created_here=target is not None and target.created_here,
        by_hand=target is not None and target.by_hand,
        delivery=origin.delivery,
        pusher=origin.pusher,
        push_to_version_milliseconds=origin.took,
        channels=tuple(
            one.version
            for one in channels
            if f"{one.repository}:{one.tag}" == image and one.version != name
        ),
        retention=why.get(name) if counts else None,
    )


def _channel(
    target: Target, known: KnownVersions, listed: VersionList, images: Mapping[str, str]
) -> AppChannel:
    """Return a channel; its image at Edgegap is not known if it was moved since the request."""
    moved = listed.channels.get(target.version) != target.image
    earlier = known.before.get(target.version)
    was = None if earlier is None else earlier.image
    follow = next(one for one in known.channels if one.channel == target.version)
    return AppChannel(
        channel=target.version,
        repository=target.repository,
        tag=target.tag,
        at_edgegap=None if moved else images.get(target.version),
        before=None if was is None else PreviousImage(was.repository, was.tag),
        delivery=known.origin(target).delivery,
        held=follow.held,
        moves=follow.moves,
    )


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def lists_of(request: Request) -> VersionLists:
    """Return the application's cache of Edgegap's lists."""
    lists: VersionLists = request.app.state.lists
    return lists


# The operations of the API.

NO_APP = fails(ProblemCode.APP_NOT_FOUND, why="No rule names this app.")
NO_VERSION = (
    fails(
        ProblemCode.APP_NOT_FOUND,
        ProblemCode.VERSION_NOT_FOUND,
        why="No rule names this app, or there is no such version.",
    ),
    fails(ProblemCode.EDGEGAP_FAILED, why="Edgegap does not return the version now."),
)


def apps_of(service: Service) -> list[str]:
    """Return the apps that rules name, sorted."""
    return sorted({rule.app for rule in service.settings.rules})


def no_such_app(service: Service) -> Response:
    """Return that no rule names an app."""
    detail = f"no rule names this app; rules name: {', '.join(apps_of(service))}"
    return problem(ProblemCode.APP_NOT_FOUND, detail)


@api(
    "GET /api/versions", Group.VERSIONS,
    returns(
        AppVersions,
        "The versions at Edgegap, the push of each, channels, and the versions that retention "
        "would delete.",
    ),
    NO_APP,
)  # fmt: skip
async def get_versions(service: Service, request: Request, query: AppQuery) -> Response:
    """List the versions of an app."""
    if query.app not in apps_of(service):
        return no_such_app(service)
    listed = await lists_of(request).fresh(service, query.app)
    return json_response(await _view(service, query.app, listed))


@api(
    "GET /api/diff", Group.VERSIONS,
    returns(VersionDiff, "Settings, ports and variables by name; no value of a variable."),
    *NO_VERSION,
)  # fmt: skip
async def diff_versions(service: Service, _: Request, query: DiffQuery) -> Response:
    """Show what differs between two versions."""
    return await _read(service, query.app, lambda one: one.diff(query.app, query.a, query.b))


@api(
    "GET /api/export", Group.VERSIONS,
    returns(ExportedSettings, "Values of variables are read from the receiver's variables."),
    *NO_VERSION,
)  # fmt: skip
async def export_version(service: Service, _: Request, query: ExportQuery) -> Response:
    """Export the settings of a version as TOML."""
    return await _read(service, query.app, lambda one: one.export(query.app, query.version))


async def _read(
    service: Service, app: str, read: Callable[[VersionReader], Awaitable[object]]
) -> Response:
    reader = VersionReader(service.ledger, service.client, service.settings.secret_keys)
    if app not in apps_of(service):
        return no_such_app(service)
    try:
        return json_response(await read(reader))
    except VersionUnknown as error:
        return problem(ProblemCode.VERSION_NOT_FOUND, str(error))
    except VersionUnreadable as error:
        return problem(ProblemCode.EDGEGAP_FAILED, str(error))


@api(
    "POST /api/prune", Group.VERSIONS,
    returns(
        PruneResult, "The versions that may be deleted, and the result of each deletion."
    ),
    fails(
        ProblemCode.NO_RETENTION,
        ProblemCode.DELETION_IN_PROGRESS,
        why="No rule of the app has `keep`, or a deletion is in progress.",
    ),
)  # fmt: skip
async def prune_versions(service: Service, _: Request, body: PruneRequest) -> Response:
    """Delete old versions of an app."""
    if keep_count(service.settings, body.app) is None:
        detail = f"no rule of the app {body.app} has `keep`, so nothing is pruned"
        return problem(ProblemCode.NO_RETENTION, detail)
    scope = Scope(body.app, most=MAX_BATCH, only=body.versions, by=requested_by(body.source))
    planned = await plan(service.ledger, service.settings, scope)
    first = [one.target.version for one in planned[:MAX_BATCH]] if body.dry_run else []
    running = await count_running(service.ledger, service.client, body.app, first)
    prunable = tuple(
        PrunableVersion(one.target.version, one.why, running.get(one.target.version))
        for one in planned
    )
    results: list[Pruned] = []
    if not body.dry_run:
        try:
            results = await prune(service.ledger, service.client, service.current, scope)
        except RetentionBusy as error:
            return problem(ProblemCode.DELETION_IN_PROGRESS, str(error))
        log_pruned(body.app, results, source=body.source)
    return json_response(PruneResult(body.app, prunable, tuple(results)))
