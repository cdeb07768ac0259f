"""Approval links: sign and read their tokens. One link approves one move to one image.

It is made when a notification is sent and stored nowhere: anyone who has it may approve.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeSerializer

from receiver.images import ImageReference

APPROVAL_SALT = b"receiver.approval"
APPROVAL_PATH = "/approve/"
LONGEST_APPROVAL = 2048
VALID_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Approvable:
    """The move of a channel to an image. `digest` is None if the registry was not asked."""

    app: str
    channel: str
    image: ImageReference
    digest: str | None


@dataclass(frozen=True, slots=True)
class ApprovalToken:
    """A token's content. `expires_at` in epoch seconds."""

    move: Approvable
    expires_at: int


class ApprovalSigner:
    """Signs and reads the tokens; keys oldest first, as for links to Docker Hub."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._serializer = URLSafeSerializer(
            list(keys), salt=APPROVAL_SALT, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def link(self, public_url: str, token: ApprovalToken) -> str:
        """Return the whole URL to send."""
        return f"{public_url.rstrip('/')}{APPROVAL_PATH}{self.sign(token)}"

    def sign(self, token: ApprovalToken) -> str:
        """Return the last segment of the link."""
        move = token.move
        place = [move.app, move.channel, move.image.repository, move.image.tag, move.digest]
        return str(self._serializer.dumps([*place, token.expires_at]))

    def read(self, text: str) -> ApprovalToken | None:
        """Return the content of a token, expired or not; None if we did not sign it."""
        if len(text) > LONGEST_APPROVAL or not text.isascii():
            return None
        try:
            payload = self._serializer.loads(text)
        except (BadData, ValueError, RecursionError):
            return None
        match payload:
            case [str(app), str(channel), str(repository), str(tag), digest, int(expires_at)] if (
                digest is None or isinstance(digest, str)
            ):
                image = ImageReference(repository=repository, tag=tag)
                return ApprovalToken(Approvable(app, channel, image, digest), expires_at)
            case _:
                return None
