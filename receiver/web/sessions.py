"""Who is signed in: a cookie that is signed, not stored, and bound to the password.

Another password makes another salt, so changing it ends every session. The ledger has the ids of
sessions that were ended by signing out.
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
CLOCK_SECONDS = 60 * 60  # the clock may have been put back by so much since a session began
LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Session:
    """What a good cookie holds: the token that each form must repeat; `expires_at` epoch s."""

    csrf: str
    expires_at: int

    @property
    def id(self) -> str:
        """The session's id in the ledger, from which its token cannot be found."""
        return hashlib.sha256(self.csrf.encode()).hexdigest()[:32]

    def is_own(self, given: str) -> bool:
        """Tell whether a form carries this session's token."""
        return hmac.compare_digest(self.csrf.encode(), given.encode("utf-8", "replace"))


class Sessions:
    """Makes and reads the cookies; keys oldest first, as for links. `now` in epoch seconds."""

    def __init__(self, keys: Sequence[str], password: str) -> None:
        salt = SESSION_SALT + b":" + hashlib.sha256(password.encode()).digest()
        self._serializer = URLSafeSerializer(
            list(keys), salt=salt, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def begin(self, now: int) -> tuple[str, Session]:
        """Return the cookie of a new session, and the session."""
        return self._make("session", now + SESSION_SECONDS)

    def read(self, cookie: str, now: int) -> Session | None:
        """Return the session of a cookie; None when it is not ours, too old, or ended."""
        return self._read("session", cookie, now)

    def begin_login(self, now: int) -> tuple[str, Session]:
        """Return the cookie that goes with a login form, so that no other site can send one."""
        return self._make("login", now + LOGIN_FORM_SECONDS)

    def read_login(self, cookie: str, now: int) -> Session | None:
        """Return what a login form's cookie holds; None when it is not ours, or too old."""
        return self._read("login", cookie, now)

    def _make(self, kind: str, expires_at: int) -> tuple[str, Session]:
        session = Session(token_urlsafe(24), expires_at)
        return str(self._serializer.dumps([kind, session.csrf, expires_at])), session

    def _read(self, wanted: str, cookie: str, now: int) -> Session | None:
        if len(cookie) > LONGEST or not cookie.isascii():
            return None
        try:
            payload = self._serializer.loads(cookie)
        except (BadData, ValueError, RecursionError):
            return None
        match payload:
            case [str(kind), str(csrf), int(expires_at)] if kind == wanted:
                # One that ends later than any can began while the clock was wrong.
                good = now < expires_at <= now + SESSION_SECONDS + CLOCK_SECONDS
                return Session(csrf, expires_at) if good else None
            case _:
                return None
