"""Renders a page completely for a browser, or only its live parts for our polling script.

Unchanged parts are answered with 304, so an open page costs almost nothing.
"""

import hashlib
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from receiver.web.doorkeeping import FLASH, FRAGMENT, LONGEST_FLASH, forget_cookie, read_cookie
from receiver.web.rendering import HEADERS, render
from receiver.web.sessions import Session

UNCHANGED = 304


def answer_page(request: Request, session: Session, template: str, **facts: Any) -> Response:
    """Return the page, or only its live parts if the script requests them."""
    here = request.url.path + _query_of(request)
    if FRAGMENT in request.query_params:
        response: Response = render(
            template, layout="fragment.html", csrf=session.csrf, here=here, flash="", **facts
        )
        tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == tag:
            response = Response(status_code=UNCHANGED, headers=HEADERS)
        response.headers["ETag"] = tag
        return response
    flash = unquote(read_cookie(request, FLASH))[:LONGEST_FLASH]
    response = render(
        template, layout="base.html", csrf=session.csrf, here=here, flash=flash, **facts
    )
    if flash:
        forget_cookie(request, response, FLASH)
    return response


def _query_of(request: Request) -> str:
    kept = [part for part in request.url.query.split("&") if part and part != f"{FRAGMENT}=1"]
    return f"?{'&'.join(kept)}" if kept else ""
