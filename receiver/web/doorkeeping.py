"""Before a page or an action: the page is on, whoever asks is signed in, the form is theirs."""

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
TOLD = "told"
LONGEST_TOLD = 600
TOLD_SECONDS = 60
FRAGMENT = "live"  # the query parameter with which our script asks for what moves

Form = dict[str, str]
Door = Callable[[Service, Request], Awaitable[Response]]
Page = Callable[[Service, Request, Session], Awaitable[Response]]
Action = Callable[[Service, Form], Awaitable[tuple[str, str]]]


def for_anyone(door: Door) -> Callable[[Request], Awaitable[Response]]:
    """Return the door as it is where the page is on; what goes wrong is told in words."""

    async def asked(request: Request) -> Response:
        service: Service = request.app.state.service
        if service.settings.admin_password is None:
            return _page_off(request)
        try:
            return await door(service, request)
        except SenderLeft:
            return Response(status_code=400)
        except LedgerError as error:
            return failure(request, 503, "The ledger cannot be used now.", f"{error}.")
        except (BadBody, NotItsTurn, ValueError) as error:
            return failure(request, 400, "That cannot be done.", f"{error}.")

    return asked


def _page_off(request: Request) -> Response:
    """Say how the page is turned on; an action is not found."""
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
<p>The receiver runs, but no password is set for its page. Set the variable
<code>RECEIVER_ADMIN_PASSWORD</code> where the receiver runs, and restart it.</p>
</body>
</html>
"""


def for_a_person(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Return the page behind the login."""

    async def asked(service: Service, request: Request) -> Response:
        session = await _current_session(service, request)
        return _to_login(request) if session is None else await page(service, request, session)

    return for_anyone(asked)


def for_a_deed(action: Action) -> Callable[[Request], Awaitable[Response]]:
    """Return the action behind the login and the form's token.

    It returns where to go then, and what to tell there.
    """

    async def asked(service: Service, request: Request) -> Response:
        session = await _current_session(service, request)
        if session is None:
            return RedirectResponse("/login", 303)
        form = await form_of(request)
        if not session.is_own(form.get("csrf", "")):
            return failure(request, 403, "Nothing was done.", _NOT_OWN)
        path, told = await action(service, form)
        answer = RedirectResponse(path, 303)
        if told:
            give_cookie(request, answer, TOLD, quote(told[:LONGEST_TOLD]), TOLD_SECONDS)
        return answer

    return for_anyone(asked)


def is_a_person(request: Request) -> bool:
    """Tell whether a browser asks for a page, where there are pages."""
    service: Service = request.app.state.service
    machines = request.url.path.startswith(("/api/", "/hooks/", "/do/"))
    wants_a_page = "text/html" in request.headers.get("accept", "")
    return service.settings.admin_password is not None and wants_a_page and not machines


_NOT_OWN = "The form did not come from this page, or it was too old. Go back, reload, try again."


def failure(request: Request, status: int, heading: str, sentence: str) -> Response:
    """Return a page that says what went wrong."""
    session = session_of(request)
    return render(
        "failure.html", status, layout="base.html", heading=heading, sentence=sentence,
        csrf=session.csrf if session is not None else "", told="", here="",
    )  # fmt: skip


async def _current_session(service: Service, request: Request) -> Session | None:
    """Return the visitor's session, None if there is none or it was ended."""
    session = session_of(request)
    if session is None:
        return None
    ended = await service.ledger.read(lambda tx: is_revoked(tx, session.id))
    return None if ended else session


def session_of(request: Request) -> Session | None:
    """Return the session that the visitor's cookie names, None when they are not signed in."""
    cookie = read_cookie(request, SESSION)
    return sessions_of(request.app.state.service).read(cookie, int(time.time()))


def sessions_of(service: Service) -> Sessions:
    """Return what makes and reads sessions under the password in force."""
    password = service.settings.admin_password
    if password is None:
        raise ValueError("the page is off")
    return Sessions([key.reveal() for key in service.settings.secret_keys], password.reveal())


async def form_of(request: Request) -> Form:
    """Return the fields of a form; of a field given twice, the last."""
    text = (await read_body(request, LARGEST_FORM)).decode("utf-8", "replace")
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))


def give_cookie(request: Request, answer: Response, name: str, value: str, seconds: int) -> None:
    """Set one of our cookies: out of reach of scripts, and of other sites' forms."""
    secure = _is_secure(request)
    answer.set_cookie(
        _name(name, secure), value, max_age=min(seconds, SESSION_SECONDS), path="/",
        secure=secure, httponly=True, samesite="lax",
    )  # fmt: skip


def forget_cookie(request: Request, answer: Response, name: str) -> None:
    """Take one of our cookies back."""
    secure = _is_secure(request)
    answer.delete_cookie(
        _name(name, secure), path="/", secure=secure, httponly=True, samesite="lax"
    )


def read_cookie(request: Request, name: str) -> str:
    """Return one of our cookies, empty when it was not sent."""
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
    """Return the cookie's name; by `__Host-` the browser takes it from no neighbouring host."""
    return f"__Host-receiver-{name}" if secure else f"receiver-{name}"
