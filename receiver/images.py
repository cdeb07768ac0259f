"""Images: their names and sizes, read and written as Docker does, and the login to pull them.

The grammar of names is that of the distribution project (github.com/distribution/reference,
regexp.go), narrowed to Docker Hub's form: exactly `group/project`. ASCII only, whole strings only.
Sizes are in decimal units.
"""

import re
from functools import lru_cache

import msgspec

from receiver.errors import BadImageReference
from receiver.secret import Secret

DOCKER_HUB = "docker.io"
HUB_ALIASES = frozenset(
    {DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)
_AS_URL = re.compile(r"(?:https?://)?([a-z0-9.-]+?)\.?(?::443)?/*(?:v[12]/*)?", re.ASCII)
OFFICIAL = "library"
MAX_REPOSITORY = 255

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
REPOSITORY = f"{_COMPONENT}/{_COMPONENT}"
_REPOSITORY = re.compile(REPOSITORY, re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


SIZE = r"[0-9]{1,6}(?:\.[0-9]{1,3})? ?(?:MB|GB)"
_SIZE = re.compile(r"(?P<whole>[0-9]{1,6})(?:\.(?P<rest>[0-9]{1,3}))? ?(?P<unit>MB|GB)")
_DIGITS = {"MB": 6, "GB": 9}
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
TENTHS = 10
LOGIN_VARIABLES = "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"


class ImageReference(msgspec.Struct, frozen=True):
    """One image on Docker Hub: `group/project` and the tag."""

    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{DOCKER_HUB}/{self.repository}:{self.tag}"


def is_docker_hub(registry: object) -> bool:
    """Return whether a version's registry is Docker Hub, by its name or one of its URLs.

    Docker's own logins are stored under `https://index.docker.io/v1/`, and copied from there.
    """
    if not isinstance(registry, str):
        return False
    found = _AS_URL.fullmatch(registry.strip().lower())
    return found is not None and found[1] in {*HUB_ALIASES, "hub.docker.com"}


@lru_cache(maxsize=1024)
def is_repository(text: str) -> bool:
    """Return whether the text is a well-formed `group/project`."""
    return len(text) <= MAX_REPOSITORY and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Return whether the text is a well-formed tag (at most 128 characters)."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Return whether the text is a well-formed sha256 digest."""
    return _DIGEST.fullmatch(text) is not None


def parse_image_reference(text: str) -> ImageReference:
    """Read `[docker.io/]group/project:tag` as a person types it.

    Raises BadImageReference, which names the wrong part: another registry, no tag, a digest,
    more or fewer than two path parts, or letters the registry does not allow.
    """
    name, at, _ = text.partition("@")
    if at:
        raise BadImageReference(
            f"{text!r} contains a digest: Edgegap accepts only a tag, as group/project:tag"
        )
    head, slash, rest = name.partition("/")
    if slash and (head == "localhost" or any(c in head for c in ".:") or head != head.lower()):
        if head not in HUB_ALIASES:
            raise BadImageReference(
                f"{text!r} is on the registry {head!r}: only Docker Hub is supported"
            )
        name = rest
    path, colon, tag = name.partition(":")
    if not colon:
        raise BadImageReference(f"{text!r} has no tag: write it as group/project:tag")
    if "/" not in path:
        path = f"{OFFICIAL}/{path}"
    if not is_repository(path):
        raise BadImageReference(
            f"{path!r} is not a Docker Hub repository: use two parts of lower-case letters, digits "
            "and . _ -"
        )
    if not is_tag(tag):
        raise BadImageReference(
            f"{tag!r} is not a tag: use at most 128 letters, digits and _ . -, not . or - first"
        )
    return ImageReference(repository=path, tag=tag)


def read_size(text: object) -> int | None:
    """Return a size such as `4GB`, `1.5 GB` or `800MB` in bytes; None for any other text."""
    found = _SIZE.fullmatch(text.strip() if isinstance(text, str) else "")
    if found is None:
        return None
    return int(found["whole"] + (found["rest"] or "").ljust(_DIGITS[found["unit"]], "0")) or None


def size_text(size: int) -> str:
    """Return a size in bytes as `1.9 GB`."""
    unit, name = next((one for one in _UNITS if size >= one[0]), (1, "bytes"))
    tenths = (size * TENTHS + unit // 2) // unit if unit > 1 else size * TENTHS
    whole, rest = divmod(tenths, TENTHS)
    return f"{whole}.{rest} {name}" if rest and whole < TENTHS * TENTHS else f"{whole} {name}"


def size_note(size: int, before: tuple[str, int] | None) -> str:
    """Return the note about the size; `before` is the previous version's name and size."""
    text = f"the image has {size_text(size)}, compressed"
    if before is None or before[1] <= 0:
        return text
    name, earlier = before
    percent = round(abs(size - earlier) * 100 / earlier)
    if percent == 0:
        return f"{text}, as {name} has"
    return f"{text}, {percent} % {'more' if size > earlier else 'less'} than {name}"


class Login(msgspec.Struct, frozen=True):
    """The Docker Hub login that we check an image with, and Edgegap pulls it with.

    `variables`: the names of its variables, for messages.
    """

    username: str
    token: Secret
    variables: str = LOGIN_VARIABLES


def variables_of(login: Login | None) -> str:
    """Return the names of the variables that hold the login, or that would."""
    return LOGIN_VARIABLES if login is None else login.variables
