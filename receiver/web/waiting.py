"""The long poll: `GET /api/deliveries?image=…&wait=60` answers with the result of a push.

The status is enough for a script: 200 done, 408 still waiting, 404 unknown, 409 not done.
"""

from http import HTTPStatus

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from receiver.images import ImageReference, is_digest, parse_image_reference
from receiver.ledger.views import DeliveryPage
from receiver.service import Service
from receiver.upkeep.waiting import (
    MOST_WAITING,
    Awaited,
    Progress,
    TooManyWaiting,
    progress_of,
    sentence_of,
)
from receiver.web.bodies import DeliveriesQuery
from receiver.web.messages import BadRequest, given, json_response
from receiver.web.problems import ProblemCode, problem

SOON = {"Retry-After": "1"}
CODES = {
    Progress.UNKNOWN: ProblemCode.PUSH_UNKNOWN,
    Progress.OPEN: ProblemCode.STILL_WAITING,
    Progress.NOT_DONE: ProblemCode.PUSH_NOT_DONE,
}


def image_of(query: DeliveriesQuery) -> ImageReference | None:
    """Return the image of a query; raises BadRequest if the query contradicts itself."""
    digest, image = given(query.digest), given(query.image)
    if digest is not None and not is_digest(digest):
        raise BadRequest("a digest is sha256: and 64 hexadecimal digits")
    if image is None:
        return None
    if query.repository is not UNSET or query.tag is not UNSET:
        raise BadRequest("give `image`, or `repository` and `tag`")
    return parse_image_reference(image)


def awaited_of(query: DeliveriesQuery, image: ImageReference | None) -> Awaited | None:
    """Return what a query waits for, None if it does not wait."""
    seconds, digest = given(query.wait), given(query.digest)
    if seconds is None:
        return None
    alone = DeliveriesQuery(image=query.image, digest=query.digest, wait=seconds)
    if image is None or query != alone:
        raise BadRequest("`wait` goes with `image`, and perhaps `digest`, alone")
    return Awaited(image, digest, seconds)


async def wait_for_push(service: Service, request: Request, awaited: Awaited) -> Response:
    """Return the newest delivery of an image once it is over, or a problem."""
    try:
        found = await service.waiting.until_over(awaited, request.is_disconnected)
    except TooManyWaiting:
        detail = f"{MOST_WAITING} requests wait already: try again later"
        return problem(ProblemCode.TOO_MANY_WAITING, detail, SOON)
    progress = progress_of(found)
    if found is not None and progress is Progress.DONE:
        return json_response(DeliveryPage((found,), None), HTTPStatus.OK)
    if progress is not Progress.NOT_DONE and service.waiting.ending:
        return problem(ProblemCode.STOPPING, "the receiver stops: ask again", SOON)
    return problem(CODES[progress], sentence_of(awaited, found))
