"""Signing in and out: one password, compared in constant time, with a rate limit per client."""

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
    """The login of the page."""

    def __init__(self) -> None:
        self._tries = PerMinute(TRIES_A_MINUTE)

    def routes(self) -> list[Route]:
        """Return the routes for signing in and out."""
        return [
            Route("/login", for_anyone(_show), methods=["GET"]),
            Route("/login", for_anyone(self._enter), methods=["POST"]),
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
        give_cookie(request, response, SESSION, sessions.begin(now)[0], SESSION_SECONDS)
        forget_cookie(request, response, LOGIN)
        return response


async def _show(_: Service, request: Request) -> Response:
    """Show the form, with a CSRF token that is bound to this browser."""
    return _form(request, after=safe_path(request.query_params.get("next", "/")))


async def _leave(request: Request) -> Response:
    """End this browser's session on the server as well, so that a copied cookie is invalid."""

    async def end(service: Service, _: Form) -> tuple[str, str]:
        session = session_of(request)
        if session is not None:
            expires_at = session.expires_at * 1000
            await service.ledger.write(lambda tx: revoke(tx, session.id, expires_at))
        return "/login", ""

    response = await for_a_deed(end)(request)
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
