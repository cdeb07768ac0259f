"""Webhooks and immutable tags in the sandbox of Docker Hub's API, and webhooks that it sends."""

from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.serving import serving
from tests.support.dockerhub_client import GAME, Clock
from tests.support.receiver_process import until

WEBHOOKS = f"/v2/repositories/{GAME}/webhook_pipeline/"
RECORD = "/v2/namespaces/studio/repositories/game-server"
URL = "https://hooks.example.com/hooks/dockerhub/abc"


def body(url: str = URL, name: str = "ours") -> dict[str, object]:
    hooks = [{"name": name, "hook_url": url}]
    return {"name": name, "expect_final_callback": False, "webhooks": hooks}


@pytest.fixture
def hub(clock: Clock) -> DockerHubSandbox:
    hub = DockerHubSandbox(clock=clock, api_limit=None)
    hub.add_repository(GAME, private=True)
    hub.add_login("studio", "admin", "admin")
    hub.add_login("studio", "write", "write")
    hub.add_login("studio", "read")
    hub.add_login("stranger", "admin", "admin")
    hub.add_organization_token("studio", "organization", {GAME: ["pull", "admin"]})
    return hub


def log_in(asking: httpx.Client, username: str = "studio", *, by: str = "admin") -> None:
    body = {"identifier": username, "secret": by}
    token = asking.post("/v2/auth/token", json=body).json()["access_token"]
    asking.headers["authorization"] = f"Bearer {token}"


def test_a_webhook_is_created_listed_and_deleted(asking: httpx.Client) -> None:
    log_in(asking)

    created = asking.post(WEBHOOKS, json=body())
    again = asking.post(WEBHOOKS, json=body())
    listed = asking.get(WEBHOOKS, params={"page_size": 100}).json()
    deleted = asking.delete(f"{WEBHOOKS}{created.json()['slug']}/")

    assert (created.status_code, again.status_code, deleted.status_code) == (201, 201, 204)
    assert (listed["count"], listed["next"]) == (2, None)
    assert listed["results"][0]["webhooks"] == [{"name": "ours", "hook_url": URL}]
    assert listed["results"][0]["slug"] != listed["results"][1]["slug"]
    assert asking.get(WEBHOOKS).json()["count"] == 1
    assert asking.delete(f"{WEBHOOKS}{created.json()['slug']}/").status_code == 404


