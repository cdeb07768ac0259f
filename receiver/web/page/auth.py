"""Checks before a page or an action: the page is on, the visitor is signed in, CSRF token."""

import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import cast
from urllib.parse import parse_qsl, quote, urlsplit

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from receiver.errors import BadBody, LedgerError
from receiver.ledger.links import is_revoked, revoke
from receiver.logs import get_logger
from receiver.pipeline.prune import RetentionBusy
from receiver.reasons import Reason
from receiver.secret import Secret
from receiver.service import Service
from receiver.web.body import ClientDisconnected, read_body
from receiver.web.clients import MinuteLimiter, client_of
from receiver.web.page.questions import Question
from receiver.web.page.rendering import HEADERS, render
from receiver.web.webhook import not_found

SESSION_SALT = b"receiver.session"
SESSION_SECONDS = 12 * 60 * 60
LOGIN_FORM_SECONDS = 60 * 60
CLOCK_SECONDS = 60 * 60  # the clock may have been set back by this much since the session began
KEPT_SECONDS = 7 * 24 * 60 * 60  # how long an expired cookie still lets a form be kept
LONGEST = 1024
LONGEST_KEPT_FORM = 1500


@dataclass(frozen=True, slots=True)
class Session:
    """The content of a valid cookie. Each form repeats `csrf`; `expires_at` in epoch seconds."""

    csrf: str
    expires_at: int

    @property
    def id(self) -> str:
        """The session's id in the ledger, a hash that does not reveal the token."""
        return hashlib.sha256(self.csrf.encode()).hexdigest()[:32]

    def is_own(self, given: str) -> bool:
        """Return whether a form has this session's CSRF token."""
        return hmac.compare_digest(self.csrf.encode(), given.encode("utf-8", "replace"))


