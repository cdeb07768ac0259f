"""Signed tokens: links of repositories, API tokens, and links that approve a channel's move."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from itsdangerous import BadData, Signer, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from receiver.errors import BadLink
from receiver.images import ImageReference, is_repository

LINK_SALT = b"receiver.link"
MAX_URL = 255  # Docker Hub's limit: github.com/docker/docs/pull/24966
PATH = "/hooks/dockerhub/"
MAX_TOKEN = 512
CHALLENGE_SALT, PROOF_SALT = b"receiver.challenge", b"receiver.proof"
REMEMBERED = 1024
SIGNATURE_LETTERS = 43  # of a SHA-256, in base64 without its padding
MIN_ALIKE = 12  # letters of a token that identify its link
NUMBER_LETTERS = 8  # before the signature: they depend on the link's number
API_SALT = b"receiver.api"
MAX_API_TOKEN = 512
MAX_LIFETIME_SECONDS = 3650 * 86_400  # the longest life of a token
APPROVAL_SALT = b"receiver.approval"
APPROVAL_PATH = "/approve/"
MAX_APPROVAL = 2048
APPROVAL_SECONDS = 7 * 86_400


class LinkFault(StrEnum):
    """Why a link is refused."""

    REVOKED = "revoked"
    SIGNATURE = "signature"
    TRUNCATED = "truncated"
    OTHER_REPOSITORY = "other_repository"
    MISDIRECTED = "misdirected"
    UNKNOWN_REPOSITORY = "unknown_repository"
    MALFORMED = "malformed"


# The owner of a repository uses such a link: pushes are lost. Anyone may send the others.
ACTIONABLE = frozenset(
    {
        LinkFault.REVOKED,
        LinkFault.SIGNATURE,
        LinkFault.TRUNCATED,
        LinkFault.OTHER_REPOSITORY,
        LinkFault.MISDIRECTED,
    }
)
_WHAT_TO_DO: Mapping[LinkFault, str] = {
    LinkFault.REVOKED: "The link was revoked. Paste the one that `receiver link {repository}` "
    "prints into the repository's Webhooks tab on Docker Hub; catch-up finds what was missed.",
    LinkFault.SIGNATURE: "The signature does not match: was RECEIVER_SECRET_KEY changed, or the "
    "link altered? Set the key back, or paste the link that `receiver link {repository}` prints "
    "into the repository's Webhooks tab on Docker Hub.",
    LinkFault.TRUNCATED: "The link was cut off. Paste the whole line that `receiver link "
    "{repository}` prints into the repository's Webhooks tab on Docker Hub.",
    LinkFault.OTHER_REPOSITORY: "The link of {repository} was pasted into another repository's "
    "Webhooks tab on Docker Hub. Each repository has its own: `receiver link` prints them.",
    LinkFault.MISDIRECTED: "A webhook of Docker Hub came to an address that is no link, but looks "
    "like a damaged one. Paste the whole line that `receiver link {repository}` prints into the "
    "repository's Webhooks tab on Docker Hub.",
    LinkFault.UNKNOWN_REPOSITORY: "The link names a repository of no rule, and this receiver did "
    "not sign it. If you pasted it, add a [[rule]] for the repository; then `receiver link` "
    "prints its link.",
    LinkFault.MALFORMED: "It is not a link of this receiver, and harmless if nobody pasted a link "
    "recently; `receiver link` prints what to paste.",
}


def what_to_do(fault: LinkFault, repository: str | None) -> str:
    """Return the error of such a link, and what to do about it."""
    return _WHAT_TO_DO[fault].format(repository=repository or "GROUP/PROJECT")


def serializer_of(keys: Sequence[str], salt: bytes) -> URLSafeSerializer:
    """Return what signs with the last of the keys, and verifies with all of them."""
    return URLSafeSerializer(list(keys), salt=salt, signer_kwargs={"digest_method": hashlib.sha256})


def content_of(serializer: URLSafeSerializer, token: str, longest: int) -> Any:
    """Return what was signed; None if it is too long, or was not signed by us."""
    if len(token) > longest or not token.isascii():
        return None
    try:
        return serializer.loads(token)
    except (BadData, ValueError, RecursionError):
        return None


class LinkSigner:
    """Signs and verifies tokens with keys, oldest first (itsdangerous signs with the last).

    Valid tokens are cached, because verifying a token costs as much as reading a body.
    `repositories` are those of rules: damaged links of theirs are recognized.
    """

    def __init__(
        self,
        keys: Sequence[str],
        numbers: Mapping[str, int],
        repositories: Collection[str] = (),
    ) -> None:
        self._serializer = serializer_of(keys, LINK_SALT)
        self._challenger = Signer(list(keys), salt=CHALLENGE_SALT, digest_method=hashlib.sha256)
        self._prover = Signer(list(keys), salt=PROOF_SALT, digest_method=hashlib.sha256)
        self._numbers = dict(numbers)
        self._by_key = [serializer_of([key], LINK_SALT) for key in keys]
        self._known: dict[str, tuple[str, int]] = {}
        self._payloads = {
            repository: self.token(repository).rpartition(".")[0]
            for repository in sorted(set(repositories))
        }

    def token(self, repository: str) -> str:
        """Return the token of the repository's present link."""
        payload = [repository, self._numbers.get(repository, 1)]
        return str(self._serializer.dumps(payload))

    def link(self, public_url: str, repository: str) -> str:
        """Return the whole URL to paste into Docker Hub. It may be longer than MAX_URL."""
        return f"{public_url.rstrip('/')}{PATH}{self.token(repository)}"

    def challenge(self, nonce: str) -> str:
        """Return a challenge that only a holder of the key can sign; it is sent as a token."""
        return self._challenger.sign(nonce).decode()

    def proof(self, challenge: str) -> str | None:
        """Return the response that only a holder of the key can give; None for a foreign challenge.

        A stranger receives nothing to compare a guessed key with.
        """
        known = len(challenge) <= MAX_TOKEN and challenge.isascii()
        if not known or not self._challenger.validate(challenge):
            return None
        return self._prover.get_signature(challenge).decode()

    def repository(self, token: str) -> str:
        """Return the repository that the token is valid for; raises BadLink."""
        return self.read(token)[0]

    def read(self, token: str) -> tuple[str, int]:
        """Return its repository, and the index of the key that signed it; raises BadLink."""
        known = self._known.get(token)
        if known is None:
            known = self._read(token), self._key_of(token)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[token] = known
        return known

    def _key_of(self, token: str) -> int:
        signed = (place for place, key in enumerate(self._by_key) if key.loads_unsafe(token)[0])
        return next(signed)

    def stray(self, path: str) -> BadLink | None:
        """Return what is wrong with a path that is not a link's, None if it resembles none.

        The path is one outside of PATH, or a part of one.
        """
        within = path.lower()
        for payload in self._payloads.values():
            place = within.find(payload[:MIN_ALIKE].lower())
            if place >= 0:
                owner = self._owner(path[place:].partition("/")[0])
                return BadLink(LinkFault.MISDIRECTED, "a link in a wrong place", owner)
        segments = [segment for segment in within.split("/") if segment]
        if segments and (segments[0] in {"hook", "hooks"} or "dockerhub" in within):
            return BadLink(LinkFault.MALFORMED, "a path like that of a link")
        return None

    def _owner(self, token: str) -> str | None:
        try:
            return self._read(token)
        except BadLink as error:
            return error.repository

    def _read(self, token: str) -> str:
        if not token:
            raise BadLink(LinkFault.TRUNCATED, "the token is empty")
        if len(token) > MAX_TOKEN or not token.isascii():
            raise BadLink(LinkFault.MALFORMED, "not a token of ours")
        try:
            parts = token.split(".")
            if any(base64_encode(base64_decode(part)).decode() != part for part in parts):
                raise self._damaged(token)  # the last letter has unused bits
            payload = self._serializer.loads(token)
        except (BadData, ValueError, RecursionError):
            raise self._damaged(token) from None
        match payload:
            case [str(repository), int(number)] if is_repository(repository):
                present = self._numbers.get(repository, 1)
                if number != present:
                    text = f"link {number} of {repository} is revoked, {present} is current"
                    raise BadLink(LinkFault.REVOKED, text, repository)
                return repository
            case _:
                raise BadLink(LinkFault.MALFORMED, "signed by us, but not a link")

    def _damaged(self, token: str) -> BadLink:
        """Return the error of a token that is not signed by us.

        Only the parts that are not secret are compared, not the signature.
        """
        alike = {name: _alike(token, payload) for name, payload in self._payloads.items()}
        longest = max(alike.values(), default=0)
        nearest = [name for name, letters in alike.items() if letters == longest]
        whole = min((len(self._payloads[name]) for name in nearest), default=0)
        if longest < MIN_ALIKE or longest < min(len(token), whole - NUMBER_LETTERS):
            if _names_a_repository(token):
                text = "it names a repository without a rule, and the signature does not match"
                return BadLink(LinkFault.UNKNOWN_REPOSITORY, text)
            strayed = self.stray(token[1:])
            if strayed is not None:
                return strayed
            return BadLink(LinkFault.MALFORMED, "not a token of ours")
        repository = nearest[0] if len(nearest) == 1 else None
        if len(token) < whole + 1 + SIGNATURE_LETTERS:
            return BadLink(LinkFault.TRUNCATED, "the link was cut off", repository)
        return BadLink(LinkFault.SIGNATURE, "the signature does not match", repository)


