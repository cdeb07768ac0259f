"""The API reference at `/api/`, made from the same document as `/api/openapi.json`.

It is the same for anyone, and is rendered and compressed once.
"""

import asyncio
import gzip
import json
from collections.abc import Callable
from functools import cached_property

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from receiver.web.operation import HTML, JSON
from receiver.web.page.reference_views import reference_of
from receiver.web.page.rendering import HEADERS, render

DOCUMENT = "/api/openapi.json"
VARIES = {**HEADERS, "Vary": "Accept, Accept-Encoding"}


class Reference:
    """Serves the reference of a document."""

    def __init__(self, document: Callable[[], bytes]) -> None:
        self._document = document

    async def show(self, request: Request) -> Response:
        """Return the page, or lead a program that asks for JSON to the document."""
        accepted = request.headers.get("accept", "")
        if JSON in accepted and HTML not in accepted:
            return RedirectResponse(DOCUMENT, headers={"Vary": "Accept"})
        await asyncio.to_thread(lambda: self._compressed)  # the first time it takes a while
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers = {**VARIES, "Content-Encoding": "gzip"}
            return Response(self._compressed, headers=headers, media_type=HTML)
        return Response(self._page, headers=VARIES, media_type=HTML)

    @cached_property
    def _page(self) -> bytes:
        shown = reference_of(json.loads(self._document()))
        page = render(
            "reference.html", layout="base.html", csrf="", here=None, flash="", shown=shown
        )
        return bytes(page.body)

    @cached_property
    def _compressed(self) -> bytes:
        return gzip.compress(self._page, mtime=0)
