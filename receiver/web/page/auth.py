"""Checks before a page or an action: the page is on, the visitor is signed in, CSRF token."""

import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from receiver.errors import BadBody, LedgerError
from receiver.ledger.links import is_revoked, revoke
from receiver.logs import get_logger
from receiver.pipeline.prune import RetentionBusy
from receiver.reasons import Reason
from receiver.secret import Secret
from receiver.service import Service
from receiver.web.body import ClientDisconnected, read_body
from receiver.web.clients import MinuteLimiter, client_of, host_of
from receiver.web.messages import ProblemCode, problem
from receiver.web.page.questions import QUESTIONS, Question
from receiver.web.page.rendering import HEADERS, render
from receiver.web.page.sessions import (
    CLOCK_SECONDS,
    KEPT_SECONDS,
    LOGIN_FORM_SECONDS,
    MAX_KEPT_FORM,
    SESSION_SECONDS,
    Session,
    Sessions,
    is_of,
)

MAX_FORM_BYTES = 16 * 1024
MAX_FIELDS = 50
SESSION = "session"
EARLIER = "earlier"  # the cookie with the ids of the browser's last sessions
MAX_EARLIER = 8
MAX_VALID = 100  # sessions that are known not to be signed out
FLASH = "flash"  # the cookie with the message of the last action
MAX_FLASH = 600
FLASH_SECONDS = 60
FRAGMENT = "live"  # the query parameter with which our script requests the live parts

Form = dict[str, str]
Endpoint = Callable[[Service, Request], Awaitable[Response]]
Page = Callable[[Service, Request, Session], Awaitable[Response]]


class Redirect(msgspec.Struct, frozen=True):
    """Where the browser goes after an action, and the message that is shown there."""

    path: str
    message: str = ""


Action = Callable[[Service, Form], Awaitable[Redirect]]


