"""The API's routes for operations: pauses, gates, pruning, dismissal, missed pushes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.dockerhub.push import Push
from receiver.images import is_digest, is_repository, is_tag
from receiver.ledger import pauses
from receiver.missed import Missed
from receiver.reasons import Reason
from receiver.service import Service
from receiver.steering import CannotPause
from receiver.telling import iso
from receiver.upkeep.dismissing import Asker, dismiss, undo_dismissal
from receiver.upkeep.pruning import (
    MOST_AT_ONCE,
    NotItsTurn,
    Scope,
    kept_by,
    log_pruned,
    plan,
    prune,
)
from receiver.web.bodies import read_body
from receiver.web.guarding import Plain, guarded, refusal, source_of

MOST_MISSED = 500
LATEST = 253_402_300_799_999  # the year 9999, in epoch milliseconds


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
    except CannotPause as error:
        return refusal(409, str(error))
    return JSONResponse({"paused": _times(paused)})


async def _resume(service: Service, request: Request) -> Response:
    repository = await _repository(request)
    resumed, paused = await service.manual.resume(repository, source_of(request))
    return JSONResponse({"resumed": resumed, "paused": _times(paused)})


async def _open_gate(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_OpenGate)
    if not await service.manual.open_gate(body.gate, source_of(request)):
        return refusal(409, f"the gate {body.gate} is open: it holds nothing back")
    return JSONResponse({"opened": body.gate})


def _times(paused: Mapping[str, int]) -> dict[str, str]:
    """Return the paused repositories and the times since when, in the API's time format."""
    return {repository: iso(since) for repository, since in paused.items()}


async def _prune(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_Prune)
    if kept_by(service.settings, body.app) is None:
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
        except NotItsTurn as error:
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


def _missed(found: _MissedPush) -> Missed:
    valid = is_repository(found.repository) and is_tag(found.tag)
    if not valid or (found.digest is not None and not is_digest(found.digest)):
        raise ValueError("a push needs a well-formed repository, tag and digest")
    push = Push(found.repository, found.tag, media_type=found.media_type, pushed_at=found.pushed_at)
    return Missed(push, found.digest)
