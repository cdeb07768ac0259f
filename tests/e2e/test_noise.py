"""What Docker Hub reports that is not an image: known by media type and by tag."""

import json
from typing import Any

import pytest

from receiver.dockerhub.webhook import Push, named_as_artifact, read_push, skip_reason
from receiver.reasons import Reason


def pushed(**push_data: Any) -> Push:
    body = {"push_data": {"tag": "1.0", **push_data}, "repository": {"repo_name": "a/b"}}
    return read_push(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("media_type", "reason"),
    [
        (None, None),
        ("", None),
        ("application/vnd.oci.image.index.v1+json", None),
        ("application/vnd.oci.image.manifest.v1+json", None),
        ("application/vnd.oci.image.config.v1+json", None),
        ("application/vnd.docker.distribution.manifest.list.v2+json", None),
        ("application/vnd.docker.distribution.manifest.v2+json", None),
        ("application/vnd.docker.container.image.v1+json", None),
        ("Application/VND.OCI.Image.Index.v1+json; charset=utf-8", None),
        ("application/vnd.cncf.helm.config.v1+json", Reason.HELM_CHART),
        ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", Reason.HELM_CHART),
        ("application/vnd.docker.plugin.v1+json", Reason.NOT_AN_IMAGE),
        ("application/vnd.oci.image.index.v1+jsonx", Reason.NOT_AN_IMAGE),
        ("text/html", Reason.NOT_AN_IMAGE),
    ],
)
def test_only_the_six_image_types_and_none_are_images(
    media_type: str | None, reason: Reason | None
) -> None:
    assert skip_reason(pushed(media_type=media_type)) is reason


HEX = "97fc222cee7991b5b061d4d4afdb5f3428fcb0c9054e1690313786befa1e4e36"


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        (f"sha256-{HEX}.sig", Reason.SIGNATURE),
        (f"sha256-{HEX}.att", Reason.ATTESTATION),
        (f"sha256-{HEX}.sbom", Reason.SBOM),
        (f"sha256-{HEX}", Reason.REFERRERS),
        (f"sha512-{HEX}", Reason.REFERRERS),
        (f"sha256-{HEX}.cosign", Reason.REFERRERS),
        ("buildcache", Reason.BUILD_CACHE),
        ("main-buildcache", Reason.BUILD_CACHE),
        ("cache-linux-amd64", Reason.BUILD_CACHE),
        (f"sha256-{HEX}-bundle", Reason.REFERRERS),
        ("sha256-game", None),
        ("sha256-" + "A" * 64, Reason.REFERRERS),
        ("sha-97fc222", None),
        ("buildcache2", None),
        ("cached", None),
        ("BuildCache", None),
        ("1.0.sig", None),
    ],
)
def test_the_usual_names_of_artifacts_are_known(tag: str, reason: Reason | None) -> None:
    assert named_as_artifact(tag) is reason
    assert skip_reason(pushed(tag=tag)) is None


def test_no_tag_comes_first_whatever_the_media_type() -> None:
    push = pushed(tag="", media_type="application/vnd.cncf.helm.config.v1+json")

    assert skip_reason(push) is Reason.NO_TAG
