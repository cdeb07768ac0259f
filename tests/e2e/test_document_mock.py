"""A real receiver against a server made from Edgegap's document alone: each call is valid."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from receiver.sandbox.serving import serving
from tests.contract.mock import DocumentMock
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, RULE, until

APP_PATH = f"/v1/app/{APP}"
VERSION_PATH = f"{APP_PATH}/version"
COPIED = RULE[: RULE.index("[rule.settings]")]  # settings come from the app's newest version
OURS = 'envs = [{ key = "MODE", value = "prod" }, { key = "DB", value = "x1y2", is_hidden = true }]'


@pytest.fixture
def mock() -> DocumentMock:
    """A server with an app that has one version."""
    made = DocumentMock()
    made.put(APP_PATH)
    made.put(f"{VERSION_PATH}/0.9", create_time="2026-04-22 12:00:46.444265")
    return made


@pytest.fixture
def url(mock: DocumentMock) -> Iterator[str]:
    with serving(mock) as served:
        yield served
    assert mock.violations == []


def test_the_server_finds_what_is_not_valid() -> None:
    mock = DocumentMock()
    token = {"Authorization": "token x"}
    with serving(mock) as url, httpx.Client(base_url=url, headers=token) as client:
        wrong = [
            client.post(VERSION_PATH, json={"name": "1.0", "req_cpu": "many"}),
            client.get("/v1/apps?page=0"),
            client.get("/v1/apps?limit=x&sort=name"),
            client.get(APP_PATH, headers={"Authorization": "Bearer x"}),
        ]
        assert client.get("/v1/elsewhere").status_code == 404

    assert {answer.status_code for answer in wrong} == {400}
    text = "\n".join(mock.violations)
    for part in ("req_cpu", "docker_tag", "page", "sort is not in", "the word token"):
        assert part in text


def ended(receiver: ReceiverHere, tag: str) -> str:
    ended = receiver.ended(receiver.push(tag))
    assert ended["state"] == "done", ended["sentence"]
    return str(ended["outcome"])


@pytest.mark.parametrize("settings", ["copied", "of the rule"])
def test_a_version_is_created(mock: DocumentMock, url: str, tmp_path: Path, settings: str) -> None:
    config = COPIED if settings == "copied" else f"{RULE}{OURS}\n"
    with receiver_here(tmp_path, url, config=config) as receiver:
        assert ended(receiver, "1.0.0") == "created"
        assert ended(receiver, "1.0.0") == "unchanged"

    assert mock.requests.count("app-version-create") == 1
    # It numbers each page 0 and has a next one for ever.
    assert mock.requests.count("app-version-list") == 2


def test_a_channel_is_moved(mock: DocumentMock, url: str, tmp_path: Path) -> None:
    mock.put(f"{VERSION_PATH}/staging", docker_tag="0.9")
    config = RULE.replace("preflight", 'channels = ["staging"]\npreflight') + f"{OURS}\n"
    with receiver_here(tmp_path, url, config=config) as receiver:
        delivery = receiver.push("1.0.0")
        receiver.ended(delivery)
        states = {one["state"] for one in receiver.details(delivery)["registrations"]}

    assert states == {"done"}
    assert "app-version-update" in mock.requests


def test_old_versions_are_deleted(mock: DocumentMock, url: str, tmp_path: Path) -> None:
    config = RULE.replace("preflight", "keep = 1\npreflight")
    with receiver_here(tmp_path, url, config=config) as receiver:
        for tag in ("1.0.0", "1.1.0"):
            assert ended(receiver, tag) == "created"
        until(lambda: "app-version-delete" in mock.requests)
        until(lambda: f"{VERSION_PATH}/1.0.0" not in mock.resources)

    assert "deployment-list" in mock.requests
    assert f"{VERSION_PATH}/0.9" in mock.resources


def test_doctor_looks_at_the_app_and_its_versions(
    mock: DocumentMock, url: str, tmp_path: Path
) -> None:
    with receiver_here(tmp_path, url, config=COPIED + COPIED.replace("-server", "")) as receiver:
        done = receiver.run("doctor", "--json")

    found = {one["what"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert found["Edgegap token"]["health"] == "pass"
    assert found[f"app {APP}"]["health"] == "pass"
    assert {name: mock.requests.count(name) for name in set(mock.requests)} == {
        "application-list": 2,
        "application-get": 1,
        "app-version-list": 2,
    }
