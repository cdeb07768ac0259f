"""One page, two ways: whole for a person, and only what moves for our script, which asks again.

What did not change since is answered 304, so that an open page costs next to nothing.
"""

import hashlib
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from receiver.web.doorkeeping import FRAGMENT, LONGEST_TOLD, TOLD, forget_cookie, read_cookie
from receiver.web.rendering import HEADERS, render
from receiver.web.sessions import Session

UNCHANGED = 304


def answer_page(request: Request, session: Session, template: str, **facts: Any) -> Response:
    """Return the page, or the part of it that moves where the script asks for that."""
    here = request.url.path + _query_of(request)
    if FRAGMENT in request.query_params:
        answer: Response = render(
            template, layout="fragment.html", csrf=session.csrf, here=here, told="", **facts
        )
        tag = f'"{hashlib.sha256(bytes(answer.body)).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == tag:
            answer = Response(status_code=UNCHANGED, headers=HEADERS)
        answer.headers["ETag"] = tag
        return answer
    told = unquote(read_cookie(request, TOLD))[:LONGEST_TOLD]
    answer = render(template, layout="base.html", csrf=session.csrf, here=here, told=told, **facts)
    if told:
        forget_cookie(request, answer, TOLD)
    return answer


def _query_of(request: Request) -> str:
    kept = [part for part in request.url.query.split("&") if part and part != f"{FRAGMENT}=1"]
    return f"?{'&'.join(kept)}" if kept else ""
