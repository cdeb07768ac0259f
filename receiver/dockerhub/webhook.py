"""Docker Hub's webhook body, read as a push.

Docker documents only an example (docs.docker.com/docker-hub/repos/manage/webhooks); the fields
of real bodies are from captures of 2014 to 2026. `callback_url` is never read: Docker calls it a
legacy field, and anyone with the link could choose it.
"""

import json
import re

import msgspec

from receiver.dockerhub.manifest import ACCEPTED, CONFIGS
from receiver.errors import BadBody
from receiver.images import OFFICIAL, is_repository, is_tag
from receiver.reasons import Reason, explain
from receiver.timestamps import read_http_date, read_iso

FIRST_SECOND = 1_356_998_400  # 2013-01-01, the year Docker Hub began
LAST_SECOND = 4_102_444_800  # 2100-01-01
MAX_NAME = 255
MAX_SHOWN = 80

IMAGE_MEDIA_TYPES = CONFIGS.union(ACCEPTED)
# Of a test push: every receiver ignores what is not an image, whatever its rules say.
TEST_MEDIA_TYPE = "application/vnd.edgegap-receiver.test-push"
TEST_TAG = "receiver-test-push"
HELM_PREFIX = "application/vnd.cncf.helm."

# Cosign's signature tags and the referrers fallback tag of the OCI distribution spec.
_ARTIFACT_TAG = re.compile(
    r"sha(?:256|512)-[0-9a-fA-F]{32,128}(?P<suffix>[._-][A-Za-z0-9._-]*)?", re.ASCII
)
_ARTIFACTS = {".sig": Reason.SIGNATURE, ".att": Reason.ATTESTATION, ".sbom": Reason.SBOM}
# In JSON, in JSON within text, and in a form; the value may be cut off.
_CALLBACK = re.compile(
    r"""(callback_url(?:\\?["']|%22)?\s*(?:[:=]|%3A)\s*)("(?:[^"\\]|\\.)*"?|[^\s,&}\]]*)""",
    re.IGNORECASE,
)
_UNSTORABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # not allowed in a database or log line
_BUILD_CACHE_TAG = re.compile(r"buildcache|.*-buildcache|cache-.*", re.ASCII)


class Push(msgspec.Struct, frozen=True):
    """A report that a tag was pushed to a repository.

    `tag` is None for the untagged parts of a multi-platform push. `pushed_at` is Docker Hub's
    time in epoch milliseconds, None if it gave no usable time. A webhook contains no `digest`.
    """

    repository: str
    tag: str | None
    media_type: str | None = None
    pusher: str | None = None
    pushed_at: int | None = None
    digest: str | None = None


class _PushData(msgspec.Struct):
    """Only the needed fields are decoded; descriptions and dockerfiles are skipped."""

    tag: object = None
    pushed_at: object = None
    pusher: object = None
    media_type: object = None


class _Repository(msgspec.Struct):
    repo_name: object = None
    namespace: object = None
    name: object = None


class _Body(msgspec.Struct):
    push_data: _PushData | None = None
    repository: _Repository | None = None


_decode = msgspec.json.Decoder(_Body).decode


def start_of_body(body: bytes) -> str:
    """Return the beginning of any body as text, without the value of `callback_url`."""
    text = _CALLBACK.sub(_without_value, body.decode("utf-8", "replace"))
    return _UNSTORABLE.sub(" ", text)


def _without_value(found: re.Match[str]) -> str:
    """Return the key of a `callback_url` and a mark, so that JSON remains JSON."""
    return f'{found[1]}"…"' if found[2].startswith('"') else f"{found[1]}…"


def read_push(body: bytes) -> Push:
    """Read a webhook body, whatever its Content-Type; raises BadBody with the reason."""
    outer = _read(body)
    data, names = outer.push_data, outer.repository
    if data is None or names is None:
        raise _bad(Reason.BAD_SHAPE, f"it has no {'push_data' if data is None else 'repository'}")
    return Push(
        repository=_repository(names),
        tag=_tag(data.tag),
        media_type=_media_type(data.media_type),
        pusher=_pusher(data.pusher),
        pushed_at=milliseconds(data.pushed_at),
    )