def test_the_list_has_pages(asking: httpx.Client) -> None:
    log_in(asking)
    for number in range(3):
        asking.post(WEBHOOKS, json=body(name=f"w{number}"))

    first = asking.get(WEBHOOKS, params={"page_size": 2}).json()
    second = httpx.get(first["next"], headers=asking.headers, trust_env=False).json()

    assert [row["name"] for row in (*first["results"], *second["results"])] == ["w0", "w1", "w2"]
    assert asking.get(WEBHOOKS, params={"page": 9}).status_code == 404
    assert asking.get(WEBHOOKS, params={"page": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("username", "secret", "lists", "creates"),
    [
        ("studio", "write", 200, 403),
        ("studio", "read", 200, 403),
        ("stranger", "admin", 403, 403),
        ("studio", "organization", 403, 403),
    ],
)
def test_only_an_administrator_may_create(
    asking: httpx.Client, username: str, secret: str, lists: int, creates: int
) -> None:
    log_in(asking, username, by=secret)

    assert asking.get(WEBHOOKS).status_code == lists
    assert asking.post(WEBHOOKS, json=body()).status_code == creates


def test_without_a_login_nothing_is_listed(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.add_repository(GAME)

    assert asking.get(WEBHOOKS).status_code == 401


def test_listing_may_be_for_administrators(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.webhooks_shown_to = "administrators"
    log_in(asking, by="read")

    assert asking.get(WEBHOOKS).status_code == 403


@pytest.mark.parametrize(
    "url", [f" {URL}", f"{URL}==", f"{URL}{'x' * 255}", "ftp://example.com", "https://[", "no"]
)
def test_an_invalid_address_is_refused_as_it_was_reported(asking: httpx.Client, url: str) -> None:
    log_in(asking)

    refused = asking.post(WEBHOOKS, json=body(url))

    assert refused.status_code == 400
    assert refused.json() == {"webhooks": [{"hook_url": ["Invalid value."]}]}


@pytest.mark.parametrize("content", [b"[", b"{}", b'{"name": "", "webhooks": []}'])
def test_a_body_of_another_shape_is_refused(asking: httpx.Client, content: bytes) -> None:
    log_in(asking)

    assert asking.post(WEBHOOKS, content=content).status_code == 400


def test_immutable_tags_can_be_set_and_verified(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    log_in(asking)
    hub.push_image(GAME, "v1")
    hub.push_image(GAME, "latest")
    settings = {"immutable_tags": True, "immutable_tags_rules": ["v.*"]}

    verified = asking.post(f"{RECORD}/immutabletags/verify", json={"regex": "v.*"})
    changed = asking.patch(f"{RECORD}/immutabletags", json=settings)
    record = asking.get(RECORD).json()

    assert verified.json() == {"tags": ["v1"]}
    assert changed.json()["immutable_tags_settings"] == {"enabled": True, "rules": ["v.*"]}
    assert record["immutable_tags_settings"] == {"enabled": True, "rules": ["v.*"]}
    assert record["permissions"] == {"read": True, "write": True, "admin": True}
    hub.push_image(GAME, "latest")
    with pytest.raises(ValueError, match="v1 is immutable"):
        hub.push_image(GAME, "v1")
    with pytest.raises(ValueError, match="v1 is immutable"):
        hub.delete_tag(GAME, "v1")


def test_without_rules_all_tags_are_immutable(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    log_in(asking, by="organization")
    hub.push_image(GAME, "latest")

    body = {"immutable_tags": True, "immutable_tags_rules": []}
    assert asking.patch(f"{RECORD}/immutabletags", json=body).status_code == 200
    assert hub.repositories[GAME].is_immutable("latest")


@pytest.mark.parametrize(
    ("path", "method", "sent"),
    [
        ("immutabletags", "PATCH", {"immutable_tags": True}),
        ("immutabletags", "PATCH", {"immutable_tags": "yes", "immutable_tags_rules": []}),
        ("immutabletags", "PATCH", {"immutable_tags": True, "immutable_tags_rules": ["("]}),
        ("immutabletags/verify", "POST", {"regex": "("}),
        ("immutabletags/verify", "POST", {}),
        ("immutabletags/verify", "POST", []),
    ],
)
def test_an_invalid_rule_is_refused(
    asking: httpx.Client, path: str, method: str, sent: object
) -> None:
    log_in(asking)

    refused = asking.request(method, f"{RECORD}/{path}", json=sent)

    assert refused.status_code == 400
    assert refused.json()["message"]


def test_immutable_tags_are_for_administrators(asking: httpx.Client) -> None:
    log_in(asking, by="write")

    assert asking.patch(f"{RECORD}/immutabletags", json={}).status_code == 403


@pytest.fixture
def received() -> list[dict[str, object]]:
    return []


@pytest.fixture
def target(received: list[dict[str, object]]) -> Iterator[str]:
    async def take(request: Request) -> Response:
        received.append(await request.json())
        return Response(status_code=202)

    async def elsewhere(_: Request) -> Response:
        return RedirectResponse("/taken", 307)

    routes = [Route("/taken", take, methods=["POST"]), Route("/moved", elsewhere, methods=["POST"])]
    with serving(Starlette(routes=routes)) as url:
        yield url


def test_a_push_is_reported_to_the_webhook_parts_first(
    hub: DockerHubSandbox, asking: httpx.Client, target: str, received: list[dict[str, object]]
) -> None:
    log_in(asking)
    asking.post(WEBHOOKS, json=body(f"{target}/taken"))

    hub.push_image(GAME, "1.0", attestations=True)

    (webhook,) = hub.repositories[GAME].webhooks
    until(lambda: len(webhook.statuses) == 3)
    assert webhook.statuses == [202, 202, 202]
    assert [one["push_data"]["tag"] for one in received] == ["", "", "1.0"]  # type: ignore[index]
    assert received[-1]["repository"]["repo_name"] == GAME  # type: ignore[index]


def test_redirects_are_not_followed_and_silence_is_noted(
    hub: DockerHubSandbox, asking: httpx.Client, target: str, received: list[dict[str, object]]
) -> None:
    log_in(asking)
    asking.post(WEBHOOKS, json=body(f"{target}/moved"))
    asking.post(WEBHOOKS, json=body("http://127.0.0.1:9/"))

    hub.push_image(GAME, "1.0", kind="manifest")

    moved, silent = hub.repositories[GAME].webhooks
    until(lambda: moved.statuses and silent.statuses)
    assert (moved.statuses, silent.statuses, received) == ([307], [None], [])
