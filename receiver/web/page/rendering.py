"""Renders templates, with the response headers and the compression of every page."""

import gzip
import hashlib
import re
import time
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from receiver.signing import APPROVAL_PATH, PATH
from receiver.timestamps import duration, format_time
from receiver.web.messages import not_found
from receiver.web.page.flow import colour_of, status_of_registration

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CONTENTS = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}
COMPRESSED = {name: gzip.compress(body, mtime=0) for name, body in CONTENTS.items()}
FOREVER = "public, max-age=31536000, immutable"


def address_of(name: str) -> str:
    """Return the asset's URL; it changes with the content, so browsers may cache it forever."""
    return f"/static/{name}?v={hashlib.sha256(CONTENTS[name]).hexdigest()[:12]}"


async def serve_asset(request: Request) -> Response:
    """Return one of the page's own files."""
    name = request.path_params["name"]
    if name not in CONTENTS:
        return not_found()
    headers = {"Cache-Control": FOREVER, "X-Content-Type-Options": "nosniff"}
    kind = TYPES[Path(name).suffix]
    return compressed_response(request, CONTENTS[name], COMPRESSED[name], headers, kind)


JUST_NOW_MS = 5000
DASHBOARD = "https://app.edgegap.com/application-management/applications"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
# Bidirectional controls reorder the text around them, and parts of the text are from outsiders.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LINK = Markup('<a href="{}" rel="noreferrer noopener" target="_blank">{}</a>')
_VENDORS = r"(?:app\.edgegap|hub\.docker|app\.docker)\.com"  # the pages that messages name
_ADDRESS = rf"(?:https://|(?<![\w./@-])){_VENDORS}(?![\w@:-]|\.\w)(?:/[\w./~#?=&-]*[\w/~#-]|/)?"
_TO_MARK = re.compile(rf"(`[^`\n]+`|{_ADDRESS})", re.ASCII)


def render(
    template: str, status: int = 200, *, layout: str = "base.html", **facts: Any
) -> HTMLResponse:
    """Render a template, within its layout, as an HTML response.

    By default it is for a visitor who is not signed in, without a message of the last action.
    """
    facts = {"csrf": "", "here": None, "flash": "", "attention": 0, **facts}
    text = _environment.get_template(template).render(layout=layout, **facts)
    return HTMLResponse(text, status, headers=HEADERS)


def fault_page(fault: str) -> HTMLResponse:
    """Return the page of a 500, with the id of its line in the log.

    It needs no template, because that may be what failed.
    """
    text = _FAULT.format(style=address_of("page.css"), fault=fault)
    return HTMLResponse(text, HTTPStatus.INTERNAL_SERVER_ERROR, headers=HEADERS)


_FAULT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The receiver failed · Receiver</title>
<link rel="stylesheet" href="{style}">
</head>
<body>
<main>
<div class="empty">
<h1>The receiver failed</h1>
<p>It could not answer this request, because of an error in the receiver. What you requested may
have been done: check before you repeat it.</p>
<p>The error is in the receiver's log, as <code>request_fault</code> with the id
<code>{fault}</code>: in the terminal of <code>receiver serve</code>, or in the log of its service
or container.</p>
<p><a class="button" href="/">Go to the overview</a></p>
</div>
</main>
</body>
</html>
"""


def version_address(app: str, version: str) -> str:
    """Return the URL of a version in Edgegap's dashboard."""
    return f"{DASHBOARD}/{quote(app, safe='')}/versions/{quote(version, safe='')}"


def _harmless(value: object) -> object:
    """Return a value without characters that would affect the text around it."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join("\ufffd" if _disturbs(letter) else letter for letter in value)


def _disturbs(letter: str) -> bool:
    return letter in _TURNING or (unicodedata.category(letter) in {"Cc", "Cs"} and letter != "\n")


def _marked(text: str) -> Markup:
    """Return text with `code` as code, and with links to the vendors' pages that we name."""
    parts = _TO_MARK.split(str(_harmless(text)))
    return Markup("").join(_mark(part) for part in parts)


