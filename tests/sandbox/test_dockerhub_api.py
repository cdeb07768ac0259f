"""The Docker Hub stand-in's own API, its controls, and it alone in the foreground."""

from typing import Any

import httpx
import pytest

from receiver.sandbox.dockerhub import DockerHubSandbox
from tests.support.dockerhub_client import GAME, Clock, bearer

REPOSITORY = "/v2/namespaces/studio/repositories/game-server"
OLD = "/v2/repositories/studio/game-server"
TAGS = f"{REPOSITORY}/tags"
TAG = f"{TAGS}/1.0"


@pytest.fixture
def hub(clock: Clock) -> DockerHubSandbox:
    return DockerHubSandbox(clock=clock)


def api_bearer(asking: httpx.Client, identifier: str, secret: str) -> dict[str, str]:
    body = {"identifier": identifier, "secret": secret}
    answer = asking.post("/v2/auth/token", json=body)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def test_a_tag_is_shown_as_it_was_captured(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    platforms = ("linux/amd64", "linux/arm/v7")

    digest = hub.push_image(GAME, "1.0", platforms, attestations=True, pushed_at=1_700_000_000.5)

    shown = asking.get(TAG).json()
    assert shown == hub.record(GAME, "1.0")
    assert (shown["name"], shown["digest"], shown["tag_status"]) == ("1.0", digest, "active")
    assert shown["tag_last_pushed"] == shown["last_updated"] == "2023-11-14T22:13:20.500000Z"
    assert shown["media_type"] == "application/vnd.oci.image.index.v1+json"
    assert [(one["os"], one["architecture"], one["variant"]) for one in shown["images"]] == [
        ("linux", "amd64", None),
        ("linux", "arm", "v7"),
        ("unknown", "unknown", None),
        ("unknown", "unknown", None),
    ]
    head = asking.head(TAG)
    assert (head.status_code, head.content) == (200, b"")
    assert asking.get(f"{TAGS}/2.0").status_code == 404


@pytest.mark.parametrize(
    ("kind", "media_type", "content_type"),
    [
        ("manifest", "application/vnd.oci.image.config.v1+json", "image"),
        ("docker-manifest", "application/vnd.docker.container.image.v1+json", "image"),
        ("helm", "application/vnd.cncf.helm.config.v1+json", "helm"),
        ("artifact", "application/vnd.oci.image.manifest.v1+json", "unrecognized"),
    ],
)
def test_a_tag_says_of_what_kind_it_is(
    hub: DockerHubSandbox, asking: httpx.Client, kind: Any, media_type: str, content_type: str
) -> None:
    hub.push_image(GAME, "1.0", kind=kind)

    shown = asking.get(TAG).json()

    assert (shown["media_type"], shown["content_type"]) == (media_type, content_type)
    assert asking.get(REPOSITORY).json()["media_types"] == [media_type]


def test_a_record_may_be_odd(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.push_image(GAME, "1.0")
    (image,) = hub.record(GAME, "1.0")["images"]

    hub.alter_record(GAME, "1.0", images=image, digest=None, tag_last_pushed=None)

    shown = asking.get(TAG).json()
    assert (shown["images"]["architecture"], shown["digest"]) == ("amd64", None)
    hub.alter_record(GAME, "1.0")
    assert asking.get(TAG).json()["images"] == [image]


def test_tags_come_page_by_page_newest_first(
    hub: DockerHubSandbox, asking: httpx.Client, clock: Clock
) -> None:
    for number in range(12):
        hub.push_image(GAME, f"1.{number}", pushed_at=clock.now - number)
    hub.push_image(GAME, "1.5", pushed_at=clock.now + 1)

    first = asking.get(TAGS).json()
    second = asking.get(first["next"]).json()

    names = [row["name"] for row in first["results"] + second["results"]]
    assert names == ["1.5", *(f"1.{number}" for number in range(12) if number != 5)]
    assert (first["count"], first["previous"], second["next"]) == (12, None, None)
    assert first["next"] == f"{asking.base_url}{TAGS}?page=2&page_size=10"
    assert asking.get(second["previous"]).json() == first
    assert asking.get(TAGS, params={"page": 3}).status_code == 404
    assert asking.get(TAGS, params={"page": "x"}).status_code == 400
    assert len(asking.get(TAGS, params={"page_size": 500}).json()["results"]) == 12

    def ordered(by: str) -> list[str]:
        rows = asking.get(TAGS, params={"ordering": by, "page_size": 100}).json()["results"]
        return [row["name"] for row in rows]

    assert ordered("last_updated") == names == ordered("-last_updated")[::-1]
    hub.last_updated_means = "oldest"
    assert ordered("last_updated") == names[::-1] == ordered("-last_updated")[::-1]
    assert asking.get(TAGS).json() == first
    assert ordered("name") == sorted(names) == ordered("-name")[::-1]


def test_pages_may_lead_elsewhere_or_never_end(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.push_image(GAME, "1.0")
    hub.endless_pages, hub.next_base = True, "http://evil.example"

    page = asking.get(TAGS, params={"page": 7}).json()

    assert page["next"].startswith(f"http://evil.example{TAGS}?page=8&")
    assert [row["name"] for row in page["results"]] == ["1.0"]


def test_the_api_may_learn_of_a_push_later_than_the_registry(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    old = hub.push_image(GAME, "1.0")
    new = hub.push_image(GAME, "1.0", listed_after=None)

    head = asking.head(f"/v2/{GAME}/manifests/1.0", headers=bearer(asking))
    assert head.headers["docker-content-digest"] == new
    assert asking.get(TAG).json()["digest"] == old
    hub.settle()
    assert asking.get(TAG).json()["digest"] == new


# Who may see what


def test_private_repositories_are_for_those_who_may(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    hub.push_image(GAME, "1.0")
    hub.add_repository(GAME, private=True)
    hub.add_login("studio", "pat", "read")
    hub.add_login("studio", "public", "public-read")
    reader, public = (api_bearer(asking, "studio", secret) for secret in ("pat", "public"))

    assert asking.get(TAG).status_code == 404
    assert asking.get(TAG, headers=public).status_code == 403
    assert asking.get(TAG, headers=reader).status_code == 200
    shown = asking.get(REPOSITORY, headers=reader).json()
    assert shown["is_private"] is True
    assert shown["permissions"] == {"read": True, "write": False, "admin": False}


def test_a_bad_bearer_is_refused_even_where_none_is_needed(
    hub: DockerHubSandbox, asking: httpx.Client, clock: Clock
) -> None:
    hub.push_image(GAME, "1.0")
    hub.add_login("studio", "pat", "read")
    good = api_bearer(asking, "studio", "pat")

    for bad in [{"authorization": "Bearer pat"}, bearer(asking, "studio", "pat")]:
        assert asking.get(TAG, headers=bad).status_code == 401
    assert asking.get("/v2/", headers=good).status_code == 401
    assert asking.get(TAG, headers=good).status_code == 200
    clock.now += 600
    assert asking.get(TAG, headers=good).status_code == 401
    assert asking.get(TAG).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [({"identifier": "studio", "secret": "x"}, 401), ({"identifier": "studio"}, 400), ([], 400)],
)
def test_a_login_is_refused(asking: httpx.Client, body: object, status: int) -> None:
    assert asking.post("/v2/auth/token", json=body).status_code == status
    assert asking.post("/v2/auth/token", content=b"{").status_code == 400


def test_the_old_endpoints_take_no_organization_token(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    hub.push_image(GAME, "1.0")
    hub.add_organization_token("studio", "oat", {GAME: ["pull"]})
    organization = api_bearer(asking, "studio", "oat")

    for path in ["", "/", "/tags", "/tags/", "/tags/1.0", "/tags/1.0/"]:
        assert asking.get(f"{OLD}{path}").status_code == 200
        refused = asking.get(f"{OLD}{path}", headers=organization)
        assert refused.status_code == 403
        assert "organization access token is not allowed" in refused.text
    assert asking.get(TAG, headers=organization).status_code == 200
    assert asking.get(f"{TAGS}/", headers=organization).status_code == 404
