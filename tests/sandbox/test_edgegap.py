"""The Edgegap stand-in, over real HTTP: a quirk that it gets wrong is a bug that we then ship."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from receiver.sandbox.calls import FAULT_HEADER, Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_quirks import ListQuirks, Quirks
from receiver.sandbox.serving import serving
from tests.contract.openapi import check_request, check_response, contract_checked

AUTHORIZATION = {"authorization": "token sandbox-token"}
VERSIONS = "/v1/app/my-game/versions"
VERSION = "/v1/app/my-game/version"


def body(**changes: Any) -> dict[str, Any]:
    """A version that Edgegap takes; a change to None leaves the field out."""
    whole = {
        "name": "1.0",
        "docker_repository": "docker.io",
        "docker_image": "studio/game-server",
        "docker_tag": "1.0",
        "req_cpu": 1024,
        "req_memory": 2048,
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


@pytest.fixture
def sandbox() -> EdgegapSandbox:
    return EdgegapSandbox()


@pytest.fixture
def edgegap(sandbox: EdgegapSandbox) -> Iterator[httpx.Client]:
    """A client of the served sandbox; every answer must be as the OpenAPI document wants it."""
    checked = contract_checked(sandbox.app)
    with serving(checked) as url, client(url) as asking:
        yield asking

    # What these tests send is wrong on purpose; what is answered must not be.
    assert [one for one in checked.violations if "->" in one] == []


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers=AUTHORIZATION, timeout=5, trust_env=False)


def wait_until_made(sandbox: EdgegapSandbox, count: int) -> None:
    """A client that did not wait for an answer may be ahead of the action."""
    while sandbox.posts_that_created("my-game", "1.0") < count:
        time.sleep(0.005)


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"message"}
    message: str = answer.json()["message"]
    return message


# Apps


def test_apps_are_listed_made_and_shown(edgegap: httpx.Client) -> None:
    asked = {"name": "lobby", "is_active": True, "image": ""}

    made = edgegap.post("/v1/app", json=asked)

    assert made.status_code == 200
    assert made.json().items() >= asked.items()
    assert edgegap.get("/v1/app/lobby").json() == made.json()
    listed = edgegap.get("/v1/apps").json()
    assert [app["name"] for app in listed["applications"]] == ["my-game", "lobby"]
    assert listed["total_count"] == 2


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"name": "my-game", "is_active": True, "image": ""}, 409),
        ({"name": "no", "is_active": True, "image": ""}, 400),
        ({"name": "lobby", "is_active": True}, 400),
        ({"name": "lobby", "is_active": "yes", "image": ""}, 400),
        ([], 400),
    ],
)
def test_an_app_is_refused(edgegap: httpx.Client, asked: object, status: int) -> None:
    refused(edgegap.post("/v1/app", json=asked), status)


def test_an_app_that_is_not_there_is_404_everywhere(edgegap: httpx.Client) -> None:
    for method, path in [
        ("GET", "/v1/app/gone"),
        ("GET", "/v1/app/gone/versions"),
        ("GET", "/v1/app/gone/version/1.0"),
        ("DELETE", "/v1/app/gone/version/1.0"),
    ]:
        refused(edgegap.request(method, path), 404)
    refused(edgegap.post("/v1/app/gone/version", json=body()), 404)
    refused(edgegap.patch("/v1/app/gone/version/1.0", json={"docker_tag": "2"}), 404)


# The token


@pytest.mark.parametrize("sent", [None, "sandbox-token", "Bearer sandbox-token", "token token x"])
def test_the_token_is_sent_after_the_word_token(edgegap: httpx.Client, sent: str | None) -> None:
    del edgegap.headers["authorization"]

    answer = edgegap.get(VERSIONS, headers={} if sent is None else {"authorization": sent})

    refused(answer, 401)


@pytest.mark.parametrize("answered", [401, 403])
def test_a_token_may_stop_being_good(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, answered: int
) -> None:
    sandbox.token_state = "refused" if answered == 401 else "deleted"

    refused(edgegap.post(VERSION, json=body()), answered)
    sandbox.token_state = "good"
    assert edgegap.post(VERSION, json=body()).status_code == 200


# Making versions


def test_a_version_is_made_and_its_defaults_are_filled_in(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    answer = edgegap.post(VERSION, json=body())

    assert answer.status_code == 200
    assert answer.json()["success"] is True
    made = answer.json()["version"]
    assert made.items() >= body().items()
    assert made["is_active"] is True
    assert made["verify_image"] is False
    assert made["max_duration"] == 1440
    assert made["restart_policy"] == "always"
    assert made["caching_percent"] == 0.0
    assert made["create_time"][10] == " "
    assert len(made["create_time"]) == len("2026-04-22 12:00:46.444265")
    assert edgegap.get(f"{VERSION}/1.0").json() == made
    assert sandbox.versions["my-game", "1.0"] == made
    assert sandbox.posts_that_created("my-game", "1.0") == 1


def test_the_registry_login_is_echoed_in_clear(edgegap: httpx.Client) -> None:
    login = {"private_username": "studio", "private_token": "dckr_pat_canary"}

    for answer in [
        edgegap.post(VERSION, json=body(**login)).json()["version"],
        edgegap.get(f"{VERSION}/1.0").json(),
        edgegap.get(VERSIONS).json()["versions"][0],
    ]:
        assert answer.items() >= login.items()


def test_ws_comes_back_as_websocket(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    ports = [{"port": 7777, "protocol": "WS", "name": "game", "tls_upgrade": True}]

    made = edgegap.post(VERSION, json=body(ports=ports)).json()["version"]

    assert made["ports"] == [{**ports[0], "protocol": "Websocket", "to_check": True}]
    assert sandbox.versions["my-game", "1.0"]["ports"][0]["protocol"] == "WS"
    assert "protocol" in refused(edgegap.post(VERSION, json=body(ports=made["ports"])), 400)


@pytest.mark.parametrize(
    ("hidden_value", "shown"),
    [("", {"value": ""}), ("****", {"value": "****"}), (None, {})],
)
def test_a_hidden_value_is_kept_and_not_shown(
    hidden_value: str | None, shown: dict[str, str]
) -> None:
    sandbox = EdgegapSandbox()
    sandbox.quirks.hidden_value = hidden_value
    envs = [
        {"key": "DB_PASSWORD", "value": "canary", "is_hidden": True},
        {"key": "MODE", "value": "prod"},
    ]

    with serving(sandbox.app) as url, client(url) as edgegap:
        made = edgegap.post(VERSION, json=body(envs=envs)).json()["version"]

    hidden = {"key": "DB_PASSWORD", "is_hidden": True, **shown}
    assert made["envs"] == [hidden, {"key": "MODE", "value": "prod", "is_hidden": False}]
    assert sandbox.versions["my-game", "1.0"]["envs"][0]["value"] == "canary"


def test_a_token_may_be_shown_in_clear_and_not_in_one_account(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.quirks = Quirks(tokens={"*": "placeholder", "1.1": "clear", "1.2": "absent"})
    for name in ("1.0", "1.1", "1.2"):
        edgegap.post(VERSION, json=body(name=name, private_token="canary"))

    rows = edgegap.get(VERSIONS).json()["versions"]

    shown = [row.get("private_token") for row in rows]
    assert shown == ["This value is set and encrypted", "canary", None]
    assert edgegap.get(f"{VERSION}/1.1").json()["private_token"] == "canary"


def test_answers_that_the_document_does_not_describe_are_marked(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    ports = [{"port": 7777, "protocol": "QUIC", "name": "game"}]
    envs = [{"key": "GAME-MODE", "value": "a", "is_hidden": True}]
    sandbox.quirks.also_accepted = frozenset({"QUIC"})
    sandbox.quirks.protocols = {"QUIC": "Quic"}
    sandbox.quirks.sanitizes_keys = sandbox.quirks.reveals_hidden = True
    documented = edgegap.post(VERSION, json=body(ports=ports, envs=envs))

    sandbox.quirks = sandbox.quirks.changed({"numbers": "text", "stores": {"req_cpu": 512}})
    sandbox.versions["my-game", "old"] = {**sandbox.versions["my-game", "1.0"], "command": "/x"}
    made = edgegap.post(VERSION, json=body(name="1.1", ports=ports))
    sandbox.quirks = Quirks(numbers="float")
    old = edgegap.get(f"{VERSION}/old")

    version = documented.json()["version"]
    assert version["ports"][0]["protocol"] == "Quic"
    assert version["envs"] == [{"key": "GAME_MODE", "value": "a", "is_hidden": True}]
    assert FAULT_HEADER not in documented.headers
    assert made.json()["version"]["req_cpu"] == "512"
    assert made.json()["version"]["ports"][0]["port"] == "7777"
    assert made.headers[FAULT_HEADER] == old.headers[FAULT_HEADER] == "quirk"
    assert old.json()["command"] == "/x"
    assert isinstance(old.json()["req_cpu"], float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name: is required"),
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"docker_repository": None}, "docker_repository"),
        ({"docker_tag": ""}, "docker_tag"),
        ({"docker_image": "Studio/game"}, "docker_image"),
        ({"docker_image": "studio/game:1.0"}, "docker_image"),
        ({"docker_image": "docker.io/studio/game"}, "docker_image"),
        ({"req_cpu": 99}, "req_cpu"),
        ({"req_cpu": "1024"}, "req_cpu"),
        ({"req_cpu": True}, "req_cpu"),
        ({"req_memory": 2049}, "req_memory: must be at most twice"),
        ({"req_video": -1}, "req_video"),
        ({"max_duration": 1441}, "max_duration"),
        ({"time_to_deploy": 14}, "time_to_deploy"),
        ({"restart_policy": "sometimes"}, "restart_policy"),
        ({"termination_grace_period_seconds": 4}, "termination_grace_period_seconds"),
        ({"is_active": 1}, "is_active"),
        ({"ports": {}}, "ports"),
        ({"ports": [7777]}, "ports"),
        ({"ports": [{"port": 60000, "protocol": "UDP"}]}, "port"),
        ({"ports": [{"port": 7777, "protocol": "QUIC"}]}, "protocol"),
        ({"ports": [{"port": 7777}]}, "protocol: is required"),
        ({"ports": [{"port": 0, "protocol": "UDP"}]}, "port 0 needs a name"),
        ({"ports": [{"port": 1, "protocol": "UDP", "tls_upgrade": True}]}, "tls_upgrade"),
        (
            {"ports": [{"port": port, "protocol": "UDP", "name": "game"} for port in (1, 2)]},
            "names must be unique",
        ),
        ({"envs": [{"key": "MODE"}]}, "value: is required"),
        ({"envs": [{"key": "MODE", "value": "x" * 4097}]}, "value"),
        ({"envs": [{"key": "MODE", "value": "x", "is_secret": True}]}, "Unknown Args"),
        ({"env_vars": []}, "Unknown Args"),
        ({"create_time": "2026-04-22 12:00:46.444265"}, "Unknown Args"),
    ],
)
def test_a_version_is_refused(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, changes: dict[str, Any], message: str
) -> None:
    assert message in refused(edgegap.post(VERSION, json=body(**changes)), 400)
    assert sandbox.versions == {}


def test_null_is_refused_and_an_empty_endpoint_storage_breaks_their_server(
    edgegap: httpx.Client,
) -> None:
    refused(edgegap.post(VERSION, json={**body(), "dns_config": None}), 400)
    refused(edgegap.post(VERSION, json=body(endpoint_storage="")), 500)
    refused(edgegap.post(VERSION, content=b"{"), 400)
    refused(edgegap.post(VERSION), 400)


def test_a_name_is_taken_once(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    sandbox.add_version("my-game", "1.0")

    refused(edgegap.post(VERSION, json=body()), 409)
    assert sandbox.posts_that_created("my-game", "1.0") == 0


def test_a_free_account_has_a_limit(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    sandbox.version_limit = 2
    sandbox.add_version("my-game", "0.1")
    sandbox.add_version("my-game", "0.2")

    message = refused(edgegap.post(VERSION, json=body()), 400)

    assert message == "You have reached you Application Version limit of 2"
    assert edgegap.delete(f"{VERSION}/0.1").status_code == 200
    assert edgegap.post(VERSION, json=body()).status_code == 200


def test_verify_image_tries_the_login_then_the_pull(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.registry_login = ("studio", "dckr_pat_canary")
    sandbox.pullable = lambda image, tag: (image, tag) == ("studio/game-server", "1.0")
    login = {"private_username": "studio", "private_token": "dckr_pat_canary"}
    verified = {"verify_image": True, **login}

    wrong: list[dict[str, Any]] = [{"verify_image": True}, {**verified, "private_token": "other"}]
    for settings in wrong:
        message = refused(edgegap.post(VERSION, json=body(**settings)), 400)
        assert message == "Unable to login with the given credentials"
    message = refused(edgegap.post(VERSION, json=body(**verified, docker_tag="2.0")), 424)
    assert message == "Unable to pull image from registry"
    assert edgegap.post(VERSION, json=body(**verified)).status_code == 200
    refused(edgegap.patch(f"{VERSION}/1.0", json={"docker_tag": "2.0"}), 424)
    assert sandbox.versions["my-game", "1.0"]["docker_tag"] == "1.0"
    unverified = body(name="unverified", docker_tag="2.0")
    assert edgegap.post(VERSION, json=unverified).status_code == 200


# Listing versions


def test_versions_come_ten_at_a_time_oldest_first(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    for number in range(23):
        sandbox.add_version("my-game", f"0.{number}")

    pages = [edgegap.get(VERSIONS, params={"page": page}).json() for page in (1, 2, 3)]

    assert [len(page["versions"]) for page in pages] == [10, 10, 3]
    assert [page["total_count"] for page in pages] == [23, 23, 23]
    assert pages[0]["versions"][0]["name"] == "0.0"
    assert pages[0]["pagination"] == {
        "number": 1,
        "next_page_number": 2,
        "previous_page_number": None,
        "paginator": {"num_pages": 3},
        "has_next": True,
        "has_previous": False,
    }
    assert pages[2]["pagination"]["next_page_number"] is None
    assert pages[2]["pagination"]["previous_page_number"] == 2
    assert edgegap.get(VERSIONS).json() == pages[0]
    assert len(edgegap.get(VERSIONS, params={"limit": 100}).json()["versions"]) == 23


@pytest.mark.parametrize("query", ["page=0", "limit=0", "page=x"])
def test_pages_begin_at_one(edgegap: httpx.Client, query: str) -> None:
    refused(edgegap.get(f"{VERSIONS}?{query}"), 400)


@pytest.mark.parametrize(
    ("quirks", "page", "changes"),
    [
        (ListQuirks(ignores_page=True), 2, {"number": 1, "has_next": True}),
        (ListQuirks(always_next=True), 2, {"has_next": True, "next_page_number": 3}),
        (ListQuirks(first_number=0), 1, {"number": 0, "next_page_number": 1}),
    ],
)
def test_lists_may_be_odd_within_the_document(
    sandbox: EdgegapSandbox,
    edgegap: httpx.Client,
    quirks: ListQuirks,
    page: int,
    changes: dict[str, Any],
) -> None:
    for number in range(13):
        sandbox.add_version("my-game", f"0.{number}")
    sandbox.lists = quirks

    listed = edgegap.get(VERSIONS, params={"page": page}).json()

    assert listed["pagination"].items() >= changes.items()
    first = "0.0" if quirks.ignores_page or page == 1 else "0.10"
    assert listed["versions"][0]["name"] == first


def test_lists_may_be_odd_beyond_the_document(sandbox: EdgegapSandbox) -> None:
    sandbox.lists = ListQuirks(total_count=7, left_out=["versions"], nulls=["pagination"])
    with serving(sandbox.app) as url, client(url) as edgegap:
        listed = edgegap.get(VERSIONS).json()

    assert listed == {"total_count": 7, "pagination": None}


def test_refusals_may_come_with_another_status(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.taken_status, sandbox.login_refusal_status, sandbox.pull_refusal_status = 400, 424, 400
    sandbox.add_version("my-game", "1.0")

    assert "already exists" in refused(edgegap.post(VERSION, json=body()), 400)
    sandbox.registry_login = ("studio", "canary")
    assert "login" in refused(edgegap.post(VERSION, json=body(name="2", verify_image=True)), 424)
    sandbox.registry_login, sandbox.pullable = None, lambda _, __: False
    assert "pull" in refused(edgegap.post(VERSION, json=body(name="2", verify_image=True)), 400)


def test_it_may_decline_with_a_200_and_send_a_bomb(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.misbehave(
        Fault("declined", method="POST", message="Not now"),
        Fault("bomb", path_contains="/v1/apps", size=30_000_000),
    )

    declined = edgegap.post(VERSION, json=body())
    with edgegap.stream("GET", "/v1/apps") as bomb:
        length = len(b"".join(bomb.iter_raw()))

    assert declined.json() == {"success": False, "message": "Not now"}
    assert sandbox.versions == {}
    assert bomb.headers["content-encoding"] == "gzip, gzip"
    assert length < 1000


def test_an_app_may_be_stored_whole(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    sandbox.add_app("lobby")
    sandbox.add_app("arena", is_active=False, image="eA==")

    assert edgegap.get("/v1/app/lobby").json()["is_active"] is True
    assert edgegap.get("/v1/app/arena").json()["is_active"] is False


# Changing and deleting versions


def test_a_patch_changes_what_it_names(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    ports = [{"port": 7777, "protocol": "UDP"}, {"port": 8888, "protocol": "TCP"}]
    edgegap.post(VERSION, json=body(name="dev", ports=ports))
    before = dict(sandbox.versions["my-game", "dev"])

    answer = edgegap.patch(f"{VERSION}/dev", json={"docker_tag": "1.1", "ports": ports[:1]})

    assert answer.status_code == 200
    changed = answer.json()["version"]
    assert changed["docker_tag"] == "1.1"
    assert len(changed["ports"]) == 1
    assert changed["create_time"] == before["create_time"]
    assert changed["last_updated"] > before["last_updated"]
    assert changed["req_cpu"] == before["req_cpu"]
    assert edgegap.get(f"{VERSION}/dev").json() == changed


@pytest.mark.parametrize("field", ["req_cpu", "req_memory", "req_video", "nonsense"])
def test_a_patch_cannot_change_resources(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, field: str
) -> None:
    sandbox.add_version("my-game", "dev")

    message = refused(edgegap.patch(f"{VERSION}/dev", json={field: 512, "docker_tag": "2"}), 400)

    assert message == "Unknown Args"
    assert sandbox.versions["my-game", "dev"]["docker_tag"] == "dev"


def test_a_patch_may_rename_but_not_onto_another(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.add_version("my-game", "dev")
    sandbox.add_version("my-game", "prod")

    refused(edgegap.patch(f"{VERSION}/dev", json={"name": "prod"}), 400)
    assert edgegap.patch(f"{VERSION}/dev", json={"name": "staging"}).status_code == 200
    refused(edgegap.get(f"{VERSION}/dev"), 404)
    assert edgegap.get(f"{VERSION}/staging").json()["docker_tag"] == "dev"


def test_a_version_is_deleted(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    sandbox.add_version("my-game", "1.0")

    assert edgegap.delete(f"{VERSION}/1.0").json()["success"] is True
    refused(edgegap.delete(f"{VERSION}/1.0"), 404)
    refused(edgegap.patch(f"{VERSION}/1.0", json={"docker_tag": "2"}), 404)


@pytest.mark.parametrize("status", [409, 500])
def test_a_version_of_a_matchmaker_is_held(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, status: int
) -> None:
    sandbox.add_version("my-game", "1.0")
    sandbox.held_by_matchmaker.add(("my-game", "1.0"))
    if status != 409:
        sandbox.delete_refusal_status = status

    refused(edgegap.delete(f"{VERSION}/1.0"), status)
    refused(edgegap.patch(f"{VERSION}/1.0", json={"is_active": False}), 400)
    refused(edgegap.patch(f"{VERSION}/1.0", json={"name": "2.0"}), 400)
    assert edgegap.patch(f"{VERSION}/1.0", json={"docker_tag": "2.0"}).status_code == 200


# Deployments


def test_deployments_of_an_app_are_found_only_with_the_filter(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.deployments.run("my-game", "1.0")
    sandbox.deployments.run("my-game", "1.1")
    sandbox.deployments.run("lobby", "1.0")

    def count(*filters: tuple[str, str, object]) -> object:
        named = [dict(zip(("field", "operator", "value"), one, strict=True)) for one in filters]
        answer = edgegap.get("/v1/deployments", params={"query": json.dumps({"filters": named})})
        return answer.json()["total_count"] if answer.status_code == 200 else answer.status_code

    assert edgegap.get("/v1/deployments").json()["total_count"] == 3
    assert count(("application", "eq", "my-game"), ("version", "eq", "1.0")) == 1
    assert count(("application", "neq", "my-game")) == 1
    assert count(("version", "in", ["1.0", "9"])) == 2
    assert count(("version", "nin", ["1.0"])) == 1
    assert count(("version", "eq", "1.0"), ("version", "eq", "1.1")) == 400
    assert count(("version", "in", "1.0")) == 400
    assert count(("fqdn", "eq", "x")) == 400
    refused(edgegap.get("/v1/deployments", params={"query": "{"}), 400)


# Misbehaviour


@pytest.mark.parametrize("after", [False, True])
def test_a_status_before_or_after_the_action(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, after: bool
) -> None:
    sandbox.misbehave(Fault("status", status=503, message="Busy", after=after))

    assert refused(edgegap.post(VERSION, json=body()), 503) == "Busy"
    assert sandbox.posts_that_created("my-game", "1.0") == int(after)
    assert edgegap.post(VERSION, json=body()).status_code == (409 if after else 200)


def test_a_status_may_come_as_a_page_or_with_a_delay(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    date = "Wed, 22 Apr 2026 12:00:46 GMT"
    sandbox.misbehave(
        Fault("status", status=429, retry_after=7),
        Fault("status", status=429, retry_after=date),
        Fault("status", status=502, body="<h1>Bad Gateway</h1>"),
    )

    answers = [edgegap.get(VERSIONS) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [429, 429, 502, 200]
    assert [answer.headers.get("retry-after") for answer in answers[:2]] == ["7", date]
    assert answers[2].text == "<h1>Bad Gateway</h1>"
    assert answers[2].headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("reset"), httpx.ReadError),
        (Fault("hang_up"), httpx.RemoteProtocolError),
        (Fault("timeout"), httpx.ReadTimeout),
        (Fault("timeout", seconds=0.01), httpx.RemoteProtocolError),
        (Fault("truncated"), httpx.RemoteProtocolError),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_no_answer_before_or_after_the_action(
    sandbox: EdgegapSandbox,
    edgegap: httpx.Client,
    fault: Fault,
    error: type[Exception],
    after: bool,
) -> None:
    sandbox.misbehave(Fault(fault.kind, seconds=fault.seconds, after=after))
    patience = httpx.Timeout(5, read=0.1 if error is httpx.ReadTimeout else 5)

    with pytest.raises(error):
        edgegap.post(VERSION, json=body(), timeout=patience)

    wait_until_made(sandbox, int(after))
    assert sandbox.posts_that_created("my-game", "1.0") == int(after)
    assert edgegap.get(VERSIONS).json()["total_count"] == int(after)
    assert sandbox.calls[0].status == (200 if fault.kind == "truncated" else None)


@pytest.mark.parametrize("after", [False, True])
def test_a_slow_answer_is_the_real_one(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, after: bool
) -> None:
    sandbox.misbehave(Fault("slow", seconds=0.05, after=after))

    assert edgegap.post(VERSION, json=body()).json()["version"]["name"] == "1.0"


def test_who_does_not_wait_for_a_slow_answer_finds_it_done(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.misbehave(Fault("slow", after=True))

    with pytest.raises(httpx.ReadTimeout):
        edgegap.post(VERSION, json=body(), timeout=httpx.Timeout(5, read=0.05))

    wait_until_made(sandbox, 1)
    assert edgegap.get(f"{VERSION}/1.0").status_code == 200


def test_a_call_that_is_carried_out_after_its_answer(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.misbehave(Fault("late", status=504))

    answer = edgegap.post(VERSION, json=body())

    assert answer.status_code == 504
    assert not sandbox.versions
    sandbox.proceed()
    wait_until_made(sandbox, 1)
    assert edgegap.get(f"{VERSION}/1.0").status_code == 200
    assert [call.status for call in sandbox.calls] == [504, 200]


def test_garbage_and_a_flood(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    sandbox.misbehave(Fault("garbage"), Fault("garbage", body="{", content_type="application/json"))
    sandbox.misbehave(Fault("huge", size=1_000_000))

    page, half, flood = (edgegap.get(VERSIONS) for _ in range(3))

    assert (page.status_code, half.status_code, flood.status_code) == (200, 200, 200)
    assert page.text.startswith("<html>")
    assert half.text == "{"
    assert len(flood.content) > 1_000_000
    assert flood.json().keys() == {"message"}


def test_faults_wait_for_the_calls_they_are_meant_for(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.misbehave(
        Fault("status", method="POST", status=500),
        Fault("status", path_contains="/version/", status=502, times=2),
        Fault("status", path_contains="/apps", status=504, times=None),
    )

    def statuses(path: str, count: int) -> list[int]:
        return [edgegap.get(path).status_code for _ in range(count)]

    assert statuses(VERSIONS, 1) == [200]
    assert statuses(f"{VERSION}/1.0", 3) == [502, 502, 404]
    assert statuses("/v1/apps", 3) == [504, 504, 504]
    assert edgegap.post(VERSION, json=body()).status_code == 500
    sandbox.behave()
    assert statuses("/v1/apps", 1) == [200]


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="sulk"):
        Fault("sulk")  # type: ignore[arg-type]


def test_each_call_is_remembered(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    edgegap.post(VERSION, json=body())
    edgegap.get(VERSIONS, params={"page": 2})

    first, second = sandbox.calls

    assert (first.method, first.path, first.status) == ("POST", VERSION, 200)
    assert first.body == body()
    assert first.authorization == "token sandbox-token"
    assert (second.body, second.query) == (None, "page=2")


def test_its_state_may_be_changed_at_any_time(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.misbehave(Fault("status", status=503, method="GET"), Fault("reset"))
    sandbox.add_version("lobby", "1.0", req_cpu=256, req_memory=512)
    sandbox.version_limit = 1
    sandbox.held_by_matchmaker = {("lobby", "1.0")}
    sandbox.delete_refusal_status = 400
    sandbox.pullable = lambda image, tag: f"{image}:{tag}" != "studio/game-server:1.0"
    sandbox.quirks = sandbox.quirks.changed({"numbers": "float"})
    sandbox.deployments.run("lobby", "1.0")

    refused(edgegap.get("/v1/apps"), 503)
    sandbox.behave()
    refused(edgegap.post(VERSION, json=body(verify_image=True)), 424)
    refused(edgegap.delete("/v1/app/lobby/version/1.0"), 400)
    assert edgegap.get("/v1/deployments").json()["total_count"] == 1
    assert sandbox.versions["lobby", "1.0"]["req_cpu"] == 256
    calls = edgegap.get("/_sandbox/calls").json()
    assert [(call["path"], call["status"]) for call in calls] == [
        ("/v1/apps", 503),
        (VERSION, 424),
        ("/v1/app/lobby/version/1.0", 400),
        ("/v1/deployments", 200),
    ]


def test_a_quirk_that_does_not_exist_is_refused(sandbox: EdgegapSandbox) -> None:
    with pytest.raises(ValueError, match="roman"):
        sandbox.quirks.changed({"numbers": "roman"})
    with pytest.raises(TypeError, match="mood"):
        sandbox.quirks.changed({"mood": "bad"})


# Serving


def test_serving_leaves_nothing_behind(sandbox: EdgegapSandbox) -> None:
    sandbox.misbehave(Fault("timeout"))
    failures: list[Exception] = []

    def wait_in_vain(url: str) -> None:
        try:
            httpx.get(f"{url}{VERSIONS}", timeout=30, trust_env=False)
        except httpx.TransportError as error:
            failures.append(error)

    with serving(sandbox.app) as url:
        waiting = threading.Thread(target=wait_in_vain, args=(url,))
        waiting.start()
        while not sandbox.calls:
            time.sleep(0.005)
    waiting.join()

    assert len(failures) == 1
    assert [thread for thread in threading.enumerate() if thread.name == "sandbox"] == []


def test_serving_refuses_a_port_that_is_taken(sandbox: EdgegapSandbox) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
        serving(sandbox.app, port=taken.getsockname()[1]),
    ):
        pass


def test_serving_from_within_an_event_loop() -> None:
    async def ask_at_once() -> list[int]:
        with serving(EdgegapSandbox(latency=0.02).app) as url:
            async with httpx.AsyncClient(headers=AUTHORIZATION, trust_env=False) as asking:
                asked = (asking.get(f"{url}{VERSIONS}") for _ in range(20))
                return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask_at_once()) == [200] * 20


def test_the_sandbox_alone_in_the_foreground() -> None:
    command = [sys.executable, "-m", "receiver.sandbox", "--port", "0", "--app", "lobby"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            url = running.stdout.readline().strip().removeprefix("EDGEGAP_BASE_URL=")
            token = running.stdout.readline().strip().removeprefix("EDGEGAP_TOKEN=")
            headers = {"authorization": f"token {token}"}
            answer = httpx.get(f"{url}/v1/app/lobby", headers=headers, trust_env=False)
        finally:
            running.terminate()

    assert answer.status_code == 200
    assert running.returncode == 0


# The contract check itself


@pytest.mark.parametrize(
    ("method", "url", "headers", "sent", "complaint"),
    [
        ("GET", f"{VERSIONS}?page=2&limit=100", {}, None, None),
        ("POST", VERSION, {}, body(), None),
        ("PATCH", f"{VERSION}/1.0", {}, {"docker_tag": "1.1"}, None),
        ("POST", VERSION, {}, body(env_vars=[]), "env_vars is not in the document"),
        ("PATCH", f"{VERSION}/1.0", {}, {"req_cpu": 512}, "req_cpu is not in the document"),
        ("POST", VERSION, {}, body(ports=[{"port": 1, "protocol": "UDP", "x": 1}]), "ports[0].x"),
        ("POST", VERSION, {}, body(req_cpu=99), "req_cpu: 99 is less than the minimum"),
        ("POST", VERSION, {}, {**body(), "dns_config": None}, "dns_config"),
        ("POST", VERSION, {}, None, "Missing"),
        ("GET", f"{VERSIONS}?sort=name", {}, None, "query parameter sort"),
        ("GET", "/v1/apps?page=0", {}, None, "page: 0 is less"),
        ("GET", "/v1/nonsense", {}, None, "Path not found"),
        ("PUT", "/v1/apps", {}, None, "Operation put not found"),
        ("DELETE", f"{VERSION}/1.0", {}, {}, "takes no body"),
        ("GET", VERSIONS, {"authorization": "Bearer x"}, None, "the word token"),
    ],
)
def test_the_contract_judges_requests(
    method: str, url: str, headers: dict[str, str], sent: object, complaint: str | None
) -> None:
    text = None if sent is None else json.dumps(sent).encode()
    sending = {"content-type": "application/json", **AUTHORIZATION, **headers}

    violations = check_request(method, f"http://127.0.0.1:9000{url}", sending, text)

    if complaint is None:
        assert violations == []
    else:
        assert complaint in " ".join(violations)


@pytest.mark.parametrize(
    ("method", "path", "status", "answer", "complaint"),
    [
        ("GET", f"{VERSION}/1.0", 200, body(), None),
        ("GET", f"{VERSION}/1.0", 403, {"message": "deleted"}, None),
        ("DELETE", f"{VERSION}/1.0", 409, {"message": "held"}, None),
        ("GET", f"{VERSION}/1.0", 200, {"version": body()}, "required property"),
        ("GET", f"{VERSION}/1.0", 200, body(digest="x"), "digest is not in the document"),
        ("GET", f"{VERSION}/1.0", 404, {"error": "x"}, "'message' is a required property"),
        ("POST", VERSION, 201, {"success": True, "version": body()}, "not documented"),
        ("GET", "/v1/nonsense", 404, {"message": "x"}, "not in the document"),
    ],
)
def test_the_contract_judges_answers(
    method: str, path: str, status: int, answer: object, complaint: str | None
) -> None:
    headers = {"content-type": "application/json"}

    violations = check_response(method, path, status, headers, json.dumps(answer).encode())

    if complaint is None:
        assert violations == []
    else:
        assert complaint in " ".join(violations)


def test_the_contract_wants_json() -> None:
    assert check_response("GET", VERSIONS, 200, {"content-type": "text/html"}, b"<html>")
    assert check_response("GET", VERSIONS, 200, {"content-type": "application/json"}, b"{")