def _mark(part: str) -> Markup:
    if part.startswith("`") and part.endswith("`") and len(part) > 2:  # noqa: PLR2004
        return Markup("<code>{}</code>").format(part[1:-1])
    if _TO_MARK.fullmatch(part):
        return _LINK.format("https://" + part.removeprefix("https://"), part)
    return escape(part)


def _moment(milliseconds: int | None, *, dated: bool = True) -> Markup:
    """Return a time as HTML: relative if it is near, with the time in UTC as its title.

    Below a heading with its date it is not `dated`: the time of the day is enough. The script
    finds this out by the name of the attribute.
    """
    if milliseconds is None:
        return Markup("never")
    ahead = milliseconds - time.time_ns() // 1_000_000
    text = _distance(ahead)
    if abs(ahead) < JUST_NOW_MS:
        text = "in a moment" if ahead > 0 else "just now"
    elif text:
        text = f"in {text}" if ahead > 0 else f"{text} ago"
    if dated:
        return _time(milliseconds, "moment", text or _in_utc(milliseconds)[:16] + " UTC")
    return _time(milliseconds, "clock", text or _in_utc(milliseconds)[11:16] + " UTC")


def _lasting(since: int) -> Markup:
    """Return as HTML how long something has lasted, or since when if that is long ago."""
    ago = time.time_ns() // 1_000_000 - since
    text = "a moment" if ago < JUST_NOW_MS else _distance(ago)
    return _time(since, "lasting", f"for {text}" if text else f"since {_in_utc(since)[:16]} UTC")


def _time(milliseconds: int, kind: str, shown: str) -> Markup:
    return Markup('<time datetime="{}" data-{} title="{} UTC">{}</time>').format(
        format_time(milliseconds), kind, _in_utc(milliseconds), shown
    )


def _in_utc(milliseconds: int) -> str:
    return format_time(milliseconds)[:19].replace("T", " ")


def _distance(milliseconds: int) -> str:
    """Return a distance in words, as our script also does; empty if it is over 36 hours."""
    seconds = abs(milliseconds) // 1000
    for unit, size, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 36)):
        if seconds < size * most:
            return f"{seconds // size} {unit}"
    return ""


def _laid_out(body: str) -> str:
    """Return JSON with a line for each key, any other text unchanged."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.format(body, indent=2)
    return body


def query_of(**given: str | None) -> str:
    """Return the query of a URL; what is empty is left out."""
    return urlencode({name: value for name, value in given.items() if value})


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
    finalize=_harmless,
)
_environment.filters.update(marked=_marked, moment=_moment, lasting=_lasting, duration=duration)
_environment.filters.update(laid_out=_laid_out, colour=colour_of, status=status_of_registration)
_environment.globals.update(asset=address_of, version_address=version_address, query=query_of)


# Compression with gzip, if the browser accepts it.

MIN_BYTES = 1000
# Pages repeat text of outsiders, and BREACH guesses a secret beside it from the compressed size.
# CSRF tokens are masked in each response (`Session.masked`), as every page has them. Signed links
# are to be copied, so they cannot be masked: a page with one is sent as it is, and lists have none.
_LINKS = (PATH.encode(), APPROVAL_PATH.encode())


def packed(body: bytes) -> bytes | None:
    """Return the body compressed; None if it is too short for that, or has a signed link."""
    if len(body) < MIN_BYTES or any(link in body for link in _LINKS):
        return None
    return gzip.compress(body, compresslevel=6, mtime=0)


def compressed_response(
    request: Request, body: bytes, compressed: bytes | None, headers: Mapping[str, str], kind: str
) -> Response:
    """Return the body compressed, if it is and the browser accepts it, otherwise as it is."""
    headers = {"Vary": "Accept-Encoding", **headers}
    if compressed is not None and _accepts_gzip(request):
        body, headers["Content-Encoding"] = compressed, "gzip"
    return Response(body, headers=headers, media_type=kind)


def pack(request: Request, response: Response) -> None:
    """Compress a response, if the browser accepts it."""
    response.headers["Vary"] = "Accept-Encoding"
    body = packed(bytes(response.body)) if _accepts_gzip(request) else None
    if body is not None:
        response.body = body
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(body))


def _accepts_gzip(request: Request) -> bool:
    """Return whether the response may be compressed."""
    for one in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = one.partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
