"""The API's routes for what a person steers: pauses, retention, missed pushes."""

from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.dockerhub.push import Push
from receiver.images import is_digest, is_repository, is_tag
from receiver.ledger import pauses
from receiver.missed import Missed, take_all, tell_caught_up
from receiver.retiring import NotItsTurn, kept_by, retire, would_go
from receiver.service import Service
from receiver.steering import CannotPause, pause_known
from receiver.telling import iso
from receiver.web.bodies import read_body
from receiver.web.guarding import Plain, guarded, refusal

MOST_MISSED = 500
LATEST = 253_402_300_799_999  # the year 9999, in epoch milliseconds
MOST_RETIRED = 100
MOST_KEPT = 1_000_000


class _Pause(msgspec.Struct, forbid_unknown_fields=True):
    repository: str


class _Retire(msgspec.Struct, forbid_unknown_fields=True):
    app: Plain
    dry_run: bool = False
    keep: Annotated[int, msgspec.Meta(ge=1, le=MOST_KEPT)] | None = None


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
        Route("/api/retire", guarded(_retire), methods=["POST"]),
        Route("/api/catch-up", guarded(_catch_up), methods=["POST"]),
    ]


async def _paused(service: Service, _: Request) -> Response:
    return JSONResponse({"paused": await _paused_now(service)})


async def _pause(service: Service, request: Request) -> Response:
    repository, rules = await _repository(request), service.settings.rules
    try:
        await service.ledger.write(lambda tx: pause_known(tx, repository, rules))
    except CannotPause as error:
        return refusal(409, str(error))
    return JSONResponse({"paused": await _paused_now(service)})


async def _resume(service: Service, request: Request) -> Response:
    repository = await _repository(request)
    resumed = await service.ledger.write(lambda tx: pauses.resume(tx, repository))
    service.worker.wake()
    return JSONResponse({"resumed": resumed, "paused": await _paused_now(service)})


async def _paused_now(service: Service) -> dict[str, str]:
    """Return what is paused, and since when, told as all times of the API are."""
    paused = await service.ledger.read(pauses.paused)
    return {repository: iso(since) for repository, since in paused.items()}


async def _retire(service: Service, request: Request) -> Response:
    asked = msgspec.json.decode(await read_body(request), type=_Retire)
    if asked.keep is None and kept_by(service.settings, asked.app) is None:
        return refusal(409, f"no rule of the app {asked.app} says how many to keep")
    going = await would_go(service.ledger, service.settings, asked.app, asked.keep)
    found: dict[str, Any] = {"app": asked.app, "keep": asked.keep, "retired": []}
    found["would_go"] = [one.version for one in going]
    if not asked.dry_run:
        try:
            results = await retire(
                service.ledger, service.client, service.settings, asked.app,
                keep=asked.keep, most=MOST_RETIRED,
            )  # fmt: skip
        except NotItsTurn as error:
            return refusal(409, str(error))
        found["retired"] = msgspec.to_builtins(results)
    return JSONResponse(found)


async def _catch_up(service: Service, request: Request) -> Response:
    asked = msgspec.json.decode(await read_body(request), type=_CatchUp)
    if len(asked.missed) > MOST_MISSED:
        return refusal(400, f"at most {MOST_MISSED} at once")
    missed = [_missed(one) for one in asked.missed]
    rules, notices = service.settings.rules, service.settings.notices
    recorded = await service.ledger.write(lambda tx: take_all(tx, rules, missed, notices))
    tell_caught_up(recorded)
    service.worker.wake()
    return JSONResponse({"deliveries": [one.delivery for one in recorded]}, 202)


async def _repository(request: Request) -> str:
    asked = msgspec.json.decode(await read_body(request), type=_Pause)
    if asked.repository != pauses.ALL and not is_repository(asked.repository):
        raise ValueError(
            f"{asked.repository!r} is no repository; write group/project, or * for all"
        )
    return asked.repository


def _missed(one: _MissedPush) -> Missed:
    sound = is_repository(one.repository) and is_tag(one.tag)
    if not sound or (one.digest is not None and not is_digest(one.digest)):
        raise ValueError("a push needs a well-formed repository, tag and digest")
    push = Push(one.repository, one.tag, media_type=one.media_type, pushed_at=one.pushed_at)
    return Missed(push, one.digest)
