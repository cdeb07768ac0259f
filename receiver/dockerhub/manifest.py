"""Parse manifests, configs and tag records: what a tag contains. Pure.

Formats: github.com/opencontainers/image-spec, and Docker's older formats. A multi-platform
index also lists attestations, marked by an annotation or by the platform unknown/unknown.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

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
LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
ATTESTATION = "vnd.docker.reference.type"
OS, ARCHITECTURE = "linux", "amd64"
NEEDED = f"{OS}/{ARCHITECTURE}"  # Edgegap runs nothing else
OTHER_ARTIFACT = "only attestations or another artifact"
SCHEMA_1 = "an image of manifest schema 1, which Docker no longer runs"

# Artifacts that are stored in registries like images, by the media type of a config or layer.
_ARTIFACTS: Mapping[str, str] = {
    "application/vnd.buildkit.": "a build cache",
    "application/vnd.cncf.helm.": "a Helm chart",
    "application/vnd.dev.cosign.simplesigning.": "a signature",
    "application/vnd.dev.sigstore.bundle": "a signature",
    "application/vnd.cncf.notary.signature": "a signature",
    "application/vnd.dsse.envelope.": "an attestation",
    "application/vnd.in-toto": "an attestation",
    "application/vnd.cyclonedx": "an SBOM",
    "application/vnd.syft": "an SBOM",
    "application/spdx": "an SBOM",
    "text/spdx": "an SBOM",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
# Spellings of one architecture, as containerd normalizes them (platforms/database.go), and with
# the level of GOAMD64.
_AMD64 = re.compile(r"(?:amd64|x86[-_]64|x64|intel64|em64t)(?:[-_]?v[1-4])?", re.ASCII)
_VARIANT = re.compile(r"\s*/\s*v[0-9]+$", re.ASCII)
_ARCHITECTURES = {"aarch64": "arm64", "i386": "386", "i686": "386", "x86": "386"}


class Platforms(msgspec.Struct, frozen=True):
    """The platforms an image is built for, as `os/architecture`.

    A name without a slash is either the OS or the architecture. `unspecified`: the images with no
    platform, which is optional: each by its digest, or "" if it has none. If both are empty, the
    tag is not an image; `contents` is then the type of its content.
    """

    names: tuple[str, ...]
    unspecified: tuple[str, ...] = ()
    contents: str = OTHER_ARTIFACT

    @property
    def runnable(self) -> bool:
        """Whether Edgegap can run the image, as far as is known."""
        return NEEDED in self.names or bool(self.unspecified)

    @property
    def deciding(self) -> str | None:
        """The digest of the only image without a platform, if it decides whether to register."""
        only = len(self.unspecified) == 1 and NEEDED not in self.names
        return (self.unspecified[0] or None) if only else None

    @property
    def note(self) -> str:
        """The note about the platform for a version with this image."""
        names = ", ".join(self.names)
        if NEEDED in self.names:
            return f"built for {names}"
        unknown = "the image does not say for which platform it is built"
        return f"{unknown}; Edgegap runs {NEEDED} only" + (f" (others: {names})" if names else "")


class ConfigNeeded(msgspec.Struct, frozen=True):
    """A single image's manifest: its platform is in the config blob with this digest."""

    digest: str


class UnreadableError(ValueError):
    """A response that does not match its type."""


def read_manifest(media_type: str, content: bytes) -> Platforms | ConfigNeeded:
    """Read a manifest or index; raises UnreadableError if it is neither.

    Signatures, attestations and SBOMs may have an image's config: only their layers differ.
    """
    body = _object(content)
    if isinstance(body.get("fsLayers"), list):
        return Platforms((), contents=SCHEMA_1)
    kind = body.get("mediaType", media_type)
    if (isinstance(kind, str) and kind in INDEXES) or isinstance(body.get("manifests"), list):
        return _platforms_of_index(body)
    config = body.get("config")
    if not isinstance(config, dict):
        raise UnreadableError("a manifest without a config")
    types = [config.get("mediaType"), *_media_types(body.get("layers"))]
    config_type, layers = types[0], types[1:]
    runnable = not layers or any(
        not isinstance(layer, str) or layer.startswith(LAYERS) for layer in layers
    )
    if not isinstance(config_type, str) or config_type not in CONFIGS or not runnable:
        return Platforms((), contents=_artifact(types))
    digest = _digest(config)
    if digest is None:
        raise UnreadableError("a manifest whose config has no digest")
    return ConfigNeeded(digest)


