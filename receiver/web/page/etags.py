"""ETags of the pages, made before anything is read: a page that did not change costs little."""

import hashlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from secrets import token_hex

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from receiver.ledger.revision import Revision
from receiver.service import Service
from receiver.web.page.auth import FRAGMENT, Page, Session
from receiver.web.page.rendering import HEADERS

MOST_KEPT = 16  # rendered pages, each up to 60 kB: all tabs of a person get the same one
_START = token_hex(8)  # another version of the program may render the same differently

More = Callable[[Service], Awaitable[object]]


def unless_unchanged(page: Page, more: More | None = None) -> Page:
    """Wrap a page so that its live parts are sent only if they may have changed.

    They are rendered once for each change, however many tabs of a person ask for them. `more`
    returns what else the page depends on, beside the ledger and the configuration.
    """
    current = Revision()
    kept: dict[str, bytes] = {}

    async def respond(service: Service, request: Request, session: Session) -> Response:
        also = await more(service) if more is not None else ""
        revision = await current.read(service.ledger)
        query = sorted((name, value) for name, value in request.query_params.items()
                       if name != FRAGMENT)  # fmt: skip
        parts = (_START, session.csrf, request.url.path, query, revision, id(service.settings))
        tag = f'"{hashlib.sha256(repr((parts, also)).encode()).hexdigest()[:32]}"'
        known = request.headers.get("if-none-match")
        if FRAGMENT in request.query_params and known == tag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={**HEADERS, "ETag": tag})
        if FRAGMENT in request.query_params and tag in kept:
            return HTMLResponse(kept[tag], headers={**HEADERS, "ETag": tag})
        request.state.etag = tag
        response = await page(service, request, session)
        response.headers["ETag"] = tag
        if FRAGMENT in request.query_params and response.status_code == HTTPStatus.OK:
            kept[tag] = bytes(response.body)
            if len(kept) > MOST_KEPT:
                del kept[next(iter(kept))]
        return response

    return respond
