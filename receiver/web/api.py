"""The JSON API for deliveries, replays and tokens; it requires a bearer token."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.audit import Source, log_operation
from receiver.dockerhub.webhook import Push
from receiver.images import is_digest, is_repository, is_tag, parse_image_reference
from receiver.ledger import gates as pauses
from receiver.ledger import queries as stories
from receiver.ledger.channels import channel_rows
from receiver.ledger.deliveries import RecordedDelivery
from receiver.ledger.queries import Filter
from receiver.ledger.revocations import revoke
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger
from receiver.pipeline.prune import (
    MOST_AT_ONCE,
    RetentionBusy,
    Scope,
    keep_count,
    log_pruned,
    plan,
    prune,
)
from receiver.reasons import Reason, State, Verdict
from receiver.rules.channel_order import ByHand
from receiver.service import Service
from receiver.signing import LONGEST_SECONDS
from receiver.timestamps import format_time
from receiver.upkeep.catch_up import MissedPush
from receiver.upkeep.channels import (
    ChannelNotMoved,
    UnknownRepository,
    log_moved,
    promote,
    release,
    rollback_channel,
)
from receiver.upkeep.operations import Asker, dismiss, undo_dismissal
from receiver.web.api_auth import Plain, guarded, limit_of, plain, refusal, source_of
from receiver.web.body import read_body
from receiver.web.page.views import DEPTH
from receiver.web.serialization import as_json

TEXT_FILTERS = ("repository", "tag", "verdict", "state", "text", "before")
CHOICES = {"verdict": tuple(Verdict), "state": tuple(State)}
LATEST = 253_402_300_799_999  # the year 9999, in epoch milliseconds
TokenId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]

log = get_logger()


class _PushRequest(msgspec.Struct, forbid_unknown_fields=True):
    image: str


class _ReplayRequest(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[Plain] = []
    parked: bool = False
    since: Annotated[int, msgspec.Meta(ge=0, le=LATEST)] | None = None


class _RevokeRequest(msgspec.Struct, forbid_unknown_fields=True):
    id: TokenId


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
        raise ValueError(f"there is no filter {', '.join(sorted(unknown))}")
    filters: dict[str, Any] = {name: plain(query[name]) for name in TEXT_FILTERS if query.get(name)}
    for name, choices in CHOICES.items():
        if name in query and query[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}")
    if (only := limit_of(request)) is not None and filters.setdefault("repository", only) != only:
        return _other_repository(only)
    tag_alone = "tag" in filters and "repository" not in filters
    no_index = tag_alone or "text" in filters or filters.get("state") == State.DONE
    limit, depth = _limit(query.get("limit", "100")), DEPTH if no_index else None
    search = Filter(**filters, limit=limit, depth=depth)
    rows, further = await service.ledger.read(lambda tx: _look(tx, search))
    return JSONResponse({"deliveries": [as_json(row) for row in rows], "further": further})


def _look(tx: Tx, search: Filter) -> tuple[list[stories.Row], str | None]:
    """List deliveries; if the search stopped early, also return the id to continue from."""
    rows = stories.list_deliveries(tx, search)
    ended = search.depth is None or len(rows) >= search.limit
    return rows, None if ended else stories.end_of_depth(tx, search)


async def _show(service: Service, request: Request) -> Response:
    identity = plain(request.path_params["id"])
    row = await service.ledger.read(lambda tx: stories.story(tx, identity))
    if row is None or limit_of(request) not in {None, row["repository"]}:
        return refusal(404, f"there is no delivery {identity}")
    return JSONResponse(as_json(row))


async def _push(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_PushRequest)
    image = parse_image_reference(body.image)
    only = limit_of(request)
    if only not in {None, image.repository}:
        return _other_repository(str(only))
    recorded = await service.manual.push(service.preflight.hub, image, source_of(request))
    row = await service.ledger.read(lambda tx: stories.story(tx, recorded.delivery))
    return JSONResponse(as_json(row or {}), 202 if recorded.registrations else 200)


async def _replay_one(service: Service, request: Request) -> Response:
    identity, only = plain(request.path_params["id"]), limit_of(request)
    row = await service.ledger.read(lambda tx: stories.delivery_row(tx, identity))
    if row is None or only not in {None, row["repository"]}:
        return refusal(404, f"there is no delivery {identity}")
    replayed, _ = await service.manual.replay([identity], source_of(request))
    if not replayed:
        return refusal(404, f"there is no delivery {identity}")
    return JSONResponse(msgspec.to_builtins(replayed[0]), 202)


async def _replay(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_ReplayRequest)
    replayed, missing = await service.manual.replay(
        body.ids, source_of(request), parked=body.parked, since=body.since
    )
    result = {"replayed": msgspec.to_builtins(replayed), "missing": missing}
    return JSONResponse(result, 202)


async def _revoke(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_RevokeRequest)
    revoked = await service.ledger.write(
        lambda tx: revoke(tx, body.id, tx.now + LONGEST_SECONDS * 1000)
    )
    if revoked:
        log.info("api_token_revoked", id=body.id)
    return JSONResponse({"id": body.id, "revoked": revoked})


def _other_repository(only: str) -> Response:
    return refusal(403, f"this token is limited to the pushes of {only}")


def _limit(value: str) -> int:
    valid = value.isascii() and value.isdigit() and len(value) <= len(str(stories.MOST_ROWS))
    if not valid or not 1 <= int(value) <= stories.MOST_ROWS:
        raise ValueError(f"limit must be a whole number from 1 to {stories.MOST_ROWS}")
    return int(value)


class _Rollback(msgspec.Struct, forbid_unknown_fields=True):
    app: Plain
    channel: Plain
    to: Plain | None = None


class _Promote(msgspec.Struct, forbid_unknown_fields=True, rename={"from_channel": "from"}):
    app: Plain
    channel: Plain
    to: Plain | None = None
    from_channel: Plain | None = None


class _Release(msgspec.Struct, forbid_unknown_fields=True):
    app: Plain
    channel: Plain


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
    rows = await service.ledger.read(lambda tx: channel_rows(tx, channels))
    return JSONResponse(as_json({"channels": rows}))


async def _roll_back(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_Rollback)
    rules, channel = service.settings.rules, (body.app, body.channel)
    return await _moved(
        service,
        lambda tx: rollback_channel(tx, rules, *channel, body.to, source=source_of(request)),
        ByHand.ROLLBACK,
        channel,
        source_of(request),
    )


async def _promote(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_Promote)
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
    return JSONResponse({"delivery": recorded.delivery, "sentence": recorded.ruling.sentence}, 202)


async def _release(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_Release)
    rules, channel = service.settings.rules, (body.app, body.channel)
    try:
        sentence = await service.ledger.write(lambda tx: release(tx, rules, *channel))
    except ChannelNotMoved as error:
        return refusal(409, str(error))
    log_operation("released", source=source_of(request), app=body.app, channel=body.channel)
    return JSONResponse({"sentence": sentence})


MOST_MISSED = 500


Name = Annotated[Plain, msgspec.Meta(max_length=100)]


class _Pause(msgspec.Struct, forbid_unknown_fields=True):
    repository: str


class _OpenGate(msgspec.Struct, forbid_unknown_fields=True):
    gate: Literal["busy", "token"]


class _Prune(msgspec.Struct, forbid_unknown_fields=True):
    app: Plain
    dry_run: bool = False
    versions: list[Plain] | None = None
    source: Literal["api", "command"] = "api"


class _Dismiss(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[Plain] = []
    all: bool = False
    reason: Reason | None = None
    source: Literal["api", "command"] = "api"
    name: Name = ""


class _UndoDismissal(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[Plain]
    source: Literal["api", "command"] = "api"
    name: Name = ""


class _MissedPush(msgspec.Struct, forbid_unknown_fields=True):
    repository: str
    tag: str
    pushed_at: Annotated[int, msgspec.Meta(ge=0, le=LATEST)] | None = None
    digest: str | None = None
    media_type: Plain | None = None


class _CatchUp(msgspec.Struct, forbid_unknown_fields=True):
    missed: list[_MissedPush]


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
    return JSONResponse({"paused": _times(await service.ledger.read(pauses.paused))})


async def _pause(service: Service, request: Request) -> Response:
    repository = await _repository(request)
    try:
        paused = await service.manual.pause(repository, source_of(request))
    except UnknownRepository as error:
        return refusal(409, str(error))
    return JSONResponse({"paused": _times(paused)})


async def _resume(service: Service, request: Request) -> Response:
    repository = await _repository(request)
    resumed, paused = await service.manual.resume(repository, source_of(request))
    return JSONResponse({"resumed": resumed, "paused": _times(paused)})


async def _open_gate(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_OpenGate)
    if not await service.manual.open_gate(body.gate, source_of(request)):
        return refusal(409, f"the gate {body.gate} is already open")
    return JSONResponse({"opened": body.gate})


def _times(paused: Mapping[str, int]) -> dict[str, str]:
    """Return the paused repositories and the times since when, in the API's time format."""
    return {repository: format_time(since) for repository, since in paused.items()}


