"""Links: their tokens are made and read here, side by side.

A token is `itsdangerous` over [repository, link number]; raising a repository's number revokes
its links so far. Nothing in it is secret but the signature.
"""

import hashlib
from collections.abc import Mapping, Sequence

from itsdangerous import BadData, Signer, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from receiver.errors import BadLink
from receiver.images import is_repository

LINK_SALT = b"receiver.link"
MAX_URL = 255  # Docker Hub's limit: github.com/docker/docs/pull/24966
PATH = "/hooks/dockerhub/"
MAX_TOKEN = 512
CHALLENGE_SALT, PROOF_SALT = b"receiver.challenge", b"receiver.proof"
REMEMBERED = 1024


class LinkKeys:
    """Makes and reads tokens with a list of keys, oldest first (itsdangerous signs with the last).

    Tokens that were good are remembered, since checking one costs as much as reading its body.
    """

    def __init__(self, keys: Sequence[str], numbers: Mapping[str, int]) -> None:
        self._serializer = URLSafeSerializer(
            list(keys), salt=LINK_SALT, signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._challenger = Signer(list(keys), salt=CHALLENGE_SALT, digest_method=hashlib.sha256)
        self._prover = Signer(list(keys), salt=PROOF_SALT, digest_method=hashlib.sha256)
        self._numbers = dict(numbers)
        self._known: dict[str, str] = {}

    def token(self, repository: str) -> str:
        """Return the token of the repository's present link."""
        payload = [repository, self._numbers.get(repository, 1)]
        return str(self._serializer.dumps(payload))

    def link(self, public_url: str, repository: str) -> str:
        """Return the whole URL to paste into Docker Hub. It may be longer than MAX_URL."""
        return f"{public_url.rstrip('/')}{PATH}{self.token(repository)}"

    def challenge(self, nonce: str) -> str:
        """Return a question that only a holder of the key can ask, to be sent for a token."""
        return self._challenger.sign(nonce).decode()

    def proof(self, challenge: str) -> str | None:
        """Return the answer that only a holder of the key can give; None to anyone else's question.

        A stranger gets nothing that a guessed key could be compared with.
        """
        known = len(challenge) <= MAX_TOKEN and challenge.isascii()
        if not known or not self._challenger.validate(challenge):
            return None
        return self._prover.get_signature(challenge).decode()

    def repository(self, token: str) -> str:
        """Return the repository that the token is good for; raises BadLink."""
        known = self._known.get(token)
        if known is not None:
            return known
        repository = self._read(token)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[token] = repository
        return repository

    def _read(self, token: str) -> str:
        if len(token) > MAX_TOKEN or not token.isascii():
            raise BadLink("not a token of ours")
        try:
            if not all(_is_canonical(part) for part in token.split(".")):
                raise BadLink("not a token of ours")  # the last letter has bits that say nothing
            payload = self._serializer.loads(token)
        except (BadData, ValueError, RecursionError):
            raise BadLink("the signature does not match") from None
        match payload:
            case [str(repository), int(number)] if is_repository(repository):
                present = self._numbers.get(repository, 1)
                if number != present:
                    raise BadLink(
                        f"link {number} of {repository} is revoked, {present} is the present one"
                    )
                return repository
            case _:
                raise BadLink("signed by us, but not a link")


def _is_canonical(part: str) -> bool:
    return base64_encode(base64_decode(part)).decode() == part
