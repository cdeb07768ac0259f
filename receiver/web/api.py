"""The JSON API for deliveries, replays and tokens; it requires a bearer token."""

from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.api_tokens import LONGEST_SECONDS
from receiver.images import parse_image_reference
from receiver.ledger import stories
from receiver.ledger.revocations import revoke
from receiver.ledger.stories import Filter
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.reasons import State, Verdict
from receiver.service import Service
from receiver.telling import as_json
from receiver.web.bodies import read_body
from receiver.web.guarding import Plain, guarded, limit_of, plain, refusal, source_of
from receiver.web.pages import DEPTH

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
