"""The response to a request for a page: the whole page, or only its live parts."""

from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from receiver.web.page.auth import (
    FLASH,
    FRAGMENT,
    LONGEST_FLASH,
    Session,
    forget_cookie,
    read_cookie,
)
from receiver.web.page.rendering import render

UNCHANGED = 304
LONGEST_FILTER = 200


def answer_page(request: Request, session: Session, template: str, **facts: Any) -> Response:
    """Return the page, or only its live parts if the script requests them."""
    here = request.url.path + _query_of(request)
    if FRAGMENT in request.query_params:
        return render(
            template, layout="fragment.html", csrf=session.csrf, here=here, flash="", **facts
        )
    flash = unquote(read_cookie(request, FLASH))[:LONGEST_FLASH]
    response = render(
        template,
        layout="base.html",
        csrf=session.csrf,
        here=here,
        flash=flash,
        etag=getattr(request.state, "etag", ""),
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
    if len(value) > LONGEST_FILTER or not value.isprintable():
        raise ValueError("ids and filters must be short printable text")
    return value.strip()