async def _prune(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_Prune)
    if keep_count(service.settings, body.app) is None:
        return refusal(409, f"no rule of the app {body.app} has `keep`, so nothing is pruned")
    scope = Scope(body.app, most=MOST_AT_ONCE, only=body.versions)
    planned = await plan(service.ledger, service.settings, scope)
    result: dict[str, Any] = {"app": body.app, "results": []}
    result["prunable"] = [
        {"version": candidate.made.version, "why": candidate.why} for candidate in planned
    ]
    if not body.dry_run:
        try:
            results = await prune(service.ledger, service.client, service.current, scope)
        except RetentionBusy as error:
            return refusal(409, str(error))
        log_pruned(body.app, results, source=body.source)
        result["results"] = msgspec.to_builtins(results)
    return JSONResponse(result)


async def _dismiss(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_Dismiss)
    if body.all == bool(body.ids):
        raise ValueError("give `ids`, or `all`: true")
    if body.reason is not None and not body.all:
        raise ValueError("`reason` goes with `all`: true")
    asker = Asker(body.source, body.name)
    changed = await dismiss(
        service.ledger, asker, body.ids, everything=body.all, reason=body.reason
    )
    return JSONResponse(msgspec.to_builtins(changed))


async def _undo_dismissal(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_UndoDismissal)
    asker = Asker(body.source, body.name)
    changed = await undo_dismissal(service.ledger, asker, body.ids)
    return JSONResponse(msgspec.to_builtins(changed))


