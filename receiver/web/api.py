"""The API: what the commands and the page show and do, as JSON, behind a bearer token."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.dockerhub.push import Push
from receiver.errors import BadBody, BadImageReference, LedgerError
from receiver.images import parse_image_reference
from receiver.intake import COMMAND, replay, replay_many, take
from receiver.ledger import stories
from receiver.ledger.stories import Filter
from receiver.ledger.transactions import Tx
from receiver.service import Service
from receiver.telling import as_json
from receiver.web.bodies import SenderLeft, read_body

Endpoint = Callable[[Service, Request], Awaitable[Response]]
TEXT_FILTERS = ("repository", "tag", "verdict", "state", "before")


class _PushRequest(msgspec.Struct, forbid_unknown_fields=True):
    image: str


class _ReplayRequest(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[str] = []
    parked: bool = False
    since: int | None = None


def api_routes() -> list[Route]:
    """Return the routes of the API."""
    return [
        Route("/api/deliveries", _guarded(_list), methods=["GET"]),
        Route("/api/deliveries", _guarded(_push), methods=["POST"]),
        Route("/api/deliveries/{id}", _guarded(_show), methods=["GET"]),
        Route("/api/deliveries/{id}/replay", _guarded(_replay_one), methods=["POST"]),
        Route("/api/replay", _guarded(_replay), methods=["POST"]),
    ]


def _guarded(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        service: Service = request.app.state.service
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        good = service.api_keys.is_good(token.strip(), int(time.time()))
        if scheme.lower() != "bearer" or not good:
            return _error(401, "give a token made by `receiver api-token`", _CHALLENGE)
        try:
            return await endpoint(service, request)
        except LedgerError as error:
            return _error(503, str(error))
        except SenderLeft:
            return Response(status_code=400)
        except (BadBody, BadImageReference, msgspec.MsgspecError, ValueError) as error:
            return _error(400, str(error))

    return guarded


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="receiver"'}


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status, headers=headers)


async def _list(service: Service, request: Request) -> Response:
    query = request.query_params
    texts: dict[str, Any] = {name: query[name] for name in TEXT_FILTERS if query.get(name)}
    wanted = Filter(**texts, limit=max(1, int(query.get("limit", "100"))))
    rows = await service.ledger.read(lambda tx: stories.list_deliveries(tx, wanted))
    return JSONResponse({"deliveries": [as_json(row) for row in rows]})


async def _show(service: Service, request: Request) -> Response:
    identity = request.path_params["id"]
    row = await service.ledger.read(lambda tx: stories.story(tx, identity))
    if row is None:
        return _error(404, f"there is no delivery {identity}")
    return JSONResponse(as_json(row))


async def _push(service: Service, request: Request) -> Response:
    asked = msgspec.json.decode(await read_body(request), type=_PushRequest)
    image = parse_image_reference(asked.image)
    push = Push(repository=image.repository, tag=image.tag)
    recorded = await take(service.ledger, service.settings.rules, push, source=COMMAND)
    service.worker.wake()
    row = await service.ledger.read(lambda tx: stories.story(tx, recorded.delivery))
    return JSONResponse(as_json(row or {}), 202 if recorded.registrations else 200)


async def _replay_one(service: Service, request: Request) -> Response:
    identity, rules = request.path_params["id"], service.settings.rules
    replayed = await service.ledger.write(lambda tx: replay(tx, rules, identity))
    if replayed is None:
        return _error(404, f"there is no delivery {identity}")
    service.worker.config_changed()
    return JSONResponse(msgspec.to_builtins(replayed), 202)


async def _replay(service: Service, request: Request) -> Response:
    asked = msgspec.json.decode(await read_body(request), type=_ReplayRequest)
    rules = service.settings.rules

    def write(tx: Tx) -> list[Any]:
        chosen = list(asked.ids)
        if asked.parked or asked.since is not None:
            chosen += stories.deliveries_to_replay(tx, parked=asked.parked, since=asked.since)
        return replay_many(tx, rules, dict.fromkeys(chosen))

    replayed = await service.ledger.write(write)
    service.worker.config_changed()
    return JSONResponse({"replayed": msgspec.to_builtins(replayed)}, 202)