def public_page(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an endpoint of the page: it needs no login, and its errors become HTML pages."""

    async def respond(request: Request) -> Response:
        service: Service = request.app.state.service
        if service.settings.admin_password is None:
            return _page_off(request)
        try:
            return await endpoint(service, request)
        except ClientDisconnected:
            return Response(status_code=400)
        except LedgerError as error:
            return failure(request, 503, "The ledger is unavailable.", str(error))
        except (BadBody, RetentionBusy, ValueError) as error:
            return failure(request, 400, "The request failed.", str(error))

    return respond


def _page_off(request: Request) -> Response:
    """Return how to turn the page on."""
    if not is_of_a_browser(request):
        return problem(ProblemCode.PAGE_OFF, _HOW_TO_TURN_IT_ON)
    return HTMLResponse(_OFF, 404, headers=HEADERS)


_HOW_TO_TURN_IT_ON = (
    "the page is off: set RECEIVER_ADMIN_PASSWORD in .env and run `receiver reload`, or set it in "
    "the environment and restart the receiver"
)
_OFF = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>The page is off · Receiver</title></head>
<body>
<h1>The page is off</h1>
<p>The receiver is running, but no password is set for its page. Set
<code>RECEIVER_ADMIN_PASSWORD</code> in <code>.env</code> and run <code>receiver reload</code>, or
set it in the environment and restart the receiver.</p>
</body>
</html>
"""


def login_required(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a page so that it requires a login."""

    async def respond(service: Service, request: Request) -> Response:
        sessions = sessions_of(service)  # of now: another password ends the session
        session = await current_session(service, request)
        if session is None:
            return _to_login(request)
        response = await page(service, request, session)
        if FRAGMENT not in request.query_params:  # an open page that asks by itself is no use
            renewed = sessions.renew(session, int(time.time()))
            give_cookie(request, response, SESSION, renewed, KEPT_SECONDS)
        return response

    return public_page(respond)


def form_action(
    action: Action, question: Question | None = None
) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an action so that it requires a login and the form's CSRF token.

    With a `question`, the action is done only once it was confirmed on a page of its own.
    """

    async def respond(service: Service, request: Request) -> Response:
        session = await current_session(service, request)
        if session is None:
            return await _keep_form(service, request)
        form, path = await form_of(request), request.url.path
        own = session.is_own(form.get("csrf", ""))
        if not own and not is_of(form.get("csrf", ""), _earlier(service, request)):
            return failure(request, 403, "Nothing was done.", _NOT_OWN)
        asked = await question(service, form) if question is not None else ""
        if not own:
            again = asked or _still_wanted(path, form)
            return ask(session, form, again, action=path, note=_OTHER_SESSION)
        if asked and form.get("confirmed") != "yes":
            return ask(session, form, asked, action=path)
        done = await action(service, form)
        response = RedirectResponse(done.path, 303)
        return _say(request, response, done.message) if done.message else response

    return public_page(respond)


async def _keep_form(service: Service, request: Request) -> Response:
    """Redirect to the login, and from there back to the form; a stranger's form is not read."""
    now, sessions, path = int(time.time()), sessions_of(service), request.url.path
    if not path.startswith("/do/"):
        return RedirectResponse("/login", 303)
    earlier = _earlier(service, request)
    if not earlier:
        return _say(request, RedirectResponse("/login", 303), _NOT_SIGNED_IN)
    form = await form_of(request)
    if not is_of(form.get("csrf", ""), earlier):
        return _say(request, RedirectResponse("/login", 303), _NOT_SIGNED_IN)
    kept = sessions.keep_form(path, form, now)
    fits = len(kept) <= MAX_KEPT_FORM
    after = f"/again?form={kept}" if fits else safe_path(form.get("back", "/"))
    response = RedirectResponse(f"/login?next={quote(after, safe='')}", 303)
    return _say(request, response, _KEPT if fits else _NOT_SIGNED_IN)


def _earlier(service: Service, request: Request) -> list[str]:
    """Return the ids of the browser's last sessions, the newest last."""
    now, sessions = int(time.time()), sessions_of(service)
    known = sessions.read_ids(read_cookie(request, EARLIER), now)
    last = sessions.read_expired(read_cookie(request, SESSION), now)
    return known if last is None or last.id in known else [*known, last.id]


def _say(request: Request, response: Response, message: str) -> Response:
    """Show a message on the next page."""
    give_cookie(request, response, FLASH, quote(message[:MAX_FLASH]), FLASH_SECONDS)
    return response


_NOT_SIGNED_IN = "Nothing was done: you are not signed in any more. Sign in, then try again."
_KEPT = (
    "Nothing was done yet: you are not signed in any more. Sign in, and the form is shown again."
)
_OTHER_SESSION = "You have signed in again since this form was opened. Nothing was done yet."


def ask(session: Session, form: Form, question: str, *, action: str, note: str = "") -> Response:
    """Return the page that asks whether to do what a form wants."""
    hidden = {"csrf", "confirmed"}
    back = safe_path(form.get("back", "/"))
    return render(
        "confirm.html", csrf=session.masked(), here="", flash=note,
        question=question, action=action, back=back,
        fields={name: value for name, value in form.items() if name not in hidden},
    )  # fmt: skip


def is_of_a_browser(request: Request) -> bool:
    """Return whether a browser sent the request, and not to the API."""
    of_the_api = f"{request.url.path}/".startswith("/api/")
    return "text/html" in request.headers.get("accept", "") and not of_the_api


_NOT_OWN = "The form is not from this page, or it expired. Go back, reload the page, try again."


def failure(request: Request, status: int, heading: str, sentence: str) -> Response:
    """Return a page that says what went wrong."""
    page_on = request.app.state.service.settings.admin_password is not None
    session = session_of(request) if page_on else None
    return render(
        "failure.html", status, heading=heading, sentence=_whole(sentence),
        csrf=session.masked() if session is not None else "", here="",
    )  # fmt: skip


def _whole(sentence: str) -> str:
    """Return a message as a sentence; a name that begins it is left as it is."""
    first = sentence.split(" ", 1)[0]
    begun = sentence[:1].upper() + sentence[1:] if first.isalpha() else sentence
    return f"{begun.rstrip('.')}."


async def current_session(service: Service, request: Request) -> Session | None:
    """Return the visitor's session, None if there is none or it was signed out."""
    session = session_of(request)
    if session is None:
        return None
    valid: dict[str, int] = request.app.state.valid_sessions
    ledger, commits = service.ledger, service.ledger.commits
    if not ledger.shared and valid.get(session.id) == commits:  # to sign out is a commit
        return session
    if await ledger.read(lambda tx: is_revoked(tx, session.id)):
        return None
    if len(valid) >= MAX_VALID:
        valid.clear()
    valid[session.id] = commits
    return session


def session_of(request: Request) -> Session | None:
    """Return the session in the visitor's cookie, None if they are not signed in."""
    cookie = read_cookie(request, SESSION)
    return sessions_of(request.app.state.service).read(cookie, int(time.time()))


def sessions_of(service: Service) -> Sessions:
    """Return the session signer for the current password."""
    password = service.settings.admin_password
    if password is None:
        raise ValueError("the page is off")
    return _sessions(service.settings.secret_keys, password)


@lru_cache(maxsize=1)  # each open tab asks every two seconds
def _sessions(keys: tuple[Secret, ...], password: Secret) -> Sessions:
    return Sessions([key.reveal() for key in keys], password.reveal())


async def form_of(request: Request) -> Form:
    """Return the fields of a form; if a field occurs twice, the last value."""
    try:
        text = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    except BadBody as error:
        if error.reason is not Reason.BODY_TOO_LARGE:
            raise
        raise BadBody(
            error.reason, f"The form is larger than {MAX_FORM_BYTES // 1024} KiB"
        ) from None
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))


