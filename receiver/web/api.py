"""The JSON API for deliveries, replays and tokens; it requires a bearer token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.audit import Source, log_operation
from receiver.dockerhub.webhook import Push
from receiver.images import is_digest, is_repository, is_tag, parse_image_reference
from receiver.ledger import gates as pauses
from receiver.ledger import queries as stories
from receiver.ledger.channels import list_channels
from receiver.ledger.deliveries import RecordedDelivery
from receiver.ledger.queries import Filter
from receiver.ledger.revocations import revoke
from receiver.ledger.transaction import Tx
from receiver.ledger.views import DeliveryPage
from receiver.logs import get_logger
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
from receiver.reasons import State, Verdict
from receiver.rules.channel_order import ByHand
from receiver.service import Service
from receiver.signing import LONGEST_SECONDS
from receiver.upkeep.catch_up import MissedPush
from receiver.upkeep.channels import (
    ChannelNotMoved,
    UnknownRepository,
    log_moved,
    promote,
    release,
    rollback_channel,
)
from receiver.upkeep.operations import Asker, Paused, dismiss, undo_dismissal
from receiver.web.api_auth import (
    BadRequest,
    answer,
    guarded,
    limit_of,
    plain,
    read_request,
    refusal,
    source_of,
)
from receiver.web.bodies import (
    MOST_MISSED,
    CatchUpRequest,
    CaughtUp,
    ChannelList,
    DismissRequest,
    OpenedGate,
    OpenGateRequest,
    OrderedMove,
    PauseRequest,
    PromoteRequest,
    PrunableVersion,
    PruneRequest,
    PruneResult,
    PushRequest,
    Released,
    ReleaseRequest,
    ReplayRequest,
    ReportedMiss,
    Revoked,
    RevokeRequest,
    RollbackRequest,
    UndoDismissalRequest,
)
from receiver.web.page.views import DEPTH

TEXT_FILTERS = ("repository", "tag", "verdict", "state", "text", "before")
CHOICES = {"verdict": tuple(Verdict), "state": tuple(State)}

log = get_logger()


def api_routes() -> list[Route]:
    """Return the routes of the API."""
    return [
        Route("/api/deliveries", guarded(_list, for_one_repository=True), methods=["GET"]),
        Route("/api/deliveries", guarded(_push, for_one_repository=True), methods=["POST"]),
        Route("/api/deliveries/{id}", guarded(_show, for_one_repository=True), methods=["GET"]),
        Route(
            "/api/deliveries/{id}/replay",
            guarded(_replay_one, for_one_repository=True),
            methods=["POST"],
        ),
        Route("/api/replay", guarded(_replay), methods=["POST"]),
        Route("/api/tokens/revoke", guarded(_revoke), methods=["POST"]),
    ]


async def _list(service: Service, request: Request) -> Response:
    query = request.query_params
    if unknown := set(query) - {*TEXT_FILTERS, "limit"}:
        raise BadRequest(f"there is no filter {', '.join(sorted(unknown))}")
    filters: dict[str, Any] = {name: plain(query[name]) for name in TEXT_FILTERS if query.get(name)}
    for name, choices in CHOICES.items():
        if name in query and query[name] not in choices:
            raise BadRequest(f"{name} must be one of {', '.join(choices)}")
    if (only := limit_of(request)) is not None and filters.setdefault("repository", only) != only:
        return _other_repository(only)
    tag_alone = "tag" in filters and "repository" not in filters
    no_index = tag_alone or "text" in filters or filters.get("state") == State.DONE
    limit, depth = _limit(query.get("limit", "100")), DEPTH if no_index else None
    search = Filter(**filters, limit=limit, depth=depth)
    found = await service.ledger.read(lambda tx: _look(tx, search))
    return answer(found)


def _look(tx: Tx, search: Filter) -> DeliveryPage:
    """List deliveries; if the search stopped early, also return the id to continue from."""
    rows = stories.list_deliveries(tx, search)
    ended = search.depth is None or len(rows) >= search.limit
    return DeliveryPage(tuple(rows), None if ended else stories.end_of_depth(tx, search))


async def _show(service: Service, request: Request) -> Response:
    identity = plain(request.path_params["id"])
    row = await service.ledger.read(lambda tx: stories.delivery_detail(tx, identity))
    if row is None or limit_of(request) not in {None, row.repository}:
        return refusal(404, f"there is no delivery {identity}")
    return answer(row)


async def _push(service: Service, request: Request) -> Response:
    body = await read_request(request, PushRequest)
    image = parse_image_reference(body.image)
    only = limit_of(request)
    if only not in {None, image.repository}:
        return _other_repository(str(only))
    recorded = await service.manual.push(service.preflight.hub, image, source_of(request))
    row = await service.ledger.read(lambda tx: stories.delivery_detail(tx, recorded.delivery))
    return answer(row, 202 if recorded.registrations else 200)


async def _replay_one(service: Service, request: Request) -> Response:
    identity, only = plain(request.path_params["id"]), limit_of(request)
    row = await service.ledger.read(lambda tx: stories.find_push(tx, identity))
    if row is None or only not in {None, row.repository}:
        return refusal(404, f"there is no delivery {identity}")
    replayed = (await service.manual.replay([identity], source_of(request))).replayed
    if not replayed:
        return refusal(404, f"there is no delivery {identity}")
    return answer(replayed[0], 202)


async def _replay(service: Service, request: Request) -> Response:
    body = await read_request(request, ReplayRequest)
    done = await service.manual.replay(
        body.ids, source_of(request), parked=body.parked, since=body.since
    )
    return answer(done, 202)


async def _revoke(service: Service, request: Request) -> Response:
    body = await read_request(request, RevokeRequest)
    revoked = await service.ledger.write(
        lambda tx: revoke(tx, body.id, tx.now + LONGEST_SECONDS * 1000)
    )
    if revoked:
        log.info("api_token_revoked", id=body.id)
    return answer(Revoked(body.id, revoked))


def _other_repository(only: str) -> Response:
    return refusal(403, f"this token is limited to the pushes of {only}")


def _limit(value: str) -> int:
    valid = value.isascii() and value.isdigit() and len(value) <= len(str(stories.MOST_ROWS))
    if not valid or not 1 <= int(value) <= stories.MOST_ROWS:
        raise BadRequest(f"limit must be a whole number from 1 to {stories.MOST_ROWS}")
    return int(value)


def channel_routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/api/channels", guarded(_list_channels), methods=["GET"]),
        Route("/api/rollback", guarded(_roll_back), methods=["POST"]),
        Route("/api/promote", guarded(_promote), methods=["POST"]),
        Route("/api/release", guarded(_release), methods=["POST"]),
    ]


async def _list_channels(service: Service, request: Request) -> Response:
    app = request.query_params.get("app") or None
    known = sorted({rule.app for rule in service.settings.rules})
    if app is not None and app not in known:
        return refusal(404, f"no rule names this app; rules name: {', '.join(known)}")
    channels = service.settings.channels(app)
    found = await service.ledger.read(lambda tx: list_channels(tx, channels))
    return answer(ChannelList(tuple(found)))


async def _roll_back(service: Service, request: Request) -> Response:
    body = await read_request(request, RollbackRequest)
    rules, channel = service.settings.rules, (body.app, body.channel)
    return await _moved(
        service,
        lambda tx: rollback_channel(tx, rules, *channel, body.to, source=source_of(request)),
        ByHand.ROLLBACK,
        channel,
        source_of(request),
    )


async def _promote(service: Service, request: Request) -> Response:
    body = await read_request(request, PromoteRequest)
    rules, channel = service.settings.rules, (body.app, body.channel)
    return await _moved(
        service,
        lambda tx: promote(
            tx,
            rules,
            *channel,
            to=body.to,
            from_channel=body.from_channel,
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
        return refusal(409, str(error))
    log_moved(action, *channel, recorded, source)
    service.worker.wake()
    return answer(OrderedMove(recorded.delivery, recorded.ruling.sentence), 202)


async def _release(service: Service, request: Request) -> Response:
    body = await read_request(request, ReleaseRequest)
    rules, channel = service.settings.rules, (body.app, body.channel)
    try:
        sentence = await service.ledger.write(lambda tx: release(tx, rules, *channel))
    except ChannelNotMoved as error:
        return refusal(409, str(error))
    log_operation("released", source=source_of(request), app=body.app, channel=body.channel)
    return answer(Released(sentence))


def steering_routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/api/pauses", guarded(_paused), methods=["GET"]),
        Route("/api/pause", guarded(_pause), methods=["POST"]),
        Route("/api/resume", guarded(_resume), methods=["POST"]),
        Route("/api/open-gate", guarded(_open_gate), methods=["POST"]),
        Route("/api/prune", guarded(_prune), methods=["POST"]),
        Route("/api/dismiss", guarded(_dismiss), methods=["POST"]),
        Route("/api/dismiss/undo", guarded(_undo_dismissal), methods=["POST"]),
        Route("/api/catch-up", guarded(_catch_up), methods=["POST"]),
    ]


async def _paused(service: Service, _: Request) -> Response:
    return answer(Paused(await service.ledger.read(pauses.paused)))


async def _pause(service: Service, request: Request) -> Response:
    repository = await _repository(request)
    try:
        paused = await service.manual.pause(repository, source_of(request))
    except UnknownRepository as error:
        return refusal(409, str(error))
    return answer(paused)


async def _resume(service: Service, request: Request) -> Response:
    repository = await _repository(request)
    return answer(await service.manual.resume(repository, source_of(request)))


async def _open_gate(service: Service, request: Request) -> Response:
    body = await read_request(request, OpenGateRequest)
    if not await service.manual.open_gate(body.gate, source_of(request)):
        return refusal(409, f"the gate {body.gate} is already open")
    return answer(OpenedGate(body.gate))


async def _prune(service: Service, request: Request) -> Response:
    body = await read_request(request, PruneRequest)
    if keep_count(service.settings, body.app) is None:
        return refusal(409, f"no rule of the app {body.app} has `keep`, so nothing is pruned")
    scope = Scope(body.app, most=MOST_AT_ONCE, only=body.versions)
    planned = await plan(service.ledger, service.settings, scope)
    prunable = tuple(PrunableVersion(one.made.version, one.why) for one in planned)
    results: list[Pruned] = []
    if not body.dry_run:
        try:
            results = await prune(service.ledger, service.client, service.current, scope)
        except RetentionBusy as error:
            return refusal(409, str(error))
        log_pruned(body.app, results, source=body.source)
    return answer(PruneResult(body.app, prunable, tuple(results)))


async def _dismiss(service: Service, request: Request) -> Response:
    body = await read_request(request, DismissRequest)
    if body.all == bool(body.ids):
        raise BadRequest("give `ids`, or `all`: true")
    if body.reason is not None and not body.all:
        raise BadRequest("`reason` goes with `all`: true")
    asker = Asker(body.source, body.name)
    changed = await dismiss(
        service.ledger, asker, body.ids, everything=body.all, reason=body.reason
    )
    return answer(changed)


async def _undo_dismissal(service: Service, request: Request) -> Response:
    body = await read_request(request, UndoDismissalRequest)
    asker = Asker(body.source, body.name)
    changed = await undo_dismissal(service.ledger, asker, body.ids)
    return answer(changed)


async def _catch_up(service: Service, request: Request) -> Response:
    body = await read_request(request, CatchUpRequest)
    if len(body.missed) > MOST_MISSED:
        return refusal(400, f"at most {MOST_MISSED} pushes per request")
    missed = [_missed(push) for push in body.missed]
    found = await service.catch_up.take(service.settings, missed)
    return answer(CaughtUp(tuple(one.delivery for one in found.recorded)), 202)


async def _repository(request: Request) -> str:
    body = await read_request(request, PauseRequest)
    if body.repository != pauses.ALL and not is_repository(body.repository):
        raise BadRequest(
            f"{body.repository!r} is not a repository; write group/project, or * for all"
        )
    return body.repository


def _missed(found: ReportedMiss) -> MissedPush:
    valid = is_repository(found.repository) and is_tag(found.tag)
    if not valid or (found.digest is not None and not is_digest(found.digest)):
        raise BadRequest("a push needs a well-formed repository, tag and digest")
    push = Push(found.repository, found.tag, media_type=found.media_type, pushed_at=found.pushed_at)
    return MissedPush(push, found.digest)


DOCUMENT = Path(__file__).with_name("openapi.json").read_bytes()


def document_routes() -> list[Route]:
    """Return the route."""
    return [Route("/api/openapi.json", _show_document, methods=["GET"])]


async def _show_document(_: Request) -> Response:
    return Response(DOCUMENT, media_type="application/json")
