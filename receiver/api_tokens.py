"""API tokens: signed with the secret key, valid until a time, perhaps for one repository only.

Nothing of them is stored; the ledger has the ids of those that were revoked.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeSerializer

API_SALT = b"receiver.api"
LONGEST = 512
LONGEST_SECONDS = 3650 * 86_400  # that a token may be valid for


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What a token holds. `expires_at` in epoch seconds; `repository` None for all of the API."""

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
        """Return what a token holds; None if it is not ours or has expired.

        `now` in epoch seconds. Whether it was revoked is in the ledger.
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
