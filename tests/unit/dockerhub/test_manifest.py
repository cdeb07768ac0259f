"""Reading what an image is made of: right on every valid manifest, unharmed by any other."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dockerhub.manifest import (
    ACCEPTED,
    ATTESTATION,
    CONFIGS,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    OTHER_ARTIFACT,
    ConfigNeeded,
    Platforms,
    UnreadableError,
    read_config,
    read_manifest,
    read_tag_record,
)
from receiver.sandbox.dockerhub_images import Kind, build_image

SOME = ("linux/amd64", "linux/arm64", "linux/arm", "windows/amd64", "linux/s390x", "darwin/arm64")
DIGEST = f"sha256:{hashlib.sha256(b'').hexdigest()}"
UNKNOWN = {"os": "unknown", "architecture": "unknown"}

platforms = st.lists(st.sampled_from(SOME), max_size=6)
indexes = st.sampled_from([OCI_INDEX, DOCKER_LIST])
# Any JSON at all, with the words in it that the readers look for.
words = st.sampled_from(
    [
        *("mediaType", "manifests", "config", "platform", "os", "architecture", "digest"),
        *("annotations", "images", "artifactType", ATTESTATION, "unknown", "linux", "amd64"),
        *ACCEPTED,
        *sorted(CONFIGS),
        DIGEST,
    ]
)
any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(), inner),
    max_leaves=25,
)
objects = st.dictionaries(words | st.text(), any_json)


def read(body: object, media_type: str = OCI_INDEX) -> Platforms | ConfigNeeded:
    return read_manifest(media_type, json.dumps(body).encode())


def read_platforms(body: object) -> Platforms:
    found = read(body)
    assert isinstance(found, Platforms)
    return found


def split(platform: str) -> dict[str, str]:
    system, _, architecture = platform.partition("/")
    return {"os": system, "architecture": architecture}


def attestation(platform: dict[str, str]) -> dict[str, Any]:
    annotations = {ATTESTATION: "attestation-manifest"}
    return {"mediaType": OCI_MANIFEST, "platform": platform, "annotations": annotations}


@given(names=platforms, attesting=st.lists(st.sampled_from([*SOME, "unknown/unknown"])), of=indexes)
def test_an_index_is_for_the_platforms_of_its_images_and_no_attestation(
    names: list[str], attesting: list[str], of: str
) -> None:
    images = [{"mediaType": OCI_MANIFEST, "platform": split(name)} for name in names]
    rows = [attestation(split(name)) for name in attesting] + images

    found = read_platforms({"schemaVersion": 2, "mediaType": of, "manifests": rows})

    assert found.names == tuple(dict.fromkeys(names))
    assert found.runnable == ("linux/amd64" in names)


@given(media_type=indexes | st.just(f"{OCI_INDEX}; charset=utf-8") | st.text(), names=platforms)
def test_an_index_need_not_say_its_type(media_type: str, names: list[str]) -> None:
    found = read({"manifests": [{"platform": split(name)} for name in names]}, media_type)

    assert found == Platforms(tuple(dict.fromkeys(names)))


@pytest.mark.parametrize("kind", ["index", "docker-list"])
@given(names=platforms, attestations=st.booleans())
def test_what_a_registry_stores_is_read(kind: Kind, names: list[str], attestations: bool) -> None:
    image = build_image(kind, names, attestations=attestations)

    found = read_manifest(image.top.media_type, image.top.body)

    assert found == Platforms(tuple(dict.fromkeys(names)))


@pytest.mark.parametrize("kind", ["manifest", "docker-manifest"])
@given(name=st.sampled_from(SOME))
def test_a_single_image_has_its_platform_in_its_config(kind: Kind, name: str) -> None:
    image = build_image(kind, [name])

    needed = read_manifest(image.top.media_type, image.top.body)

    assert isinstance(needed, ConfigNeeded)
    assert read_config(image.blobs[needed.digest]) == Platforms((name,))


@pytest.mark.parametrize(
    ("kind", "contents"),
    [
        ("helm", "a Helm chart"),
        ("artifact", OTHER_ARTIFACT),
        ("signature", "a signature"),
        ("attestation", "an attestation"),
        ("sbom", "an SBOM"),
        ("cache", "a build cache"),
        ("cache-index", "a build cache"),
    ],
)
def test_an_artifact_is_for_no_platform_and_named(kind: Kind, contents: str) -> None:
    """Also with an image's config, as signatures have."""
    top = build_image(kind, []).top

    assert read_manifest(top.media_type, top.body) == Platforms((), contents=contents)


