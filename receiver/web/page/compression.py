"""Compresses responses of the page with gzip, if the browser accepts it."""

import gzip

from starlette.requests import Request
from starlette.responses import Response

from receiver.signing import APPROVAL_PATH, PATH

LEAST_BYTES = 1000
# Pages repeat text of outsiders, and BREACH guesses a secret beside it from the compressed size.
# CSRF tokens are masked in each response (`Session.masked`), as every page has them. Signed links
# are to be copied, so they cannot be masked: the few pages with one are sent as they are.
_LINKS = (PATH.encode(), APPROVAL_PATH.encode())


def packed(body: bytes) -> bytes | None:
    """Return the body compressed; None if it is too short for that, or has a signed link."""
    if len(body) < LEAST_BYTES or any(link in body for link in _LINKS):
        return None
    return gzip.compress(body, compresslevel=6, mtime=0)


def pack(request: Request, response: Response) -> None:
    """Compress a response, if the browser accepts it."""
    response.headers["Vary"] = "Accept-Encoding"
    body = packed(bytes(response.body)) if accepts_gzip(request) else None
    if body is not None:
        response.body = body
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(body))


def accepts_gzip(request: Request) -> bool:
    """Return whether the response may be compressed."""
    for one in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = one.partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
