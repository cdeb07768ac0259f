"""Images as a registry stores them: real manifests and blobs with real digests."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal[
    "index", "docker-list", "manifest", "docker-manifest", "helm", "artifact", "signature",
    "attestation", "sbom", "cache", "cache-index",
]  # fmt: skip

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_IN_TOTO = "application/vnd.in-toto+json"
_HELM_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_COSIGN_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
_COSIGN_ATTESTATION = "application/vnd.dsse.envelope.v1+json"
_SBOM_LAYER = "text/spdx+json"
_NO_PLATFORM = {"architecture": "", "os": ""}
_UNKNOWN = {"architecture": "unknown", "os": "unknown"}

_builds = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The bytes of a manifest or index, and its media type."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        """The sha256 digest of the bytes."""
        return digest_of(self.body)


@dataclass(frozen=True, slots=True)
class Part:
    """One image or attestation of a push, as Docker Hub shows it in a tag's `images`."""

    digest: str
    size: int
    os: str
    architecture: str
    variant: str | None = None


@dataclass(slots=True)
class Image:
    """All objects of one push. `shown_as` is the media type that Docker Hub shows."""

    top: Manifest
    shown_as: str
    content_type: str = "image"
    manifests: dict[str, Manifest] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)


def digest_of(content: bytes) -> str:
    """Return the digest of content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def raw_image(body: bytes, media_type: str) -> Image:
    """Return an image whose manifest is any bytes."""
    top = Manifest(media_type, body)
    return Image(top, media_type, manifests={top.digest: top})


def build_image(
    kind: Kind,
    platforms: Sequence[str],
    *,
    attestations: bool = False,
    build: str | None = None,
    padding: int = 0,
) -> Image:
    """Build an image for platforms such as `linux/arm64/v8`.

    Each call builds a new image, unless `build` is the same. An index may have no platforms, or
    only attestations; a single image has the first platform and no attestations. `/amd64` is a
    platform without OS, `/` a platform without either. `padding` makes the manifest longer by
    that number of bytes.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"no such kind of image: {kind}")
    return _Builder(build or f"build-{next(_builds)}", padding).make(kind, platforms, attestations)


