"""What the operations of the JSON API do; `operations.py` lists them."""

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from receiver.backoff import SECOND
from receiver.config.settings import marks_of
from receiver.config.variables import variables_of
from receiver.config.warnings import probably_not_meant
from receiver.dockerhub.webhook import Push
from receiver.edgegap.deployment_answers import read_near
from receiver.images import is_digest, is_repository, is_tag, parse_image_reference
from receiver.ledger import gates as pauses
from receiver.ledger.channels import list_channels
from receiver.ledger.deliveries import RecordedDelivery
from receiver.ledger.links import revoke
from receiver.ledger.queries import Filter, delivery_detail, find_push, search_deliveries
from receiver.ledger.transaction import Tx
from receiver.logs import Source, log_operation
from receiver.pipeline.prune import (
    MOST_AT_ONCE,
    Pruned,
    RetentionBusy,
    Scope,
    keep_count,
    log_pruned,
    plan,
    prune,
)
from receiver.rules.channel_order import ByHand
from receiver.service import Service
from receiver.signing import LONGEST_LIFE_SECONDS
from receiver.upkeep.channels import (
    ChannelNotMoved,
    UnknownRepository,
    log_moved,
    promote,
    release,
    rollback_channel,
)
from receiver.upkeep.operations import Asker, PausedRepositories, dismiss, undo_dismissal
from receiver.upkeep.trials import NotTried, log_requested, try_version
from receiver.upkeep.version_settings import VersionReader, VersionUnknown, VersionUnreadable
from receiver.web.api_auth import limit_of, limited_to, source_of
from receiver.web.bodies import (
    MOST_MISSED,
    AppQuery,
    CatchUpRequest,
    CaughtUp,
    ChannelList,
    ChannelsQuery,
    CheckQuery,
    DeliveriesQuery,
    DiffQuery,
    DismissRequest,
    ExportQuery,
    MissedPushReport,
    OpenedGate,
    OpenGateRequest,
    PauseRequest,
    PromoteRequest,
    PromotionQuery,
    PrunableVersion,
    PruneRequest,
    PruneResult,
    PushRequest,
    QueuedMove,
    QueuedTrial,
    Released,
    ReleaseRequest,
    Reloaded,
    ReplayRequest,
    Revoked,
    RevokeRequest,
    RollbackRequest,
    SettingsHashes,
    TrialRequest,
    UndoDismissalRequest,
)
from receiver.web.messages import BadRequest, given, json_response, plain
from receiver.web.overview import overview_of
from receiver.web.page.versions import VersionsView
from receiver.web.problems import ProblemCode, problem
from receiver.web.rules import RuleList, check_image, shown_rules
from receiver.web.waiting import awaited_of, image_of, wait_for_push


async def list_deliveries(service: Service, request: Request, query: DeliveriesQuery) -> Response:
    """List deliveries, newest first."""
    only, image = limit_of(request), image_of(query)
    repository = given(query.repository) if image is None else image.repository
    if only is not None and repository not in {None, only}:
        return limited_to(only)
    awaited = awaited_of(query, image)
    if awaited is not None:
        return await wait_for_push(service, request, awaited)
    search = Filter(
        repository=only or repository,
        tag=given(query.tag) if image is None else image.tag,
        digest=given(query.digest),
        verdict=given(query.verdict),
        state=given(query.state),
        app=given(query.app),
        version=given(query.version),
        reason=given(query.reason),
        source=given(query.source),
        since=given(query.since),
        until=given(query.until),
        text=given(query.text),
        before=given(query.before),
        limit=query.limit,
    )
    page = await service.ledger.read(lambda tx: search_deliveries(tx, search))
    headers = {} if page.next is None else {"Link": _next_page(request, page.next)}
    return json_response(page, headers=headers)


def _next_page(request: Request, before: str) -> str:
    """Return the header of RFC 8288 that links to the next page."""
    query = urlencode({**request.query_params, "before": before})
    return f'<{request.url.path}?{query}>; rel="next"'