@pytest.mark.parametrize("layers", [[], None, [{"digest": DIGEST}], [{"mediaType": 7}, 3]])
def test_an_image_need_not_have_a_layer_that_says_its_type(layers: object) -> None:
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST}

    assert read({"config": config, "layers": layers}, OCI_MANIFEST) == ConfigNeeded(DIGEST)


@pytest.mark.parametrize(
    "architecture",
    [
        *("amd64", "amd64/v2", "amd64 ", "AMD64\n", "AMD64", "x86_64", "X86_64", "x86-64", "x64"),
        *("amd64v2", "amd64-v3", "x86_64_v3", "x86_64 / v3", "EM64T", "Intel64"),
    ],
)
@pytest.mark.parametrize("system", ["linux", "Linux", "LINUX"])
def test_every_spelling_of_linux_amd64_is_linux_amd64(system: str, architecture: str) -> None:
    row = {"os": system, "architecture": architecture, "variant": "v3"}
    expected = Platforms(("linux/amd64",))

    assert read_config(json.dumps(row).encode()) == expected
    assert read_platforms({"manifests": [{"platform": row}]}) == expected
    assert read_tag_record({"images": [row]}) == (None, expected)


@pytest.mark.parametrize("architecture", ["aarch64", "ARM64", "arm64v8x", "amd64v9", "386", "x86"])
def test_another_architecture_is_not_read_as_amd64(architecture: str) -> None:
    row = {"os": "linux", "architecture": architecture}

    assert not read_config(json.dumps(row).encode()).runnable


NOT_KNOWN: list[dict[str, Any]] = [
    {},
    {"os": "", "architecture": ""},
    {"os": None, "architecture": None},
    {"architecture": "amd64"},
    {"architecture": "x86_64", "os": ""},
    {"os": "linux", "architecture": ""},
    {"os": "Linux", "architecture": "unknown"},
    {"os": 3, "architecture": ["amd64"]},
]


@pytest.mark.parametrize("platform", NOT_KNOWN)
def test_an_image_need_not_say_its_platform(platform: dict[str, Any]) -> None:
    found = read_config(json.dumps({**platform, "rootfs": {}}).encode())

    assert (found.names, found.runnable, found.deciding) == ((), True, None)
    assert found.note.startswith("the image does not say for which platform it is built")
    entry = {"mediaType": OCI_MANIFEST, "digest": DIGEST, "platform": platform}
    assert read_platforms({"manifests": [entry]}).deciding == DIGEST
    assert read_tag_record({"images": [platform]}) == (None, None)


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ({"os": "windows"}, "windows"),
        ({"os": "", "architecture": "arm64"}, "arm64"),
        ({"os": "unknown", "architecture": "aarch64"}, "arm64"),
    ],
)
def test_half_a_platform_can_rule_edgegap_out(platform: dict[str, Any], name: str) -> None:
    assert read_config(json.dumps(platform).encode()) == Platforms((name,))
    assert read_platforms({"manifests": [{"platform": platform}]}) == Platforms((name,))
    assert read_tag_record({"images": [platform]}) == (None, None)


def test_a_record_with_an_image_that_says_too_little_is_believed_only_for_amd64() -> None:
    half = {"os": "", "architecture": "amd64"}
    with_amd64 = {"images": [split("linux/amd64"), half]}

    assert read_tag_record({"images": [split("linux/arm64"), half]}) == (None, None)
    assert read_tag_record(with_amd64) == (None, Platforms(("linux/amd64",)))


