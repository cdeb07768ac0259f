"""API tokens: signed with the secret key, with an expiry, optionally for one repository only.

They are not stored; the ledger has the ids of revoked tokens.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeSerializer

API_SALT = b"receiver.api"
LONGEST = 512
LONGEST_SECONDS = 3650 * 86_400  # the longest life of a token


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token's content. `expires_at` in epoch seconds; `repository` None for the whole API."""

    id: str
    expires_at: int
    repository: str | None = None


class ApiKeys:
    """Signs and reads API tokens; keys oldest first, as for links."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._serializer = URLSafeSerializer(
            list(keys), salt=API_SALT, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def sign(self, token: ApiToken) -> str:
        """Return the token as text for the Authorization header."""
        return str(self._serializer.dumps(["api", token.id, token.expires_at, token.repository]))

    def read(self, text: str, now: int) -> ApiToken | None:
        """Return the content of a token; None if it is not ours or has expired.

        `now` in epoch seconds. Revocations are in the ledger.
        """
        if len(text) > LONGEST or not text.isascii():
            return None
        try:
            payload = self._serializer.loads(text)
        except (BadData, ValueError, RecursionError):
            return None
        match payload:
            case ["api", str(identity), int(expires_at), str() | None as repository] if (
                now < expires_at
            ):
                return ApiToken(identity, expires_at, repository)
            case _:
                return None