async def show_delivery(service: Service, request: Request) -> Response:
    """Show one delivery with all details."""
    identity = plain(request.path_params["id"])
    row = await service.ledger.read(lambda tx: delivery_detail(tx, identity))
    if row is None or limit_of(request) not in {None, row.repository}:
        return problem(ProblemCode.DELIVERY_NOT_FOUND, f"there is no delivery {identity}")
    return json_response(row)


async def push(service: Service, request: Request, body: PushRequest) -> Response:
    """Push an image manually."""
    image = parse_image_reference(body.image)
    only = limit_of(request)
    if only not in {None, image.repository}:
        return limited_to(str(only))
    recorded = await service.manual.push(service.preflight.hub, image, source_of(request))
    row = await service.ledger.read(lambda tx: delivery_detail(tx, recorded.delivery))
    return json_response(row, 202 if recorded.registrations else 200)


async def replay_delivery(service: Service, request: Request) -> Response:
    """Replay one delivery."""
    identity, only = plain(request.path_params["id"]), limit_of(request)
    row = await service.ledger.read(lambda tx: find_push(tx, identity))
    if row is None or only not in {None, row.repository}:
        return problem(ProblemCode.DELIVERY_NOT_FOUND, f"there is no delivery {identity}")
    replayed = (await service.manual.replay([identity], source_of(request))).replayed
    if not replayed:
        return problem(ProblemCode.DELIVERY_NOT_FOUND, f"there is no delivery {identity}")
    return json_response(replayed[0], 202)


async def replay(service: Service, request: Request, body: ReplayRequest) -> Response:
    """Replay many deliveries."""
    done = await service.manual.replay(
        body.ids, source_of(request), parked=body.parked, since=body.since
    )
    return json_response(done, 202)


async def revoke_token(service: Service, request: Request, body: RevokeRequest) -> Response:
    """Revoke an API token."""
    revoked = await service.ledger.write(
        lambda tx: revoke(tx, body.id, tx.now + LONGEST_LIFE_SECONDS * 1000)
    )
    if revoked:
        log_operation("api_token_revoked", source=source_of(request), id=body.id)
    return json_response(Revoked(body.id, revoked))


async def show_overview(service: Service, _: Request) -> Response:
    """Show the current state."""
    return json_response(await overview_of(service))


async def list_rules(service: Service, _: Request) -> Response:
    """List the rules."""
    paused = await service.ledger.read(pauses.paused)
    return json_response(RuleList(shown_rules(service.settings.rules, paused)))


async def check(service: Service, _: Request, query: CheckQuery) -> Response:
    """Return which rules match an image."""
    image = parse_image_reference(query.image)
    return json_response(check_image(image.repository, image.tag, service.settings.rules))


async def reload(service: Service, request: Request) -> Response:
    """Read the configuration again, from the environment that the server was started with."""
    environ = variables_of(request.app.state.environ)
    done = await service.reload(environ, source_of(request))
    if done.faults:
        listed = "\n".join(done.faults)
        what = "the configuration has faults"
        if done.restart_first:
            what = "the configuration is valid, but unsafe with settings that need a restart"
        detail = f"{what}, so the one before stays in force:\n{listed}"
        return problem(ProblemCode.CONFIGURATION_REFUSED, detail)
    settings = service.settings
    warnings = tuple(probably_not_meant(settings))
    return json_response(Reloaded(len(settings.rules), tuple(done.needs_a_restart), warnings))


async def show_settings(service: Service, _: Request) -> Response:
    """Return hashes of the active settings, which `doctor` compares with its own."""
    return json_response(SettingsHashes(marks_of(service.settings)))


def showing_versions(
    shelf: VersionsView,
) -> Callable[[Service, Request, AppQuery], Awaitable[Response]]:
    """Return the handler that lists an app's versions; `shelf` caches those at Edgegap."""

    async def show_versions(service: Service, _: Request, query: AppQuery) -> Response:
        if query.app not in (known := _apps(service)):
            return _no_such_app(known)
        return json_response(await shelf.of(service, query.app))

    return show_versions


async def diff_versions(service: Service, _: Request, query: DiffQuery) -> Response:
    """Compare two versions of an app."""
    return await _of_version(
        service, query.app, lambda reader: reader.diff(query.app, query.a, query.b)
    )


