"""What an image is made of, read from manifests, configs and tag records. Pure.

Formats: github.com/opencontainers/image-spec, and Docker's own of before it. A multi-platform
index also lists attestations, marked by an annotation or by the platform unknown/unknown.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from receiver.images import is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
ACCEPTED = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
ATTESTATION = "vnd.docker.reference.type"
NEEDED = "linux/amd64"  # Edgegap runs nothing else

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Platforms:
    """The platforms an image is built for, as `os/architecture`; none: it is no image to run.

    `untold`: the images of an index that does not say for which platform they are, which it need
    not; each by its digest, or "" where that is not sound.
    """

    names: tuple[str, ...]
    untold: tuple[str, ...] = ()

    @property
    def runnable(self) -> bool:
        """Whether Edgegap can run it, for all that is told."""
        return NEEDED in self.names or bool(self.untold)

    @property
    def deciding(self) -> str | None:
        """The digest of the only image untold, where it decides whether Edgegap can run it."""
        only = len(self.untold) == 1 and NEEDED not in self.names
        return (self.untold[0] or None) if only else None


@dataclass(frozen=True, slots=True)
class ConfigNeeded:
    """A single image's manifest: its platform stands in the config blob of this digest."""

    digest: str


class UnreadableError(ValueError):
    """An answer that is not what its type says."""


def read_manifest(media_type: str, content: bytes) -> Platforms | ConfigNeeded:
    """Read a manifest or index; raises UnreadableError when it is neither."""
    body = _object(content)
    kind = body.get("mediaType", media_type)
    if (isinstance(kind, str) and kind in INDEXES) or isinstance(body.get("manifests"), list):
        return _platforms_of_index(body)
    config = body.get("config")
    if not isinstance(config, dict):
        raise UnreadableError("a manifest without a config")
    config_type = config.get("mediaType")
    if not isinstance(config_type, str) or config_type not in CONFIGS:
        return Platforms(())  # a chart, a signature, another artifact
    digest = config.get("digest")
    if not isinstance(digest, str) or not is_digest(digest):
        raise UnreadableError("a manifest whose config has no digest")
    return ConfigNeeded(digest)


def read_config(content: bytes) -> Platforms:
    """Read a single image's platform from its config blob."""
    name = _platform(_object(content))
    return Platforms((name,) if name is not None else ())


def read_tag_record(body: Mapping[str, Any]) -> tuple[str | None, Platforms | None]:
    """Read a tag record of Docker Hub's API: its digest, and the platforms where they are told.

    Every field may be null, and `images` a list or a single object.
    """
    digest = body.get("digest")
    images = body.get("images")
    rows = [images] if isinstance(images, dict) else images
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    names = tuple(dict.fromkeys(name for row in known if (name := _platform(row)) is not None))
    sound = digest if isinstance(digest, str) and is_digest(digest) else None
    return sound, Platforms(names) if names else None


def _platforms_of_index(body: Mapping[str, Any]) -> Platforms:
    rows = body.get("manifests")
    if not isinstance(rows, list):
        raise UnreadableError("an index without manifests")
    names: dict[str, None] = {}
    untold: list[str] = []
    for row in rows:
        if not isinstance(row, dict):
            continue
        annotations = row.get("annotations")
        attests = isinstance(annotations, dict) and ATTESTATION in annotations
        platform = row.get("platform")
        name = _platform(platform) if isinstance(platform, dict) else None
        if name is not None and not attests:
            names[name] = None
        image = row.get("mediaType") in (*ACCEPTED, None) and "artifactType" not in row
        if platform is None and image and not attests:
            digest = row.get("digest")
            untold.append(digest if isinstance(digest, str) and is_digest(digest) else "")
    return Platforms(tuple(names), tuple(untold))


def _platform(record: Mapping[str, Any]) -> str | None:
    system, architecture = record.get("os"), record.get("architecture")
    if not isinstance(system, str) or not isinstance(architecture, str):
        return None
    if "unknown" in {system, architecture}:
        return None
    if not _NAME.fullmatch(system) or not _NAME.fullmatch(architecture):
        return None
    return f"{system}/{architecture}"


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableError("not JSON") from None
    if not isinstance(body, dict):
        raise UnreadableError("not an object")
    return body
