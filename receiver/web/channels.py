"""The API's routes for channels: list, rollback, promote, release."""

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
    channels = service.settings.channels(app)
    rows = await service.ledger.read(lambda tx: channel_rows(tx, channels))
    return JSONResponse(as_json({"channels": rows}))


async def _roll_back(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_Rollback)
    rules, channel = service.settings.rules, (body.app, body.channel)
    return await _moved(
        service,
        lambda tx: roll_back(tx, rules, *channel, body.to, source=source_of(request)),
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
    move: Callable[[Tx], Recorded],
    action: ByHand,
    channel: tuple[str, str],
    source: Source,
) -> Response:
    try:
        recorded = await service.ledger.write(move)
    except CannotMove as error:
        return refusal(409, str(error))
    log_moved(action, *channel, recorded, source)
    service.worker.wake()
    return JSONResponse({"delivery": recorded.delivery, "sentence": recorded.ruling.sentence}, 202)


async def _release(service: Service, request: Request) -> Response:
    body = msgspec.json.decode(await read_body(request), type=_Release)
    rules, channel = service.settings.rules, (body.app, body.channel)
    try:
        sentence = await service.ledger.write(lambda tx: release(tx, rules, *channel))
    except CannotMove as error:
        return refusal(409, str(error))
    log_operation("released", source=source_of(request), app=body.app, channel=body.channel)
    return JSONResponse({"sentence": sentence})