async def export_version(service: Service, _: Request, query: ExportQuery) -> Response:
    """Write the settings of a version as TOML."""
    return await _of_version(
        service, query.app, lambda reader: reader.export(query.app, query.version)
    )


async def _of_version(
    service: Service, app: str, read: Callable[[VersionReader], Awaitable[object]]
) -> Response:
    reader = VersionReader(service.ledger, service.client, service.settings.secret_keys)
    if app not in (known := _apps(service)):
        return _no_such_app(known)
    try:
        return json_response(await read(reader))
    except VersionUnknown as error:
        return problem(ProblemCode.VERSION_NOT_FOUND, str(error))
    except VersionUnreadable as error:
        return problem(ProblemCode.EDGEGAP_FAILED, str(error))


async def show_channels(service: Service, _: Request, query: ChannelsQuery) -> Response:
    """List the channels of an app, or of all."""
    app = given(query.app)
    if app is not None and app not in (known := _apps(service)):
        return _no_such_app(known)
    channels = service.settings.channels(app)
    found = await service.ledger.read(lambda tx: list_channels(tx, channels))
    return json_response(ChannelList(tuple(found)))


def _apps(service: Service) -> list[str]:
    return sorted({rule.app for rule in service.settings.rules})


def _no_such_app(known: Sequence[str]) -> Response:
    detail = f"no rule names this app; rules name: {', '.join(known)}"
    return problem(ProblemCode.APP_NOT_FOUND, detail)


async def roll_back(service: Service, request: Request, body: RollbackRequest) -> Response:
    """Roll back a channel and hold it."""
    rules, channel = service.settings.rules, (body.app, body.channel)
    return await _moved(
        service,
        lambda tx: rollback_channel(tx, rules, *channel, body.to, source=source_of(request)),
        ByHand.ROLLBACK,
        channel,
        source_of(request),
    )


async def promote_channel(service: Service, request: Request, body: PromoteRequest) -> Response:
    """Promote a channel and hold it."""
    rules, channel = service.settings.rules, (body.app, body.channel)
    return await _moved(
        service,
        lambda tx: promote(
            tx,
            rules,
            *channel,
            to=body.to,
            from_channel=body.from_channel,
            tag=body.tag,
            digest=body.digest,
            source=source_of(request),
        ),
        ByHand.PROMOTE,
        channel,
        source_of(request),
    )


async def _moved(
    service: Service,
    move: Callable[[Tx], RecordedDelivery],
    action: ByHand,
    channel: tuple[str, str],
    source: Source,
) -> Response:
    try:
        recorded = await service.ledger.write(move)
    except ChannelNotMoved as error:
        return problem(ProblemCode.CHANNEL_NOT_CHANGED, str(error))
    log_moved(action, *channel, recorded, source)
    service.worker.wake()
    return json_response(QueuedMove(recorded.delivery, recorded.ruling.sentence), 202)


async def release_channel(service: Service, request: Request, body: ReleaseRequest) -> Response:
    """Release a held channel."""
    rules, channel = service.settings.rules, (body.app, body.channel)
    try:
        sentence = await service.ledger.write(lambda tx: release(tx, rules, *channel))
    except ChannelNotMoved as error:
        return problem(ProblemCode.CHANNEL_NOT_CHANGED, str(error))
    log_operation("released", source=source_of(request), app=body.app, channel=body.channel)
    return json_response(Released(sentence))


async def list_pauses(service: Service, _: Request) -> Response:
    """List the pauses."""
    return json_response(PausedRepositories(await service.ledger.read(pauses.paused)))


async def pause(service: Service, request: Request, body: PauseRequest) -> Response:
    """Pause a repository, or all."""
    repository = _repository(body)
    try:
        paused = await service.manual.pause(repository, source_of(request))
    except UnknownRepository as error:
        return problem(ProblemCode.REPOSITORY_UNKNOWN, str(error))
    return json_response(paused)


async def resume(service: Service, request: Request, body: PauseRequest) -> Response:
    """Resume a repository, or all."""
    repository = _repository(body)
    return json_response(await service.manual.resume(repository, source_of(request)))