def test_a_variant_does_not_matter() -> None:
    row = {"platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}

    assert read_platforms({"manifests": [row]}).names == ("linux/arm",)


@pytest.mark.parametrize(
    ("row", "runnable"),
    [
        ({"mediaType": OCI_MANIFEST}, True),
        ({"mediaType": DOCKER_MANIFEST, "platform": None}, True),
        ({"mediaType": OCI_MANIFEST, "artifactType": "application/vnd.example.sbom"}, False),
        ({"mediaType": "application/vnd.example.chart"}, False),
        ({"mediaType": OCI_MANIFEST, "annotations": {ATTESTATION: "x"}}, False),
        ({"mediaType": OCI_MANIFEST, "platform": UNKNOWN}, False),
    ],
    ids=["image", "null", "artifact", "other type", "attestation", "unknown"],
)
def test_an_image_in_an_index_need_not_say_its_platform(
    row: dict[str, Any], *, runnable: bool
) -> None:
    found = read_platforms({"manifests": [row, {"platform": split("linux/arm64")}]})

    assert found.names == ("linux/arm64",)
    assert found.runnable is runnable


@pytest.mark.parametrize(
    ("rows", "deciding"),
    [
        ([{"digest": DIGEST}], DIGEST),
        ([{"digest": DIGEST}, {"platform": split("linux/arm64")}], DIGEST),
        ([{"digest": DIGEST}, {"platform": split("linux/amd64")}], None),
        ([{"digest": DIGEST}, {"digest": DIGEST}], None),
        ([{"digest": "../x"}], None),
        ([{"digest": [DIGEST]}], None),
        ([attestation(UNKNOWN)], None),
        ([{"digest": DIGEST, "platform": UNKNOWN}], DIGEST),
        ([{"digest": DIGEST, "platform": UNKNOWN}, attestation(UNKNOWN)], DIGEST),
        ([{"digest": DIGEST, "platform": UNKNOWN}, {"platform": split("linux/arm64")}], None),
        ([{"digest": DIGEST, "platform": UNKNOWN}] * 2, None),
        ([{"digest": "../x", "platform": UNKNOWN}], None),
    ],
)
def test_the_only_image_without_a_platform_decides(
    rows: list[dict[str, Any]], deciding: str | None
) -> None:
    assert read_platforms({"manifests": rows}).deciding == deciding


@given(content=st.binary() | objects.map(lambda body: json.dumps(body).encode()), kind=words)
def test_no_manifest_and_no_config_does_harm(content: bytes, kind: str) -> None:
    readers: list[Callable[[], Platforms | ConfigNeeded]] = [
        lambda: read_manifest(kind, content),
        lambda: read_config(content),
    ]
    for reader in readers:
        try:
            found = reader()
        except UnreadableError:
            continue
        if isinstance(found, Platforms):
            assert_harmless(found)


@given(body=objects)
def test_no_tag_record_does_harm(body: dict[str, Any]) -> None:
    digest, found = read_tag_record(body)

    assert digest in {None, DIGEST}
    if found is not None:
        assert found.names
        assert_harmless(found)


def assert_harmless(found: Platforms) -> None:
    for name in found.names:
        assert name.isascii()
        assert name.isprintable()
        assert len(name) < 70


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"mediaType": "application/vnd.oci.image.index.v1+json"}',
        b'{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": {}}',
        b'{"mediaType": ["application/vnd.oci.image.index.v1+json"], "config": {}, "x": 1',
        b'{"config": []}',
        b'{"schemaVersion": 1, "architecture": "amd64"}',
        b'{"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}}',
        b'{"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "../x"}}',
    ],
)
def test_what_is_neither_manifest_nor_index_is_said_to_be_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_manifest("text/plain", content)


def test_an_image_of_schema_1_is_named_as_one() -> None:
    """It waited for a manifest that could be read, and then became a version that runs nowhere."""
    found = read_platforms({"schemaVersion": 1, "architecture": "amd64", "fsLayers": []})

    assert not found.runnable
    assert "schema 1, which Docker no longer runs" in found.contents


@pytest.mark.parametrize("odd", [[], {}, 7, None, True])
def test_a_type_that_is_no_text_is_survived(odd: object) -> None:
    assert read({"mediaType": odd, "manifests": []}) == Platforms(())
    assert read({"mediaType": odd, "config": {"mediaType": odd}}, OCI_MANIFEST) == Platforms(())


@pytest.mark.parametrize("odd", ["\ud800", "li\nnux", "\x1b[2J", "", "a" * 33, "\uff21MD64", "a/b"])
def test_a_name_that_could_forge_a_line_or_stop_the_ledger_is_no_platform(odd: str) -> None:
    row = {"os": odd, "architecture": "amd64"}

    assert read_config(json.dumps(row).encode()).names == ()
    assert read_platforms({"manifests": [{"platform": row}]}).names == ()
    assert read_tag_record({"images": [row]}) == (None, None)


@given(names=platforms)
def test_a_tag_record_lists_the_platforms(names: list[str]) -> None:
    rows = [split(name) for name in names]
    answer = Platforms(tuple(dict.fromkeys(names))) if names else None

    assert read_tag_record({"digest": DIGEST, "images": [*rows, UNKNOWN]}) == (DIGEST, answer)


@pytest.mark.parametrize("images", [None, [], {}, "linux/amd64", [None, 3, []], [UNKNOWN], [{}]])
def test_a_tag_record_may_list_no_images(images: object) -> None:
    assert read_tag_record({"digest": None, "images": images}) == (None, None)
    assert read_tag_record({}) == (None, None)


def test_a_tag_record_may_hold_one_image_alone() -> None:
    record = {"digest": "sha256:short", "images": split("linux/amd64")}

    assert read_tag_record(record) == (None, Platforms(("linux/amd64",)))
