"""Sessions: cookies that are signed, not stored, and bound to the password.

The salt depends on the password, so a new password ends every session. The ledger stores the ids
of sessions that were ended by signing out.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_urlsafe

from itsdangerous import BadData, URLSafeSerializer

SESSION_SALT = b"receiver.session"
SESSION_SECONDS = 12 * 60 * 60
LOGIN_FORM_SECONDS = 60 * 60
CLOCK_SECONDS = 60 * 60  # the clock may have been set back by this much since the session began
LONGEST = 1024


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

    def begin_login(self, now: int) -> tuple[str, Session]:
        """Return the cookie of a login form, which prevents login forms from other sites."""
        return self._make("login", now + LOGIN_FORM_SECONDS)

    def read_login(self, cookie: str, now: int) -> Session | None:
        """Return the content of a login form's cookie; None if it is invalid or expired."""
        return self._read("login", cookie, now)

    def _make(self, kind: str, expires_at: int) -> tuple[str, Session]:
        session = Session(token_urlsafe(24), expires_at)
        return str(self._serializer.dumps([kind, session.csrf, expires_at])), session

    def _read(self, expected: str, cookie: str, now: int) -> Session | None:
        if len(cookie) > LONGEST or not cookie.isascii():
            return None
        try:
            payload = self._serializer.loads(cookie)
        except (BadData, ValueError, RecursionError):
            return None
        match payload:
            case [str(kind), str(csrf), int(expires_at)] if kind == expected:
                # A session that ends too late began while the clock was wrong.
                valid = now < expires_at <= now + SESSION_SECONDS + CLOCK_SECONDS
                return Session(csrf, expires_at) if valid else None
            case _:
                return None
