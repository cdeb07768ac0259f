"""API tokens: signed by the secret key, good until a time; nothing of them is kept."""

import hashlib
from collections.abc import Sequence

from itsdangerous import BadData, URLSafeSerializer

API_SALT = b"receiver.api"
LONGEST = 512


class ApiKeys:
    """Makes and checks API tokens; keys oldest first, as for links."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._serializer = URLSafeSerializer(
            list(keys), salt=API_SALT, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def token(self, expires_at: int) -> str:
        """Return a token good until then (epoch seconds)."""
        return str(self._serializer.dumps(["api", expires_at]))

    def is_good(self, token: str, now: int) -> bool:
        """Tell whether the token is ours and has not expired; `now` in epoch seconds."""
        if len(token) > LONGEST or not token.isascii():
            return False
        try:
            payload = self._serializer.loads(token)
        except (BadData, ValueError, RecursionError):
            return False
        match payload:
            case ["api", int(expires_at)]:
                return now < expires_at
            case _:
                return False
