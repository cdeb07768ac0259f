"""Checks before a page or an action: the page is on, the visitor is signed in, CSRF token."""

import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from receiver.errors import BadBody, LedgerError
from receiver.ledger.revocations import is_revoked
from receiver.service import Service
from receiver.upkeep.pruning import NotItsTurn
from receiver.web.bodies import SenderLeft, read_body
from receiver.web.hooks import not_found
from receiver.web.rendering import HEADERS, render
from receiver.web.sessions import SESSION_SECONDS, Session, Sessions

LARGEST_FORM = 16 * 1024
MOST_FIELDS = 50
SESSION = "session"
FLASH = "flash"  # the cookie with the message of the last action
LONGEST_FLASH = 600
FLASH_SECONDS = 60
FRAGMENT = "live"  # the query parameter with which our script requests the live parts

Form = dict[str, str]
Endpoint = Callable[[Service, Request], Awaitable[Response]]
Page = Callable[[Service, Request, Session], Awaitable[Response]]
Action = Callable[[Service, Form], Awaitable[tuple[str, str]]]


def for_anyone(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an endpoint of the page: it needs no login, and its errors become HTML pages."""

    async def respond(request: Request) -> Response:
        service: Service = request.app.state.service
        if service.settings.admin_password is None:
            return _page_off(request)
        try:
            return await endpoint(service, request)
        except SenderLeft:
            return Response(status_code=400)
        except LedgerError as error:
            return failure(request, 503, "The ledger is unavailable.", f"{error}.")
        except (BadBody, NotItsTurn, ValueError) as error:
            return failure(request, 400, "The request failed.", f"{error}.")

    return respond


def _page_off(request: Request) -> Response:
    """Return how to turn the page on; for an action, return 404."""
    if request.method != "GET":
        return not_found()
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": _HOW_TO_TURN_IT_ON}, 404)
    return HTMLResponse(_OFF, 404, headers=HEADERS)


_HOW_TO_TURN_IT_ON = "the page is off: set RECEIVER_ADMIN_PASSWORD and restart the receiver"
_OFF = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>The page is off · Receiver</title></head>
<body>
<h1>The page is off</h1>
<p>The receiver is running, but no password is set for its page. Set the environment variable
<code>RECEIVER_ADMIN_PASSWORD</code> for the receiver and restart it.</p>
</body>
</html>
"""


def for_a_person(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a page so that it requires a login."""

    async def respond(service: Service, request: Request) -> Response:
        session = await _current_session(service, request)
        return _to_login(request) if session is None else await page(service, request, session)

    return for_anyone(respond)


def for_a_deed(action: Action) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an action so that it requires a login and the form's CSRF token.

    The action returns the path to redirect to and the message to show there.
    """

    async def respond(service: Service, request: Request) -> Response:
        session = await _current_session(service, request)
        if session is None:
            return RedirectResponse("/login", 303)
        form = await form_of(request)
        if not session.is_own(form.get("csrf", "")):
            return failure(request, 403, "Nothing was done.", _NOT_OWN)
        path, message = await action(service, form)
        response = RedirectResponse(path, 303)
        if message:
            text = quote(message[:LONGEST_FLASH])
            give_cookie(request, response, FLASH, text, FLASH_SECONDS)
        return response

    return for_anyone(respond)


def is_a_person(request: Request) -> bool:
    """Return whether a browser requests a page, and the page is on."""
    service: Service = request.app.state.service
    machines = request.url.path.startswith(("/api/", "/hooks/", "/do/"))
    wants_a_page = "text/html" in request.headers.get("accept", "")
    return service.settings.admin_password is not None and wants_a_page and not machines


_NOT_OWN = "The form is not from this page, or it expired. Go back, reload the page, try again."


def failure(request: Request, status: int, heading: str, sentence: str) -> Response:
    """Return a page that says what went wrong."""
    session = session_of(request)
    return render(
        "failure.html", status, layout="base.html", heading=heading, sentence=sentence,
        csrf=session.csrf if session is not None else "", flash="", here="",
    )  # fmt: skip


async def _current_session(service: Service, request: Request) -> Session | None:
    """Return the visitor's session, None if there is none or it was signed out."""
    session = session_of(request)
    if session is None:
        return None
    ended = await service.ledger.read(lambda tx: is_revoked(tx, session.id))
    return None if ended else session


def session_of(request: Request) -> Session | None:
    """Return the session in the visitor's cookie, None if they are not signed in."""
    cookie = read_cookie(request, SESSION)
    return sessions_of(request.app.state.service).read(cookie, int(time.time()))


def sessions_of(service: Service) -> Sessions:
    """Return the session signer for the current password."""
    password = service.settings.admin_password
    if password is None:
        raise ValueError("the page is off")
    return Sessions([key.reveal() for key in service.settings.secret_keys], password.reveal())


async def form_of(request: Request) -> Form:
    """Return the fields of a form; if a field occurs twice, the last value."""
    text = (await read_body(request, LARGEST_FORM)).decode("utf-8", "replace")
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))


def give_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    """Set one of our cookies; scripts cannot read it and other sites' forms do not send it."""
    secure = _is_secure(request)
    response.set_cookie(
        _name(name, secure), value, max_age=min(seconds, SESSION_SECONDS), path="/",
        secure=secure, httponly=True, samesite="lax",
    )  # fmt: skip


def forget_cookie(request: Request, response: Response, name: str) -> None:
    """Delete one of our cookies."""
    secure = _is_secure(request)
    response.delete_cookie(
        _name(name, secure), path="/", secure=secure, httponly=True, samesite="lax"
    )


def read_cookie(request: Request, name: str) -> str:
    """Return one of our cookies, empty if it was not sent."""
    return request.cookies.get(_name(name, _is_secure(request)), "")


def _to_login(request: Request) -> Response:
    if FRAGMENT in request.query_params:
        return Response(status_code=401)
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse("/login" if path == "/" else f"/login?next={quote(path)}", 303)


def _is_secure(request: Request) -> bool:
    service: Service = request.app.state.service
    return (service.settings.public_url or "").startswith("https://")


def _name(name: str, secure: bool) -> str:
    """Return the cookie's name; with `__Host-`, no other host of the domain can set it."""
    return f"__Host-receiver-{name}" if secure else f"receiver-{name}"
