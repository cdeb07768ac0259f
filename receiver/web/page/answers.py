"""The response to a request for a page: the whole page, or only its live parts."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from secrets import token_hex
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver.images import size_text
from receiver.ledger.ledger import Revision
from receiver.ledger.stats import count_for_person
from receiver.service import Service
from receiver.version import VERSION
from receiver.web.operation import HTML
from receiver.web.page.auth import (
    FLASH,
    FRAGMENT,
    Page,
    flash_of,
    forget_cookie,
)
from receiver.web.page.rendering import HEADERS, compressed_response, pack, packed, render
from receiver.web.page.sessions import Session

MAX_FILTER = 200


async def answer_page(request: Request, session: Session, template: str, **facts: Any) -> Response:
    """Return the page, or only its live parts if the script requests them."""
    service: Service = request.app.state.service
    problems = (await service.health.cached()).conditions
    facts = {
        **facts,
        "csrf": session.masked(),
        "here": request.url.path + _query_of(request),
        "attention": len(problems) + await service.ledger.read(count_for_person),
    }
    if FRAGMENT in request.query_params:
        return render(template, layout="fragment.html", **facts)
    flash = flash_of(request)
    response = render(
        template,
        flash=flash,
        etag=getattr(request.state, "etag", ""),
        started_at=service.started_at,
        footer=_footer(service),
        **facts,
    )
    if flash:
        forget_cookie(request, response, FLASH)
    return response


def _query_of(request: Request) -> str:
    kept = [part for part in request.url.query.split("&") if part and part != f"{FRAGMENT}=1"]
    return f"?{'&'.join(kept)}" if kept else ""


def short_text(value: str) -> str:
    """Return an id or a filter of the URL; raises ValueError if it cannot be one."""
    if len(value) > MAX_FILTER or not value.isprintable():
        raise ValueError("ids and filters must be short printable text")
    return value.strip()


def _footer(service: Service) -> Iterator[str]:
    """Yield facts that are known without a query."""
    yield f"Receiver {VERSION}"
    path = service.ledger.path
    if path is not None and path.exists():
        yield f"ledger {size_text(path.stat().st_size)}"
    limit = service.preflight.registry.limits.last
    if limit is not None:
        yield f"Docker Hub pulls left: {limit.remaining} of {limit.limit}"


# ETags of the pages, made before anything is read: a page that did not change costs little.

MAX_KEPT = 16  # rendered pages, each up to 60 kB: all tabs of a person get the same one
_START = token_hex(8)  # another version of the program may render the same differently

More = Callable[[Service, Request], Awaitable[object]]


def unless_unchanged(page: Page, more: More | None = None) -> Page:
    """Wrap a page so that its live parts are sent only if they may have changed.

    They are rendered and compressed once for each change, however many tabs of a person ask for
    them. `more` returns what else the page depends on, beside the ledger and the configuration.
    """
    current = Revision()
    kept: dict[str, tuple[bytes, bytes | None]] = {}  # the parts, and compressed if they may be

    async def respond(service: Service, request: Request, session: Session) -> Response:
        also = await more(service, request) if more is not None else ""
        revision = await current.read(service.ledger)
        query = sorted((name, value) for name, value in request.query_params.items()
                       if name != FRAGMENT)  # fmt: skip
        problems = len((await service.health.cached()).conditions)
        parts = (_START, session.csrf, request.url.path, query, revision, problems,
                 id(service.settings))  # fmt: skip
        tag = f'"{hashlib.sha256(repr((parts, also)).encode()).hexdigest()[:32]}"'
        known = request.headers.get("if-none-match", "").removeprefix("W/")  # by a proxy
        headers = {**HEADERS, "ETag": tag}
        if FRAGMENT in request.query_params and known == tag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if FRAGMENT in request.query_params and tag in kept:
            return compressed_response(request, *kept[tag], headers, HTML)
        request.state.etag = tag
        response = await page(service, request, session)
        response.headers["ETag"] = tag
        if response.status_code != HTTPStatus.OK:
            return response
        if FRAGMENT in request.query_params:
            body = bytes(response.body)
            kept[tag] = body, packed(body)
            if len(kept) > MAX_KEPT:
                del kept[next(iter(kept))]
            return compressed_response(request, *kept[tag], headers, HTML)
        pack(request, response)
        return response

    return respond
