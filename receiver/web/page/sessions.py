"""The sessions of the page: their cookies, the CSRF tokens of their forms, and kept forms."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from secrets import token_bytes, token_urlsafe

import msgspec

from receiver.signing import content_of, serializer_of

SESSION_SALT = b"receiver.session"
SESSION_SECONDS = 12 * 60 * 60
LOGIN_FORM_SECONDS = 60 * 60
CLOCK_SECONDS = 60 * 60  # the clock may have been set back by this much since the session began
KEPT_SECONDS = 7 * 24 * 60 * 60  # an expired cookie lets a form be kept, and the form itself
MAX_COOKIE = 1024
MAX_KEPT_FORM = 1500


class Session(msgspec.Struct, frozen=True):
    """The content of a valid cookie. Each form repeats `csrf`; `expires_at` in epoch seconds."""

    csrf: str
    expires_at: int

    @property
    def id(self) -> str:
        """The session's id in the ledger, a hash that does not reveal the token."""
        return _id_of(self.csrf)

    def masked(self) -> str:
        """Return the CSRF token for one page; it is another text each time.

        Pages are compressed: if the token always was the same text, the sizes of pages that repeat
        a stranger's guess would reveal it (BREACH).
        """
        token = self.csrf.encode()
        pad = token_bytes(len(token))
        return urlsafe_b64encode(pad + _combined(pad, token)).decode()

    def is_own(self, given: str) -> bool:
        """Return whether a form has this session's CSRF token, masked or not."""
        own = self.csrf.encode()
        return any(hmac.compare_digest(own, token) for token in _tokens_in(given))


def is_of(given: str, sessions: Collection[str]) -> bool:
    """Return whether a form has the CSRF token of one of these sessions, by their ids."""
    return any(_id_of(token.decode("utf-8", "replace")) in sessions for token in _tokens_in(given))


def _id_of(csrf: str) -> str:
    return hashlib.sha256(csrf.encode("utf-8", "replace")).hexdigest()[:32]


def _combined(pad: bytes, token: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(pad, token, strict=True))


def _tokens_in(given: str) -> list[bytes]:
    """Return the token that a form may have: the text itself, or what it masks."""
    tokens = [given.encode("utf-8", "replace")]
    try:
        both = urlsafe_b64decode(given)
    except ValueError:
        return tokens
    half, odd = divmod(len(both), 2)
    return tokens if odd else [*tokens, _combined(both[:half], both[half:])]


class Sessions:
    """Signs and reads the cookies; keys oldest first, as for links. `now` in epoch seconds."""

    def __init__(self, keys: Sequence[str], password: str) -> None:
        salt = SESSION_SALT + b":" + hashlib.sha256(password.encode()).digest()
        self._serializer = serializer_of(keys, salt)

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

    def keep_ids(self, sessions: Sequence[str], now: int) -> str:
        """Return the cookie with the ids of a browser's last sessions."""
        return str(self._serializer.dumps(["earlier", list(sessions), now + KEPT_SECONDS]))

    def read_ids(self, cookie: str, now: int) -> list[str]:
        """Return the ids of a browser's last sessions; none if the cookie is invalid or expired."""
        match content_of(self._serializer, cookie, MAX_COOKIE):
            case ["earlier", list(sessions), int(expires_at)] if now < expires_at:
                return [str(one) for one in sessions]
            case _:
                return []

    def keep_form(self, path: str, form: Mapping[str, str], now: int) -> str:
        """Return a form as a signed text, without its CSRF token."""
        kept = {name: value for name, value in form.items() if name not in {"csrf", "confirmed"}}
        return str(self._serializer.dumps(["form", path, kept, now + KEPT_SECONDS]))

    def read_form(self, text: str, now: int) -> tuple[str, dict[str, str]] | None:
        """Return the path and the fields of a kept form; None if it is invalid or too old."""
        match content_of(self._serializer, text, MAX_KEPT_FORM):
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

    def _read(self, expected: str, cookie: str, now: int, *, longer: int = 0) -> Session | None:
        match content_of(self._serializer, cookie, MAX_COOKIE):
            case [str(kind), str(csrf), int(expires_at)] if kind == expected:
                # A session that ends too late began while the clock was wrong.
                valid = now < expires_at <= now + SESSION_SECONDS + CLOCK_SECONDS + longer
                return Session(csrf, expires_at) if valid else None
            case _:
                return None
