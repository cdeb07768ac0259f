"""Settings copied from one version to the next, end to end: all of them, or it parks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_quirks import PLACEHOLDER, Quirks
from receiver.sandbox.serving import serving
from tests.contract.openapi import contract_checked
from tests.support.dockerhub import hub_beside
from tests.support.receiver_here import ReceiverHere, hurried, receiver_here
from tests.support.receiver_process import until

PORTS = [{"port": 7777, "protocol": "UDP", "name": "gameport"}]
RULES: dict[str, str] = {
    "login": "",
    "spelling": "",
    "hidden": '[rule.settings]\nenvs = [{ key = "DB", value = "canary-db", is_hidden = true }]',
    "fields": "",
    "walled": "",
    "ports": "",
    "answered": "",
    "keys": '[rule.settings]\nenvs = [{ key = "GAME-MODE", value = "ranked" }]',
    "moving": 'channels = ["staging"]',
    "only": 'channels = ["prod"]',
    "named": 'channels = ["prod"]\ncopy_from = "prod"',
    "known": "[rule.settings]\nmax_duration = 30",
}
CONFIG = "".join(
    f'[[rule]]\nrepository = "studio/{app}"\napp = "{app}-app"\npreflight = false\n{rest}\n'
    for app, rest in RULES.items()
)


@pytest.fixture(scope="module")
def edgegap() -> EdgegapSandbox:
    return EdgegapSandbox(apps=[f"{app}-app" for app in RULES])


@pytest.fixture(scope="module")
def running(
    edgegap: EdgegapSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverHere]:
    with hurried(tmp_path_factory.mktemp("copied"), edgegap, CONFIG) as receiver:
        yield receiver


@pytest.fixture
def here(running: ReceiverHere, edgegap: EdgegapSandbox) -> Iterator[ReceiverHere]:
    edgegap.calls.clear()
    yield running
    edgegap.behave()
    edgegap.quirks = Quirks()
    running.config.write_text(CONFIG, "utf-8")


def source(edgegap: EdgegapSandbox, app: str, name: str = "0.9", **fields: Any) -> None:
    edgegap.add_version(f"{app}-app", name, docker_image=f"studio/{app}", **fields)


def pushed(here: ReceiverHere, app: str, tag: str = "1.0") -> dict[str, Any]:
    return here.ended(here.push_to(f"studio/{app}", tag))


def replayed(here: ReceiverHere, registration: dict[str, Any]) -> dict[str, Any]:
    """Replay the push of a registration and wait until it has been tried again."""
    url = f"{here.url}/api/deliveries/{registration['id']}/replay"
    headers = {"Authorization": f"Bearer {here.api_token()}"}
    answer = httpx.post(url, headers=headers, trust_env=False)
    assert answer.status_code == 202
    delivery = answer.json()["delivery"]

    def again() -> dict[str, Any] | None:
        ended = here.ended(delivery)
        return ended if ended["tries"] > registration["tries"] else None

    found = until(again)
    assert found is not None
    return found


def bodies(edgegap: EdgegapSandbox, method: str = "POST") -> list[Any]:
    return [call.body for call in list(edgegap.calls) if call.method == method]


@pytest.mark.parametrize("shown", ["placeholder", "absent"])
def test_a_login_that_edgegap_does_not_return_is_not_sent(
    here: ReceiverHere, edgegap: EdgegapSandbox, shown: Any
) -> None:
    edgegap.quirks.tokens = {"*": shown}
    source(edgegap, "login", private_username="studio-ci", private_token="canary-old")

    ended = pushed(here, "login", f"1.0-{shown}")

    assert ended["reason"] == "registry_login_hidden"
    assert "set DOCKERHUB_USERNAME and DOCKERHUB_TOKEN" in ended["sentence"]
    assert ended["notes"] == []
    assert bodies(edgegap) == []


def test_values_that_are_only_spelt_otherwise_are_copied_and_make_no_note(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.quirks.protocols = {"UDP": "Udp", "WS": "Websocket", "QUIC": "Quic"}
    edgegap.quirks.numbers = "text"
    edgegap.quirks.also_accepted = frozenset({"Quic"})
    web = {"port": 9000, "protocol": "WS", "tls_upgrade": True, "name": "web"}
    quic = {"port": 443, "protocol": "QUIC", "name": "quic"}
    source(edgegap, "spelling", ports=[*PORTS, web, quic], max_duration=60)

    ended = pushed(here, "spelling")

    assert (ended["outcome"], ended["notes"]) == ("created", [])
    stored = edgegap.versions["spelling-app", "1.0"]
    assert [(port["port"], port["protocol"]) for port in stored["ports"]] == [
        (7777, "UDP"),
        (9000, "WS"),
        (443, "Quic"),
    ]
    assert (stored["req_cpu"], stored["max_duration"]) == (1024, 60)


def test_a_hidden_variable_that_can_be_read_is_a_warning(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    source(edgegap, "hidden", envs=[{"key": "DB", "value": PLACEHOLDER}])

    assert pushed(here, "hidden", "1.0")["notes"] == []
    edgegap.quirks.reveals_hidden = True
    ended = pushed(here, "hidden", "1.1")

    assert ended["outcome"] == "created"
    (note,) = ended["notes"]
    assert "returns the values of the hidden variables DB in clear" in note
    assert "canary-db" not in json.dumps(here.details(ended["id"]))


def test_fields_that_cannot_be_copied_are_named(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    source(edgegap, "fields", command="/canary.sh", session_config={"kind": "Seat", "sockets": 9})

    ended = pushed(here, "fields")

    assert ended["outcome"] == "created"
    assert ended["notes"] == [
        "not copied from 0.9, as Edgegap's API does not accept it: command, session_config"
    ]


def test_a_whitelist_parks_until_the_rule_accepts_its_loss(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    source(edgegap, "walled", whitelisting_active=True, command="/start.sh")
    ended = pushed(here, "walled")
    assert ended["reason"] == "whitelist_not_copied"
    assert 'leave_out = ["whitelisting_active"]' in ended["sentence"]
    assert "command" in ended["notes"][0]
    assert bodies(edgegap) == []

    app = 'app = "walled-app"\n'
    accepting = CONFIG.replace(app, f'{app}leave_out = ["whitelisting_active", "command"]\n')
    here.config.write_text(accepting, "utf-8")
    assert here.inside(lambda: here.service.reload(here.environment)).faults == ()

    until(lambda: here.ended(ended["id"])["outcome"] == "created")
    assert here.ended(ended["id"])["notes"] == []


def test_a_version_without_its_ports_is_not_green_until_it_has_them(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    source(edgegap, "ports", ports=PORTS)
    edgegap.quirks.stores = {"ports": [], "force_cache": True}

    ended = pushed(here, "ports")
    again = replayed(here, ended)

    for one in (ended, again):
        assert (one["state"], one["reason"]) == ("parked", "stored_differently")
        assert 'asked for the ports 7777/UDP "gameport", Edgegap holds no port' in one["sentence"]
    edgegap.quirks.stores = {}
    assert pushed(here, "ports", "1.1")["outcome"] == "created"  # not copied from 1.0
    assert edgegap.versions["ports-app", "1.1"]["ports"][0]["port"] == 7777
    edgegap.versions["ports-app", "1.0"]["ports"] = PORTS
    assert replayed(here, again)["outcome"] == "created"
    assert len(bodies(edgegap)) == 2


def test_a_version_is_compared_whatever_the_post_answered(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    source(edgegap, "answered", req_cpu=512, req_memory=1024, envs=[{"key": "A", "value": "1"}])
    edgegap.quirks.stores = {"req_memory": 512, "envs": []}
    edgegap.misbehave(Fault("status", method="POST", status=500, after=True))

    ended = pushed(here, "answered")

    assert ended["reason"] == "stored_differently"
    assert "asked for req_memory 1024, Edgegap holds 512" in ended["sentence"]
    assert "Edgegap does not hold the variables A" in ended["sentence"]


def test_a_renamed_variable_is_a_difference(here: ReceiverHere, edgegap: EdgegapSandbox) -> None:
    source(edgegap, "keys")
    edgegap.quirks.sanitizes_keys = True

    ended = pushed(here, "keys")

    assert ended["reason"] == "stored_differently"
    assert "the variables GAME-MODE; it holds GAME_MODE" in ended["sentence"]


def test_the_newest_version_is_never_a_channel(here: ReceiverHere, edgegap: EdgegapSandbox) -> None:
    source(edgegap, "moving", ports=PORTS)
    source(edgegap, "moving", "staging", ports=[], req_memory=256)

    delivery = here.push_to("studio/moving", "1.0")

    def moved() -> bool:
        states = [one["state"] for one in here.details(delivery)["registrations"]]
        return states == ["done", "done"]

    until(moved)
    stored = edgegap.versions["moving-app", "1.0"]
    assert (stored["req_memory"], stored["ports"][0]["port"]) == (2048, 7777)


def test_where_only_a_channel_is_there_the_line_that_copies_it_is_given(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    source(edgegap, "only", "prod", ports=PORTS)
    source(edgegap, "named", "prod", ports=PORTS)

    ended = pushed(here, "only")

    assert ended["reason"] == "no_settings"
    assert 'write copy_from = "prod"' in ended["sentence"]
    assert pushed(here, "named")["outcome"] == "created"


def test_a_version_that_is_there_already_is_compared_with_the_rule(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    source(edgegap, "known", "1.0", docker_tag="1.0", max_duration=60)

    ended = pushed(here, "known")

    assert ended["outcome"] == "unchanged"
    assert ended["notes"] == ["asked for max_duration 30, Edgegap holds 60"]


@pytest.mark.parametrize(
    ("private", "ended"), [(False, "created"), (True, "registry_login_missing")]
)
def test_without_the_old_login_only_a_public_image_is_registered(
    tmp_path: Path, edgegap: EdgegapSandbox, ended: str, *, private: bool
) -> None:
    app, hub = f"looked-{private}".lower(), DockerHubSandbox()
    hub.add_repository(f"studio/{app}", private=private)
    hub.push_image(f"studio/{app}", "1.0")
    old_login = {"private_username": "studio-ci", "private_token": PLACEHOLDER}
    source(edgegap, app, **old_login)
    config = (
        f'[[rule]]\nrepository = "studio/{app}"\napp = "{app}-app"\n[catch_up]\nevery = "off"\n'
    )

    checked = contract_checked(edgegap.app)
    with (
        hub_beside(hub) as environment,
        serving(checked) as url,
        receiver_here(tmp_path, url, config=config, environment=environment) as here,
    ):
        ended_as = pushed(here, app)

    assert ended in {ended_as["outcome"], ended_as["reason"]}
    assert any("set DOCKERHUB_USERNAME and DOCKERHUB_TOKEN" in note for note in ended_as["notes"])
    if not private:
        assert "private_token" not in edgegap.versions[f"{app}-app", "1.0"]
    assert checked.violations == []