def read_config(content: bytes) -> Platforms:
    """Read a single image's platform from its config blob."""
    name = _platform(_object(content))
    return Platforms((name,)) if name else Platforms((), unspecified=("",))


def read_tag_record(body: Mapping[str, Any]) -> tuple[str | None, Platforms | None]:
    """Read a tag record of Docker Hub's API: its digest, and the platforms if all are given.

    Every field may be null, `os` empty, and `images` a list or a single object. A record without
    linux/amd64 decides only if it is complete: otherwise the registry is read.
    """
    found = [_platform(row) for row in images_of(body) if not _is_attestation(row)]
    names = tuple(dict.fromkeys(name for name in found if "/" in name))
    complete = NEEDED in names or len(names) == len(set(found))
    return _digest(body), Platforms(names) if names and complete else None


def image_size(body: Mapping[str, Any]) -> int | None:
    """Return the compressed size of the image for linux/amd64, or of the only one; None if unknown.

    Of several for linux/amd64, such as those for v1 and v3, it is the smallest.
    """
    rows = [row for row in images_of(body) if not _is_attestation(row)]
    fitting = [row for row in rows if _platform(row) == NEEDED] or rows
    sizes = [size for row in fitting if type(size := row.get("size")) is int and size > 0]
    alone = len(rows) == 1 or fitting is not rows
    return min(sizes) if alone and len(sizes) == len(fitting) and sizes else None


def images_of(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the `images` of a tag record: a list, or a single object as in Docker's document."""
    images = body.get("images")
    rows = [images] if isinstance(images, dict) else images
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _platforms_of_index(body: Mapping[str, Any]) -> Platforms:
    rows = body.get("manifests")
    if not isinstance(rows, list):
        raise UnreadableError("an index without manifests")
    names: dict[str, None] = {}
    unspecified: list[str] = []
    unknown: list[str] = []
    for row in rows:
        if not isinstance(row, dict):
            continue
        annotations, platform, digest = row.get("annotations"), row.get("platform"), _digest(row)
        if isinstance(annotations, dict) and ATTESTATION in annotations:
            continue
        given = platform if isinstance(platform, dict) else {}
        if _is_attestation(given):
            unknown += [digest] if digest is not None else []
            continue
        name = _platform(given)
        image = row.get("mediaType") in (*ACCEPTED, None) and "artifactType" not in row
        if name:
            names[name] = None
        elif image:
            unspecified.append(digest or "")
    if not names and not unspecified and len(unknown) == 1:
        unspecified = unknown  # no attestation is alone: its own manifest decides
    return Platforms(tuple(names), tuple(unspecified), contents=_artifact(_media_types(rows)))


def _media_types(rows: object) -> list[object]:
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [row.get("mediaType") for row in known]


def _artifact(media_types: list[object]) -> str:
    """Return what a manifest with these media types contains if it is not an image."""
    texts = [media_type for media_type in media_types if isinstance(media_type, str)]
    found = (
        what
        for prefix, what in _ARTIFACTS.items()
        if any(text.startswith(prefix) for text in texts)
    )
    return next(found, OTHER_ARTIFACT)


def _platform(record: Mapping[str, Any]) -> str:
    """Return `os/architecture`; one of them if it alone excludes Edgegap; "" if not known."""
    system = _word(record.get("os"))
    given = record.get("architecture")
    architecture = _word(_VARIANT.sub("", given.strip()) if isinstance(given, str) else given)
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if _AMD64.fullmatch(architecture):
        architecture = ARCHITECTURE
    if system and architecture:
        return f"{system}/{architecture}"
    half = system or architecture
    return "" if half in {OS, ARCHITECTURE} else half


def _digest(record: Mapping[str, Any]) -> str | None:
    digest = record.get("digest")
    return digest if isinstance(digest, str) and is_digest(digest) else None


def _is_attestation(record: Mapping[str, Any]) -> bool:
    return (record.get("os"), record.get("architecture")) == ("unknown", "unknown")


def _word(value: object) -> str:
    """Return a name in lower case, "" if it is not valid or not known."""
    name = value.strip().lower() if isinstance(value, str) else ""
    return name if _NAME.fullmatch(name) and name != "unknown" else ""


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableError("not JSON") from None
    if not isinstance(body, dict):
        raise UnreadableError("not an object")
    return body