async def _catch_up(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_CatchUp)
    if len(body.missed) > MOST_MISSED:
        return refusal(400, f"at most {MOST_MISSED} pushes per request")
    missed = [_missed(push) for push in body.missed]
    found = await service.catch_up.take(service.settings, missed)
    return JSONResponse({"deliveries": [delivery.delivery for delivery in found.recorded]}, 202)


async def _repository(request: Request) -> str:
    body = msgspec.json.decode(await read_body(request), type=_Pause)
    if body.repository != pauses.ALL and not is_repository(body.repository):
        raise ValueError(
            f"{body.repository!r} is not a repository; write group/project, or * for all"
        )
    return body.repository


def _missed(found: _MissedPush) -> MissedPush:
    valid = is_repository(found.repository) and is_tag(found.tag)
    if not valid or (found.digest is not None and not is_digest(found.digest)):
        raise ValueError("a push needs a well-formed repository, tag and digest")
    push = Push(found.repository, found.tag, media_type=found.media_type, pushed_at=found.pushed_at)
    return MissedPush(push, found.digest)


DOCUMENT = Path(__file__).with_name("openapi.json").read_bytes()


def document_routes() -> list[Route]:
    """Return the route."""
    return [Route("/api/openapi.json", _show_document, methods=["GET"])]


async def _show_document(_: Request) -> Response:
    return Response(DOCUMENT, media_type="application/json")