class Sessions:
    """Signs and reads the cookies; keys oldest first, as for links. `now` in epoch seconds."""

    def __init__(self, keys: Sequence[str], password: str) -> None:
        salt = SESSION_SALT + b":" + hashlib.sha256(password.encode()).digest()
        self._serializer = URLSafeSerializer(
            list(keys), salt=salt, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def begin(self, now: int) -> tuple[str, Session]:
        """Return the cookie of a new session, and the session."""
        return self._make("session", now + SESSION_SECONDS)

    def read(self, cookie: str, now: int) -> Session | None:
        """Return the session of a cookie; None if it is invalid or expired."""
        return self._read("session", cookie, now)

    def renew(self, session: Session, now: int) -> str:
        """Return a cookie with which the same session lasts longer: it is in use."""
        return str(self._serializer.dumps(["session", session.csrf, now + SESSION_SECONDS]))

    def read_expired(self, cookie: str, now: int) -> Session | None:
        """Return a session that has expired lately; None if there was none."""
        return self._read("session", cookie, now - KEPT_SECONDS, longer=KEPT_SECONDS)

    def keep_form(self, path: str, form: Mapping[str, str], now: int) -> str:
        """Return a form as a signed text, without its CSRF token."""
        kept = {name: value for name, value in form.items() if name not in {"csrf", "confirmed"}}
        return str(self._serializer.dumps(["form", path, kept, now + LOGIN_FORM_SECONDS]))

    def read_form(self, text: str, now: int) -> tuple[str, dict[str, str]] | None:
        """Return the path and the fields of a kept form; None if it is invalid or too old."""
        match self._payload(text, LONGEST_KEPT_FORM):
            case ["form", str(path), dict(form), int(expires_at)] if now < expires_at:
                return path, {str(name): str(value) for name, value in form.items()}
            case _:
                return None

    def begin_login(self, now: int) -> tuple[str, Session]:
        """Return the cookie of a login form, which prevents login forms from other sites."""
        return self._make("login", now + LOGIN_FORM_SECONDS)

    def read_login(self, cookie: str, now: int) -> Session | None:
        """Return the content of a login form's cookie; None if it is invalid or expired."""
        return self._read("login", cookie, now)

    def _make(self, kind: str, expires_at: int) -> tuple[str, Session]:
        session = Session(token_urlsafe(24), expires_at)
        return str(self._serializer.dumps([kind, session.csrf, expires_at])), session

    def _payload(self, text: str, longest: int) -> object:
        if len(text) > longest or not text.isascii():
            return None
        try:
            return cast("object", self._serializer.loads(text))
        except (BadData, ValueError, RecursionError):
            return None

    def _read(self, expected: str, cookie: str, now: int, *, longer: int = 0) -> Session | None:
        match self._payload(cookie, LONGEST):
            case [str(kind), str(csrf), int(expires_at)] if kind == expected:
                # A session that ends too late began while the clock was wrong.
                valid = now < expires_at <= now + SESSION_SECONDS + CLOCK_SECONDS + longer
                return Session(csrf, expires_at) if valid else None
            case _:
                return None


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


@dataclass(frozen=True, slots=True)
class Redirect:
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
            return failure(request, 503, "The ledger is unavailable.", f"{error}.")
        except (BadBody, RetentionBusy, ValueError) as error:
            return failure(request, 400, "The request failed.", f"{error}.")

    return respond


def _page_off(request: Request) -> Response:
    """Return how to turn the page on; for an action, return 404."""
    if request.method != "GET":
        return not_found()
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": _HOW_TO_TURN_IT_ON}, 404)
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
        session = await current_session(service, request)
        if session is None:
            return _to_login(request)
        response = await page(service, request, session)
        now = int(time.time())
        if FRAGMENT not in request.query_params and session.expires_at - now < SESSION_SECONDS // 2:
            renewed = sessions_of(service).renew(session, now)
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
        form = await form_of(request)
        if not session.is_own(form.get("csrf", "")):
            return failure(request, 403, "Nothing was done.", _NOT_OWN)
        asked = await question(service, form) if question is not None else ""
        if asked and form.get("confirmed") != "yes":
            return ask(session, form, asked, action=request.url.path)
        done = await action(service, form)
        response = RedirectResponse(done.path, 303)
        if done.message:
            text = quote(done.message[:LONGEST_FLASH])
            give_cookie(request, response, FLASH, text, FLASH_SECONDS)
        return response

    return public_page(respond)


async def _keep_form(service: Service, request: Request) -> Response:
    """Redirect to the login, and from there back to the form; a stranger's form is not read."""
    now, sessions = int(time.time()), sessions_of(service)
    expired = sessions.read_expired(read_cookie(request, SESSION), now)
    if expired is None or expired.expires_at > now or not request.url.path.startswith("/do/"):
        return RedirectResponse("/login", 303)
    form = await form_of(request)
    kept = sessions.keep_form(request.url.path, form, now)
    if not expired.is_own(form.get("csrf", "")) or len(kept) > LONGEST_KEPT_FORM:
        return RedirectResponse("/login", 303)
    return RedirectResponse(f"/login?next={quote(f'/again?form={kept}', safe='')}", 303)


def ask(session: Session, form: Form, question: str, *, action: str, note: str = "") -> Response:
    """Return the page that asks whether to do what a form wants."""
    hidden = {"csrf", "confirmed"}
    back = safe_path(form.get("back", "/"))
    return render(
        "confirm.html", layout="base.html", csrf=session.csrf, here="", flash=note,
        question=question, action=action, back=back,
        fields={name: value for name, value in form.items() if name not in hidden},
    )  # fmt: skip


def wants_html(request: Request) -> bool:
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


async def current_session(service: Service, request: Request) -> Session | None:
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
    try:
        text = (await read_body(request, LARGEST_FORM)).decode("utf-8", "replace")
    except BadBody as error:
        if error.reason is not Reason.BODY_TOO_LARGE:
            raise
        raise BadBody(error.reason, f"The form is larger than {LARGEST_FORM // 1024} KiB") from None
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))


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
    r"/(?:deliveries(?:/[0-9a-z]{1,40})?|versions|channels|rules|again|promote)?(?:\?[!-~]{0,1600})?",
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
        ]

    async def _enter(self, service: Service, request: Request) -> Response:
        """Start a session if the password is right; without a login cookie the form is not read."""
        now, sessions = int(time.time()), sessions_of(service)
        address = client_of(request.client.host if request.client else "unknown")
        pending = sessions.read_login(read_cookie(request, LOGIN), now)
        if pending is None:
            return _form(request, "/", 403, _FORM_TOO_OLD)
        if not self._tries.allows(address):
            log.warning("login_limited", address=address)
            limited = _form(request, "/", 429, "Too many attempts. Wait a minute, then try again.")
            limited.headers["Retry-After"] = "60"
            return limited
        form = await form_of(request)
        after = safe_path(form.get("next", "/"))
        if not pending.is_own(form.get("csrf", "")):
            return _form(request, after, 403, _FORM_TOO_OLD)
        password = service.settings.admin_password
        if password is None or not is_same(form.get("password", ""), password):
            log.warning("login_refused", address=address)
            return _form(request, after, 403, "The password is wrong.")
        log.info("login", address=address)
        response = RedirectResponse(after, 303)
        give_cookie(request, response, SESSION, sessions.begin(now)[0], KEPT_SECONDS)
        forget_cookie(request, response, LOGIN)
        return response


async def _show(_: Service, request: Request) -> Response:
    """Show the form, with a CSRF token that is bound to this browser."""
    return _form(request, after=safe_path(request.query_params.get("next", "/")))


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


def _form(request: Request, after: str, status: int = 200, fault: str = "") -> Response:
    cookie, session = sessions_of(request.app.state.service).begin_login(int(time.time()))
    response = render(
        "login.html", status, layout="base.html", csrf=session.csrf, after=after, fault=fault,
        flash="", here=None,
    )  # fmt: skip
    give_cookie(request, response, LOGIN, cookie, LOGIN_FORM_SECONDS)
    return response


# A form that was sent after its session expired: kept until the visitor has signed in again.

_NOTE = "You are signed in again. Nothing was done yet."
_TOO_OLD = "The form is too old, or the address was changed. Nothing was done."


async def show_again(service: Service, request: Request, session: Session) -> Response:
    """Show the form once more, with what it contained, and ask whether to send it."""
    kept = sessions_of(service).read_form(request.query_params.get("form", ""), int(time.time()))
    if kept is None:
        return failure(request, 400, "There is nothing to repeat.", _TOO_OLD)
    path, form = kept
    what = path.rpartition("/")[2].replace("-", " ")
    named = ", ".join(value for name, value in form.items() if value and name != "back")
    question = f"Do you still want this: {what}{f' ({named})' if named else ''}?"
    return ask(session, form, question, action=path, note=_NOTE)