def _read(body: bytes) -> _Body:
    """Decode with msgspec; if it refuses the body, decode with the lenient standard library.

    A NaN or a number that is too large in `pushed_at` then loses no push.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    try:
        return msgspec.convert(json.loads(body, parse_int=_number, parse_float=_number), _Body)
    except msgspec.ValidationError as error:
        raise _bad(Reason.BAD_SHAPE, str(error)) from None
    except (ValueError, RecursionError):
        raise _bad(Reason.BAD_JSON) from None


def _number(digits: str) -> float:
    return float(digits[:MAX_NAME])


def skip_reason(push: Push) -> Reason | None:
    """Return why the push is not an image, regardless of the rules; None if it is."""
    if push.media_type == TEST_MEDIA_TYPE:
        return Reason.TEST_PUSH
    if push.tag is None:
        return Reason.NO_TAG
    if push.media_type is not None and push.media_type not in IMAGE_MEDIA_TYPES:
        helm = push.media_type.startswith(HELM_PREFIX)
        return Reason.HELM_CHART if helm else Reason.NOT_AN_IMAGE
    return None


def body_of_test_push(repository: str, pushed_at: int) -> dict[str, object]:
    """Return a body in Docker's documented form that registers nothing. `pushed_at` in seconds."""
    namespace, _, name = repository.partition("/")
    return {
        "callback_url": "",
        "push_data": {
            "pushed_at": pushed_at,
            "pusher": "receiver",
            "tag": TEST_TAG,
            "media_type": TEST_MEDIA_TYPE,
        },
        "repository": {
            "name": name,
            "namespace": namespace,
            "owner": namespace,
            "repo_name": repository,
            "repo_url": f"https://hub.docker.com/r/{repository}",
            "status": "Active",
        },
    }


def named_as_artifact(tag: str) -> Reason | None:
    """Return the artifact that a tag of this name usually contains; None for other names.

    It is a guess: a branch may be called `cache-fix-42`.
    """
    artifact = _ARTIFACT_TAG.fullmatch(tag)
    if artifact is not None:
        return _ARTIFACTS.get(artifact["suffix"] or "", Reason.REFERRERS)
    return Reason.BUILD_CACHE if _BUILD_CACHE_TAG.fullmatch(tag) is not None else None


def _bad(reason: Reason, detail: str = "") -> BadBody:
    return BadBody(reason, explain(reason, detail=detail))


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return repr(text[:MAX_SHOWN]) if isinstance(value, str) else f"of type {text}"


def _text(value: object, field: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _bad(Reason.BAD_REPOSITORY, f"{field} is {_shown(value)}, not text")
    return value


def _repository(names: _Repository) -> str:
    full = _text(names.repo_name, "repo_name")
    namespace = _text(names.namespace, "namespace")
    name = _text(names.name, "name")
    if full is None:
        if namespace is None or name is None:
            raise _bad(Reason.BAD_REPOSITORY, "neither repo_name nor namespace and name are given")
        full = f"{namespace}/{name}"
    elif "/" not in full:  # an official image: repo_name "busybox", namespace "library"
        full = f"{namespace or OFFICIAL}/{full}"
    if not is_repository(full):
        raise _bad(Reason.BAD_REPOSITORY, f"{_shown(full)} is not group/project in lower case")
    group, _, project = full.partition("/")
    if namespace not in {None, group} or name not in {None, project}:
        raise _bad(Reason.BAD_REPOSITORY, "repo_name and namespace/name disagree")
    return full


def _tag(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not is_tag(value):
        raise _bad(Reason.BAD_TAG, _shown(value))
    return value


def _media_type(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_NAME or _UNSTORABLE.search(value):
        raise _bad(Reason.BAD_SHAPE, "media_type is not a media type")
    return value.partition(";")[0].strip().lower() or None


def _pusher(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value[:MAX_NAME])


def milliseconds(value: object) -> int | None:
    """Return a time in epoch ms: seconds, milliseconds, each also as text, ISO 8601, HTTP date.

    None for times outside Docker Hub's existence.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text[:MAX_NAME])
        except ValueError:
            value = (read_iso(text) or read_http_date(text) or 0) / 1000
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    found = value if value >= LAST_SECOND else value * 1000
    return round(found) if FIRST_SECOND * 1000 <= found < LAST_SECOND * 1000 else None
