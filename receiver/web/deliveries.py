"""The API's operations on deliveries and parked registrations, with the long poll for a push.

`GET /api/deliveries?image=…&wait=60` answers with the result of a push, whose status is enough for
a script: 200 done, 408 still waiting, 404 unknown, 409 not done.
"""

from urllib.parse import urlencode

from msgspec import UNSET
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from receiver.dockerhub.webhook import Push
from receiver.images import (
    ImageReference,
    is_digest,
    is_repository,
    is_tag,
    parse_image_reference,
)
from receiver.ledger.queries import Filter, delivery_detail, find_push, search_deliveries
from receiver.ledger.views import Changed, DeliveryDetail, DeliveryPage
from receiver.service import Service
from receiver.upkeep import operations
from receiver.upkeep.operations import Dismissed, Requester
from receiver.upkeep.replay import Replayed, ReplayedDeliveries
from receiver.upkeep.waiting import (
    MAX_WAITING,
    AwaitedImage,
    Progress,
    TooManyWaiting,
    progress_of,
    sentence_of,
)
from receiver.web.bodies import (
    IDS_OR_ALL,
    MAX_MISSED,
    CatchUpRequest,
    CaughtUp,
    DeliveriesQuery,
    DismissRequest,
    MissedPushReport,
    PushRequest,
    ReplayRequest,
    UndoDismissalRequest,
)
from receiver.web.messages import (
    NO_DIGEST,
    BadRequest,
    ProblemCode,
    given,
    json_response,
    plain,
    problem,
)
from receiver.web.operation import (
    ACCEPTED,
    AWAY,
    RETRY_AFTER,
    UNAVAILABLE,
    Group,
    ResponseSpec,
    api,
    fails,
    limit_of,
    limited_to,
    returns,
    source_of,
)

SOON = {"Retry-After": "1"}
CODES = {
    Progress.UNKNOWN: ProblemCode.PUSH_UNKNOWN,
    Progress.OPEN: ProblemCode.STILL_WAITING,
    Progress.NOT_DONE: ProblemCode.PUSH_NOT_DONE,
}
IDENTITY = {"id": "A delivery id, or a registration id for the registration's newest delivery."}
NO_DELIVERY = fails(ProblemCode.DELIVERY_NOT_FOUND, why="The delivery does not exist.")


@api(
    "GET /api/deliveries", Group.DELIVERIES,
    returns(
        DeliveryPage,
        "One page, each delivery with its registrations in short.",
        headers={"Link": 'The next page, with `rel="next"`; missing on the last page.'},
    ),
    fails(
        ProblemCode.PUSH_UNKNOWN,
        why="With `wait`: no push of the image, or of this digest of it, is known.",
    ),
    fails(
        ProblemCode.STILL_WAITING,
        why="With `wait`: a registration is neither done nor parked yet. Ask again.",
    ),
    fails(
        ProblemCode.PUSH_NOT_DONE,
        why="With `wait`: the push was ignored or refused, or a registration is parked or "
        "dismissed, or its version is superseded or was deleted.",
    ),
    ResponseSpec(
        UNAVAILABLE,
        f"{AWAY.description} With `wait` also: too many requests wait (`too_many_waiting`), or the "
        "receiver stops (`stopping`).",
        AWAY.content,
        RETRY_AFTER,
    ),
    for_one_repository=True,
)  # fmt: skip
async def list_deliveries(service: Service, request: Request, query: DeliveriesQuery) -> Response:
    """List deliveries, newest first.

    With `wait`, the response is delayed until the newest delivery of `image` has a result; 200 is
    then returned only if everything is done.
    """
    only, image = limit_of(request), _image_of(query)
    repository = given(query.repository) if image is None else image.repository
    if only is not None and repository not in {None, only}:
        return limited_to(only)
    awaited = _awaited_of(query, image)
    if awaited is not None:
        return await _wait_for_push(service, request, awaited)
    filters = {name: value for name, value in asdict(query).items() if value is not UNSET}
    filters.pop("image", None)
    filters["repository"] = only or repository
    filters["tag"] = given(query.tag) if image is None else image.tag
    search = Filter(**filters)
    page = await service.ledger.read(lambda tx: search_deliveries(tx, search))
    headers = {} if page.next is None else {"Link": _next_page(request, page.next)}
    return json_response(page, headers=headers)


def _image_of(query: DeliveriesQuery) -> ImageReference | None:
    """Return the image of a query; raises BadRequest if the query contradicts itself."""
    digest, image = given(query.digest), given(query.image)
    if digest is not None and not is_digest(digest):
        raise BadRequest(NO_DIGEST)
    if image is None:
        return None
    if query.repository is not UNSET or query.tag is not UNSET:
        raise BadRequest("give `image`, or `repository` and `tag`")
    return parse_image_reference(image)


def _awaited_of(query: DeliveriesQuery, image: ImageReference | None) -> AwaitedImage | None:
    """Return what a query waits for, None if it does not wait."""
    seconds, digest = given(query.wait), given(query.digest)
    if seconds is None:
        return None
    alone = DeliveriesQuery(image=query.image, digest=query.digest, wait=seconds)
    if image is None or query != alone:
        raise BadRequest("`wait` needs `image`, and allows no other filter but `digest`")
    return AwaitedImage(image, digest, seconds)