def _alike(token: str, payload: str) -> int:
    """Return the number of equal letters at the start, ignoring case."""
    pairs = zip(token.lower(), payload.lower(), strict=False)
    return next((index for index, (left, right) in enumerate(pairs) if left != right),
                min(len(token), len(payload)))  # fmt: skip


def _names_a_repository(token: str) -> bool:
    try:
        named = URLSafeSerializer("").load_payload(token.rpartition(".")[0].encode())
    except (BadData, ValueError, RecursionError):
        return False
    match named:
        case [str(repository), int()]:
            return is_repository(repository)
    return False


class ApiToken(msgspec.Struct, frozen=True):
    """A token's content. `expires_at` in epoch seconds; `repository` None for the whole API."""

    id: str
    expires_at: int
    repository: str | None = None


class ApiTokenSigner:
    """Signs and reads API tokens; keys oldest first, as for links."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._serializer = serializer_of(keys, API_SALT)

    def sign(self, token: ApiToken) -> str:
        """Return the token as text for the Authorization header."""
        return str(self._serializer.dumps(["api", token.id, token.expires_at, token.repository]))

    def read(self, text: str, now: int) -> ApiToken | None:
        """Return the content of a token; None if it is not ours or has expired.

        `now` in epoch seconds. Revocations are in the ledger.
        """
        match content_of(self._serializer, text, MAX_API_TOKEN):
            case ["api", str(identity), int(expires_at), str() | None as repository] if (
                now < expires_at
            ):
                return ApiToken(identity, expires_at, repository)
            case _:
                return None


class Approvable(msgspec.Struct, frozen=True):
    """The move of a channel to an image. `digest` is None if the registry was not asked.

    Without a digest it is the push (epoch ms) that says which image of the tag is meant.
    """

    app: str
    channel: str
    image: ImageReference
    digest: str | None
    push_time: int = 0

    def is_of(self, digest: str | None, push_time: int) -> bool:
        """Return whether the tag has the same image with this digest and push."""
        return self.digest == digest and (digest is not None or self.push_time == push_time)


class ApprovalToken(msgspec.Struct, frozen=True):
    """A token's content. `expires_at` in epoch seconds."""

    move: Approvable
    expires_at: int


class ApprovalSigner:
    """Signs and reads the tokens; keys oldest first, as for links to Docker Hub."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._serializer = serializer_of(keys, APPROVAL_SALT)

    def link(self, public_url: str, token: ApprovalToken) -> str:
        """Return the whole URL to send."""
        return f"{public_url.rstrip('/')}{APPROVAL_PATH}{self.sign(token)}"

    def sign(self, token: ApprovalToken) -> str:
        """Return the last segment of the link."""
        move = token.move
        place = [move.app, move.channel, move.image.repository, move.image.tag]
        image = [move.digest, move.push_time]
        return str(self._serializer.dumps([*place, *image, token.expires_at]))

    def read(self, text: str) -> ApprovalToken | None:
        """Return the content of a token, expired or not; None if we did not sign it."""
        match content_of(self._serializer, text, MAX_APPROVAL):
            case [
                str(app),
                str(channel),
                str(repository),
                str(tag),
                str() | None as digest,
                int(push_time),
                int(expires_at),
            ]:
                image = ImageReference(repository=repository, tag=tag)
                return ApprovalToken(Approvable(app, channel, image, digest, push_time), expires_at)
            case _:
                return None