async def open_gate(service: Service, request: Request, body: OpenGateRequest) -> Response:
    """Open a gate."""
    if not await service.manual.open_gate(body.gate, source_of(request)):
        detail = f"the gate {body.gate} is already open"
        return problem(ProblemCode.GATE_NOT_CLOSED, detail)
    return json_response(OpenedGate(body.gate))


async def prune_versions(service: Service, _: Request, body: PruneRequest) -> Response:
    """Delete old versions of an app."""
    if keep_count(service.settings, body.app) is None:
        detail = f"no rule of the app {body.app} has `keep`, so nothing is pruned"
        return problem(ProblemCode.NO_RETENTION, detail)
    scope = Scope(body.app, most=MOST_AT_ONCE, only=body.versions)
    planned = await plan(service.ledger, service.settings, scope)
    prunable = tuple(PrunableVersion(one.target.version, one.why) for one in planned)
    results: list[Pruned] = []
    if not body.dry_run:
        try:
            results = await prune(service.ledger, service.client, service.current, scope)
        except RetentionBusy as error:
            return problem(ProblemCode.DELETION_IN_PROGRESS, str(error))
        log_pruned(body.app, results, source=body.source)
    return json_response(PruneResult(body.app, prunable, tuple(results)))


async def dismiss_parked(service: Service, _: Request, body: DismissRequest) -> Response:
    """Dismiss parked registrations."""
    if body.all == bool(body.ids):
        raise BadRequest("give `ids`, or `all`: true")
    if body.reason is not None and not body.all:
        raise BadRequest("`reason` goes with `all`: true")
    asker = Asker(body.source, body.name)
    changed = await dismiss(
        service.ledger, asker, body.ids, everything=body.all, reason=body.reason
    )
    return json_response(changed)


async def undo(service: Service, _: Request, body: UndoDismissalRequest) -> Response:
    """Park dismissed registrations again."""
    asker = Asker(body.source, body.name)
    changed = await undo_dismissal(service.ledger, asker, body.ids)
    return json_response(changed)


async def record_missed(service: Service, _: Request, body: CatchUpRequest) -> Response:
    """Record pushes that no webhook reported."""
    if len(body.missed) > MOST_MISSED:
        raise BadRequest(f"at most {MOST_MISSED} pushes per request")
    missed = [_missed(push) for push in body.missed]
    found = await service.catch_up.take(service.settings, missed)
    return json_response(CaughtUp(tuple(one.delivery for one in found.recorded)), 202)


def _repository(body: PauseRequest) -> str:
    if body.repository != pauses.ALL and not is_repository(body.repository):
        raise BadRequest(
            f"{body.repository!r} is not a repository; write group/project, or * for all"
        )
    return body.repository


def _missed(found: MissedPushReport) -> Push:
    valid = is_repository(found.repository) and is_tag(found.tag)
    if not valid or (found.digest is not None and not is_digest(found.digest)):
        raise BadRequest("a push needs a well-formed repository, tag and digest")
    return Push(
        found.repository,
        found.tag,
        media_type=found.media_type,
        pushed_at=found.pushed_at,
        digest=found.digest,
    )


async def request_trial(service: Service, request: Request, body: TrialRequest) -> Response:
    """Have a version tried."""
    rules = service.settings.rules
    keep = None if body.keep_seconds is None else body.keep_seconds * SECOND
    try:
        if body.at is not None:
            read_near(body.at)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    try:
        recorded = await service.ledger.write(
            lambda tx: try_version(tx, rules, body.app, body.version, near=body.at, keep=keep)
        )
    except NotTried as error:
        return problem(ProblemCode.VERSION_NOT_TRIED, str(error))
    log_requested(body.app, body.version, recorded, source_of(request))
    service.worker.wake()
    return json_response(QueuedTrial(recorded.delivery, recorded.ruling.sentence), 202)


async def show_promotion(service: Service, _: Request, query: PromotionQuery) -> Response:
    """Show what a promotion would change."""
    channel, to, other = (query.app, query.channel), given(query.to), given(query.from_channel)
    try:
        found = await service.moves.promotion(channel, to=to, from_channel=other)
    except ChannelNotMoved as error:
        return problem(ProblemCode.CHANNEL_NOT_CHANGED, str(error))
    return json_response(found)