def give_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    """Set one of our cookies; scripts cannot read it and other sites' forms do not send it."""
    secure = _is_secure(request)
    response.set_cookie(
        _name(name, secure), value, max_age=min(seconds, KEPT_SECONDS), path="/",
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


def flash_of(request: Request) -> str:
    """Return the message that the last response left for this page."""
    return unquote(read_cookie(request, FLASH))[:MAX_FLASH]


def _to_login(request: Request) -> Response:
    if FRAGMENT in request.query_params:
        return Response(status_code=401)
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse("/login" if path == "/" else f"/login?next={quote(path)}", 303)


def _is_secure(request: Request) -> bool:
    service: Service = request.app.state.service
    return urlsplit(service.settings.public_url or "").scheme == "https"


def _name(name: str, secure: bool) -> str:
    """Return the cookie's name; with `__Host-`, no other host of the domain can set it."""
    return f"__Host-receiver-{name}" if secure else f"receiver-{name}"


LOGIN = "login"
SEE_OTHER = 303
TRIES_A_MINUTE = 10
_OURS = re.compile(
    r"/(?:deliveries(?:/[0-9a-z]{1,40})?|moves/[0-9a-z]{1,40}|versions(?:/diff)?|channels"
    r"|rules(?:/link)?|checks|again|promote)?"
    r"(?:\?[!-~]{0,1600})?",
    re.ASCII,
)

log = get_logger()


class Login:
    """The login of the page."""

    def __init__(self) -> None:
        self._tries = MinuteLimiter(TRIES_A_MINUTE)

    def routes(self) -> list[Route]:
        """Return the routes for signing in and out."""
        return [
            Route("/login", public_page(_show), methods=["GET"]),
            Route("/login", public_page(self._enter), methods=["POST"]),
            Route("/logout", _leave, methods=["POST"]),
            Route("/logout", _to_overview, methods=["GET"]),
        ]

    async def _enter(self, service: Service, request: Request) -> Response:
        """Start a session if the password is right; without a login cookie the form is not read.

        The page to go to is in the URL, so that it is known then as well.
        """
        now, sessions = int(time.time()), sessions_of(service)
        address, after = client_of(host_of(request)), _after_login(request)
        pending = sessions.read_login(read_cookie(request, LOGIN), now)
        if pending is None:
            return _form(request, after, 403, _FORM_TOO_OLD)
        if not self._tries.allows(address):
            log.warning("login_limited", address=address)
            limited = _form(request, after, 429, _TOO_MANY_TRIES)
            limited.headers["Retry-After"] = "60"
            return limited
        form = await form_of(request)
        if not pending.is_own(form.get("csrf", "")):
            return _form(request, after, 403, _FORM_TOO_OLD)
        password = service.settings.admin_password
        if password is None or not is_same(form.get("password", ""), password):
            log.warning("login_refused", address=address)
            return _form(request, after, 403, "The password is wrong.")
        log.info("login", address=address)
        response = RedirectResponse(after, 303)
        cookie, session = sessions.begin(now)
        earlier = [*_earlier(service, request), session.id][-MAX_EARLIER:]
        give_cookie(request, response, SESSION, cookie, KEPT_SECONDS)
        give_cookie(request, response, EARLIER, sessions.keep_ids(earlier, now), KEPT_SECONDS)
        forget_cookie(request, response, LOGIN)
        return response


async def _show(_: Service, request: Request) -> Response:
    """Show the form, with a CSRF token that is bound to this browser."""
    return _form(request, _after_login(request), flash=flash_of(request))


def _after_login(request: Request) -> str:
    return safe_path(request.query_params.get("next", "/"))


async def _to_overview(_: Request) -> Response:
    """Redirect to the overview: one signs out with its button."""
    return RedirectResponse("/", 303)


async def _leave(request: Request) -> Response:
    """End this browser's session on the server as well, so that a copied cookie is invalid."""

    async def end(service: Service, _: Form) -> Redirect:
        session = session_of(request)
        if session is not None:
            expires_at = (int(time.time()) + SESSION_SECONDS + CLOCK_SECONDS) * 1000  # if renewed
            await service.ledger.write(lambda tx: revoke(tx, session.id, expires_at))
        return Redirect("/login")

    response = await form_action(end)(request)
    if response.status_code == SEE_OTHER:
        forget_cookie(request, response, SESSION)
    return response


_TOO_MANY_TRIES = "Too many attempts. Wait a minute, then try again."
_FORM_TOO_OLD = (
    "The form expired, or your browser did not send its cookie. Please try again, over https if "
    "the receiver's public_url is https."
)


def safe_path(path: str) -> str:
    """Return the path if it is a path of the page, otherwise `/`: never another site."""
    return path if _OURS.fullmatch(path) else "/"


def is_same(given: str, password: Secret) -> bool:
    """Compare in constant time, independent of the lengths."""
    pair = [hashlib.sha256(text.encode("utf-8", "replace")).digest()
            for text in (given, password.reveal())]  # fmt: skip
    return hmac.compare_digest(*pair)


def _form(
    request: Request, after: str, status: int = 200, fault: str = "", flash: str = ""
) -> Response:
    cookie, session = sessions_of(request.app.state.service).begin_login(int(time.time()))
    response = render(
        "login.html", status, csrf=session.masked(), after=after, fault=fault, flash=flash
    )
    if flash:
        forget_cookie(request, response, FLASH)
    give_cookie(request, response, LOGIN, cookie, LOGIN_FORM_SECONDS)
    return response


# A form that was sent after its session expired: kept until the visitor has signed in again.

_NOTE = "You are signed in again. Nothing was done yet."
_NOT_NAMED = frozenset({"back", "csrf", "confirmed"})
_TOO_OLD = "The form is too old, or the address was changed. Nothing was done."


async def show_again(service: Service, request: Request, session: Session) -> Response:
    """Show the form once more, with what it contained, and ask whether to send it."""
    kept = sessions_of(service).read_form(request.query_params.get("form", ""), int(time.time()))
    if kept is None:
        return failure(request, 400, "There is nothing to repeat.", _TOO_OLD)
    path, form = kept
    question = QUESTIONS.get(path.removeprefix("/do/"))
    asked = await question(service, form) if question is not None else ""
    return ask(session, form, asked or _still_wanted(path, form), action=path, note=_NOTE)


def _still_wanted(path: str, form: Form) -> str:
    what = path.rpartition("/")[2].replace("-", " ")
    named = ", ".join(value for name, value in form.items() if value and name not in _NOT_NAMED)
    return f"Do you still want this: {what}{f' ({named})' if named else ''}?"
