"""Signing in and out: one password, compared in constant time, tried so often by address."""

import hashlib
import hmac
import re
import time

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from receiver.ledger.revocations import revoke
from receiver.logs import get_logger
from receiver.secret import Secret
from receiver.service import Service
from receiver.web.doorkeeping import (
    SESSION,
    Form,
    for_a_deed,
    for_anyone,
    forget_cookie,
    form_of,
    give_cookie,
    read_cookie,
    session_of,
    sessions_of,
)
from receiver.web.limits import PerMinute, client_of
from receiver.web.rendering import render
from receiver.web.sessions import LOGIN_FORM_SECONDS, SESSION_SECONDS

LOGIN = "login"
SEE_OTHER = 303
TRIES_A_MINUTE = 10
_OURS = re.compile(r"/(?:deliveries(?:/[0-9a-z]{1,40})?|versions)?(?:\?[!-~]{0,500})?", re.ASCII)

log = get_logger()


class Login:
    """The door of the page."""

    def __init__(self) -> None:
        self._tries = PerMinute(TRIES_A_MINUTE)

    def routes(self) -> list[Route]:
        """Return the routes of signing in and out."""
        return [
            Route("/login", for_anyone(_show), methods=["GET"]),
            Route("/login", for_anyone(self._enter), methods=["POST"]),
            Route("/logout", _leave, methods=["POST"]),
        ]

    async def _enter(self, service: Service, request: Request) -> Response:
        """Begin a session for a person with the password; a stranger's form is not even read."""
        now, sessions = int(time.time()), sessions_of(service)
        address = client_of(request.client.host if request.client else "unknown")
        asked = sessions.read_login(read_cookie(request, LOGIN), now)
        if asked is None:
            return _form(request, "/", 403, _FORM_TOO_OLD)
        if not self._tries.allows(address):
            log.warning("login_limited", address=address)
            limited = _form(request, "/", 429, "Too many tries. Wait a minute, then try again.")
            limited.headers["Retry-After"] = "60"
            return limited
        form = await form_of(request)
        after = safe_path(form.get("next", "/"))
        if not asked.is_own(form.get("csrf", "")):
            return _form(request, after, 403, _FORM_TOO_OLD)
        password = service.settings.admin_password
        if password is None or not is_same(form.get("password", ""), password):
            log.warning("login_refused", address=address)
            return _form(request, after, 403, "That is not the password.")
        log.info("login", address=address)
        answer = RedirectResponse(after, 303)
        give_cookie(request, answer, SESSION, sessions.begin(now)[0], SESSION_SECONDS)
        forget_cookie(request, answer, LOGIN)
        return answer


async def _show(_: Service, request: Request) -> Response:
    """Show the form, with a token that this browser alone can send back."""
    return _form(request, after=safe_path(request.query_params.get("next", "/")))


async def _leave(request: Request) -> Response:
    """End this browser's session, here as well: a copied cookie is not valid any more."""

    async def end(service: Service, _: Form) -> tuple[str, str]:
        session = session_of(request)
        if session is not None:
            expires_at = session.expires_at * 1000
            await service.ledger.write(lambda tx: revoke(tx, session.id, expires_at))
        return "/login", ""

    answer = await for_a_deed(end)(request)
    if answer.status_code == SEE_OTHER:
        forget_cookie(request, answer, SESSION)
    return answer


_FORM_TOO_OLD = (
    "This form was too old, or your browser did not send its cookie back. Please try again, over "
    "https where the receiver's public_url is https."
)


def safe_path(path: str) -> str:
    """Return the path if it is one of the page's own, else the overview's: never another site."""
    return path if _OURS.fullmatch(path) else "/"


def is_same(given: str, password: Secret) -> bool:
    """Compare in constant time, whatever the lengths."""
    pair = [hashlib.sha256(text.encode("utf-8", "replace")).digest()
            for text in (given, password.reveal())]  # fmt: skip
    return hmac.compare_digest(*pair)


def _form(request: Request, after: str, status: int = 200, fault: str = "") -> Response:
    cookie, session = sessions_of(request.app.state.service).begin_login(int(time.time()))
    answer = render(
        "login.html", status, layout="base.html", csrf=session.csrf, after=after, fault=fault,
        told="", here=None,
    )  # fmt: skip
    give_cookie(request, answer, LOGIN, cookie, LOGIN_FORM_SECONDS)
    return answer
