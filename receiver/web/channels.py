"""The API's routes for channels: as they are, and what a person does with them."""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.channel_order import ByHand
from receiver.ledger.channels import channel_rows
from receiver.ledger.recording import Recorded
from receiver.ledger.transactions import Tx
from receiver.service import Service
from receiver.steering import CannotMove, log_moved, promote, release, roll_back
from receiver.telling import as_json
from receiver.upkeep.operations import Source, log_operation
from receiver.web.bodies import read_body
from receiver.web.guarding import Plain, guarded, refusal, source_of


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
        Route("/api/channels", guarded(_list), methods=["GET"]),
        Route("/api/rollback", guarded(_roll_back), methods=["POST"]),
        Route("/api/promote", guarded(_promote), methods=["POST"]),
        Route("/api/release", guarded(_release), methods=["POST"]),
    ]


async def _list(service: Service, request: Request) -> Response:
    app = request.query_params.get("app") or None
    known = sorted({rule.app for rule in service.settings.rules})
    if app is not None and app not in known:
        return refusal(404, f"no rule names this app; rules name: {', '.join(known)}")
    places = service.settings.channels(app)
    rows = await service.ledger.read(lambda tx: channel_rows(tx, places))
    return JSONResponse(as_json({"channels": rows}))


async def _roll_back(service: Service, request: Request) -> Response:
    asked = msgspec.json.decode(await read_body(request), type=_Rollback)
    rules, place = service.settings.rules, (asked.app, asked.channel)
    return await _moved(
        service,
        lambda tx: roll_back(tx, rules, *place, asked.to, source=source_of(request)),
        ByHand.ROLLBACK,
        place,
        source_of(request),
    )


async def _promote(service: Service, request: Request) -> Response:
    asked = msgspec.json.decode(await read_body(request), type=_Promote)
    rules, place = service.settings.rules, (asked.app, asked.channel)
    return await _moved(
        service,
        lambda tx: promote(
            tx,
            rules,
            *place,
            to=asked.to,
            from_channel=asked.from_channel,
            source=source_of(request),
        ),
        ByHand.PROMOTE,
        place,
        source_of(request),
    )


async def _moved(
    service: Service,
    move: Callable[[Tx], Recorded],
    action: ByHand,
    place: tuple[str, str],
    source: Source,
) -> Response:
    try:
        recorded = await service.ledger.write(move)
    except CannotMove as error:
        return refusal(409, str(error))
    log_moved(action, *place, recorded, source)
    service.worker.wake()
    return JSONResponse({"delivery": recorded.delivery, "sentence": recorded.ruling.sentence}, 202)


async def _release(service: Service, request: Request) -> Response:
    asked = msgspec.json.decode(await read_body(request), type=_Release)
    rules, place = service.settings.rules, (asked.app, asked.channel)
    try:
        sentence = await service.ledger.write(lambda tx: release(tx, rules, *place))
    except CannotMove as error:
        return refusal(409, str(error))
    log_operation("released", source=source_of(request), app=asked.app, channel=asked.channel)
    return JSONResponse({"sentence": sentence})