class _Builder:
    def __init__(self, build: str, padding: int) -> None:
        self._build = build
        self._filler = {"annotations": {"org.example.filler": "x" * padding}} if padding else {}
        self._manifests: dict[str, Manifest] = {}
        self._blobs: dict[str, bytes] = {}
        self._parts: list[Part] = []

    def make(self, kind: Kind, platforms: Sequence[str], attestations: bool) -> Image:
        content_type = "image"
        if kind in {"index", "docker-list"}:
            top = self._index(kind == "docker-list", platforms, attestations)
            shown_as = top.media_type
        elif kind in {"manifest", "docker-manifest"}:
            docker = kind == "docker-manifest"
            top = self._platform_image(_platform(platforms[0]), docker, self._filler)
            shown_as = DOCKER_CONFIG if docker else OCI_CONFIG
        else:
            top, shown_as = self._artifact(kind)
            content_type = {"helm": "helm", "cache-index": "image"}.get(kind, "unrecognized")
        return Image(top, shown_as, content_type, self._manifests, self._blobs, self._parts)

    def _index(self, docker: bool, platforms: Sequence[str], attestations: bool) -> Manifest:
        entries: list[dict[str, Any]] = []
        parsed = [_platform(text) for text in platforms]
        images = [self._platform_image(platform, docker, {}) for platform in parsed]
        for platform, image in zip(parsed, images, strict=True):
            entries.append({**_descriptor(image.media_type, image.body), "platform": platform})
        if attestations:
            # Without a platform it refers to a missing image, as after a bad prune.
            subjects = [image.digest for image in images] or [digest_of(b"")]
            entries += [self._attestation(digest) for digest in subjects]
        media_type = DOCKER_LIST if docker else OCI_INDEX
        return self._manifest(media_type, {"manifests": entries, **self._filler})

    def _attestation(self, subject: str) -> dict[str, Any]:
        statement = {"_type": "https://in-toto.io/Statement/v0.1", "subject": subject}
        config = {**_UNKNOWN, "config": {}, "rootfs": {"type": "layers", "diff_ids": [subject]}}
        manifest = self._manifest(
            OCI_MANIFEST,
            {"config": self._blob(OCI_CONFIG, config), "layers": [self._blob(_IN_TOTO, statement)]},
        )
        self._note(manifest, _UNKNOWN)
        return {
            **_descriptor(manifest.media_type, manifest.body),
            "annotations": {
                "vnd.docker.reference.digest": subject,
                "vnd.docker.reference.type": "attestation-manifest",
            },
            "platform": _UNKNOWN,
        }

    def _platform_image(
        self, platform: dict[str, str], docker: bool, filler: dict[str, Any]
    ) -> Manifest:
        layer = f"the game of {self._build} for {platform}"
        rootfs = {"type": "layers", "diff_ids": [digest_of(layer.encode())]}
        history = [{"created_by": f"COPY game / # {self._build}"}]
        config = {**platform, "config": {"Cmd": ["/game"]}, "rootfs": rootfs, "history": history}
        manifest = self._manifest(
            DOCKER_MANIFEST if docker else OCI_MANIFEST,
            {
                "config": self._blob(DOCKER_CONFIG if docker else OCI_CONFIG, config),
                "layers": [self._blob(_DOCKER_LAYER if docker else _LAYER, layer)],
                **filler,
            },
        )
        self._note(manifest, platform)
        return manifest

    def _artifact(self, kind: Kind) -> tuple[Manifest, str]:
        """Build an artifact that looks like an OCI image except for its config or layers."""
        config_type, layer_type, config = {
            "helm": (HELM_CONFIG, _HELM_LAYER, {"name": "game", "version": self._build}),
            "signature": (OCI_CONFIG, _COSIGN_LAYER, _NO_PLATFORM),
            "attestation": (OCI_CONFIG, _COSIGN_ATTESTATION, _NO_PLATFORM),
            "sbom": (OCI_CONFIG, _SBOM_LAYER, _NO_PLATFORM),
            "cache": (CACHE_CONFIG, _LAYER, {"layers": [], "records": []}),
            "cache-index": (CACHE_CONFIG, _LAYER, {"layers": [], "records": []}),
        }.get(kind, (EMPTY_CONFIG, "text/plain", {}))
        typed = {"artifactType": "application/vnd.example.notes"} if kind == "artifact" else {}
        layers = [self._blob(layer_type, f"{kind} of {self._build}")]
        stored = self._blob(config_type, config)
        if kind == "cache-index":  # BuildKit's older form: the blobs themselves are listed
            index = self._manifest(OCI_INDEX, {"manifests": [*layers, stored], **self._filler})
            return index, OCI_INDEX
        body = {**typed, "config": stored, "layers": layers}
        manifest = self._manifest(OCI_MANIFEST, {**body, **self._filler})
        self._note(manifest, _UNKNOWN)
        return manifest, HELM_CONFIG if kind == "helm" else OCI_MANIFEST

    def _manifest(self, media_type: str, fields: dict[str, Any]) -> Manifest:
        body = _bytes({"schemaVersion": 2, "mediaType": media_type, **fields})
        manifest = Manifest(media_type, body)
        self._manifests[manifest.digest] = manifest
        return manifest

    def _blob(self, media_type: str, content: object) -> dict[str, Any]:
        stored = _bytes(content)
        self._blobs[digest_of(stored)] = stored
        return _descriptor(media_type, stored)

    def _note(self, manifest: Manifest, platform: dict[str, str]) -> None:
        self._parts.append(Part(digest=manifest.digest, size=len(manifest.body), **platform))


def _platform(text: str) -> dict[str, str]:
    names = ("os", "architecture", "variant")
    parts = text.split("/")
    if len(parts) not in {2, 3}:
        raise ValueError(f"no such platform: {text}")
    return dict(zip(names, parts, strict=False))


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _bytes(content: object) -> bytes:
    return content.encode() if isinstance(content, str) else json.dumps(content).encode()