async def _wait_for_push(service: Service, request: Request, awaited: AwaitedImage) -> Response:
    """Return the newest delivery of an image once it is over, or a problem."""
    try:
        found = await service.waiting.until_over(awaited, request.is_disconnected)
    except TooManyWaiting:
        detail = f"{MAX_WAITING} requests wait already: try again later"
        return problem(ProblemCode.TOO_MANY_WAITING, detail, SOON)
    progress = progress_of(found)
    if found is not None and progress is Progress.DONE:
        return json_response(DeliveryPage((found,), None))
    if progress is not Progress.NOT_DONE and service.waiting.ending:
        return problem(ProblemCode.STOPPING, "the receiver stops: ask again", SOON)
    return problem(CODES[progress], sentence_of(awaited, found))


def _next_page(request: Request, before: str) -> str:
    """Return the header of RFC 8288 that links to the next page."""
    query = urlencode({**request.query_params, "before": before})
    return f'<{request.url.path}?{query}>; rel="next"'


@api(
    "POST /api/deliveries", Group.DELIVERIES,
    returns(DeliveryDetail, "Recorded; no rule matches: see the reason."),
    returns(DeliveryDetail, "Recorded and queued.", ACCEPTED),
    for_one_repository=True,
)  # fmt: skip
async def push_image(service: Service, request: Request, body: PushRequest) -> Response:
    """Push an image manually.

    The image is processed by the same rules as a webhook.
    """
    image = parse_image_reference(body.image)
    only = limit_of(request)
    if only not in {None, image.repository}:
        return limited_to(str(only))
    recorded = await service.manual.push(service.preflight.hub, image, source_of(request))
    row = await service.ledger.read(lambda tx: delivery_detail(tx, recorded.delivery))
    return json_response(row, 202 if recorded.registrations else 200)


def _no_delivery(identity: str) -> Response:
    sentence = f"there is no delivery {identity}: check the id, or it was purged by age"
    return problem(ProblemCode.DELIVERY_NOT_FOUND, sentence)


@api(
    "GET /api/deliveries/{id}", Group.DELIVERIES,
    returns(DeliveryDetail, "The push, the rule, each request, and what to do now."),
    NO_DELIVERY,
    parameters=IDENTITY,
    for_one_repository=True,
)  # fmt: skip
async def get_delivery(service: Service, request: Request) -> Response:
    """Show one delivery with its history."""
    identity = plain(request.path_params["id"])
    row = await service.ledger.read(lambda tx: delivery_detail(tx, identity))
    if row is None or limit_of(request) not in {None, row.repository}:
        return _no_delivery(identity)
    return json_response(row)


@api(
    "POST /api/deliveries/{id}/replay", Group.DELIVERIES,
    returns(
        Replayed,
        "The rules were applied again and the registrations restarted. A refused delivery contains "
        "no push and stays refused.",
        ACCEPTED,
    ),
    NO_DELIVERY,
    parameters=IDENTITY,
    for_one_repository=True,
)  # fmt: skip
async def replay_delivery(service: Service, request: Request) -> Response:
    """Replay one delivery."""
    identity, only = plain(request.path_params["id"]), limit_of(request)
    row = await service.ledger.read(lambda tx: find_push(tx, identity))
    replayed: tuple[Replayed, ...] = ()
    if row is not None and only in {None, row.repository}:
        replayed = (await service.manual.replay([identity], source_of(request))).replayed
    if not replayed:
        return _no_delivery(identity)
    return json_response(replayed[0], 202)


@api(
    "POST /api/replay", Group.DELIVERIES,
    returns(ReplayedDeliveries, "What was replayed or missing.", ACCEPTED),
)  # fmt: skip
async def replay_deliveries(service: Service, request: Request, body: ReplayRequest) -> Response:
    """Replay many deliveries: those that `ids` names, and at most 200 others.

    If there are more, the answer has a `next`.
    """
    done = await service.manual.replay(
        body.ids, source_of(request), parked=body.parked, since=body.since, after=body.after
    )
    return json_response(done, 202)


@api(
    "POST /api/catch-up", Group.DELIVERIES, returns(CaughtUp, "The recorded deliveries.", ACCEPTED)
)
async def record_missed_pushes(
    service: Service, request: Request, body: CatchUpRequest
) -> Response:
    """Record missed pushes."""
    if len(body.missed) > MAX_MISSED:
        raise BadRequest(f"at most {MAX_MISSED} pushes per request")
    missed = [_missed(push) for push in body.missed]
    found = await service.catch_up.take(service.settings, missed, source=source_of(request))
    return json_response(CaughtUp(tuple(one.delivery for one in found.recorded)), 202)


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


@api(
    "POST /api/dismiss", Group.PARKED, returns(Dismissed, "The dismissed registrations."),
    rules=IDS_OR_ALL,
)  # fmt: skip
async def dismiss_registrations(service: Service, _: Request, body: DismissRequest) -> Response:
    """Dismiss parked registrations: those that `ids` names or, with `all`, at most 200.

    If there are more, the answer has a `next`.
    """
    if body.all == bool(body.ids):
        raise BadRequest("give `ids`, or `all`: true")
    if not body.all and (body.reason is not None or body.after is not None):
        raise BadRequest("`reason` and `after` go with `all`: true")
    asker = Requester(body.source, body.name)
    changed = await operations.dismiss(
        service.ledger,
        asker,
        body.ids,
        everything=body.all,
        reason=body.reason,
        after=body.after,
    )
    return json_response(changed)


@api(
    "POST /api/dismiss/undo", Group.PARKED,
    returns(Changed, "The registrations that are parked again."),
)  # fmt: skip
async def undo_dismissal(service: Service, _: Request, body: UndoDismissalRequest) -> Response:
    """Park dismissed registrations again."""
    asker = Requester(body.source, body.name)
    return json_response(await operations.undo_dismissal(service.ledger, asker, body.ids))
