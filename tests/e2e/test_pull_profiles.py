"""The pull profiles of a rule: linked to each version before anything uses it."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.conftest import StartReceiver
from tests.support.receiver_here import ReceiverHere, hurried
from tests.support.receiver_process import APP, NO_CATCH_UP, RULE, ReceiverProcess, until

PROFILES = RULE.replace("preflight = false", 'preflight = false\npull_profiles = ["bucket/maps"]')
CONFIG = PROFILES + NO_CATCH_UP
WITH_CHANNEL = CONFIG.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')


@pytest.fixture(autouse=True)
def _storage(sandbox: EdgegapSandbox) -> None:
    sandbox.storage.add("bucket", "maps", "mods")


def registration(
    receiver: ReceiverHere | ReceiverProcess, delivery: str, version: str
) -> dict[str, Any]:
    """The result of one version or channel, once it is over."""

    def look() -> dict[str, Any] | None:
        rows = receiver.details(delivery)["registrations"]
        over = (one for one in rows if one["state"] in {"done", "parked"})
        return next((one for one in over if one["version"] == version), None)

    found = until(look)
    assert found is not None
    return found


def replay(receiver: ReceiverHere, delivery: str) -> None:
    url = f"{receiver.url}/api/deliveries/{delivery}/replay"
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    httpx.post(url, headers=headers, trust_env=False).raise_for_status()


def exported_profiles(receiver: ReceiverProcess, version: str) -> str:
    """The line of `export` about pull profiles."""
    lines = receiver.run("export", APP, version).stdout.splitlines()
    return next((line for line in lines if "pull_profiles" in line), "").partition(" = ")[2]


def writes(sandbox: EdgegapSandbox) -> list[tuple[str, str]]:
    """The method and the end of the path of each write."""
    paths = [(call.method, call.path) for call in list(sandbox.calls) if call.method != "GET"]
    return [(method, path.partition(f"/app/{APP}/version")[2]) for method, path in paths]


def test_a_version_is_linked_after_its_post_and_before_its_channel_moves(
    tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "staging")
    with hurried(tmp_path, sandbox, WITH_CHANNEL) as receiver:
        delivery = receiver.push("1.0.0")
        moved = registration(receiver, delivery, "staging")
        created = registration(receiver, delivery, "1.0.0")

    assert moved["outcome"] == "updated"
    assert writes(sandbox) == [
        ("POST", ""),
        ("PUT", "/1.0.0"),
        ("PUT", "/staging"),
        ("PATCH", "/staging"),
    ]
    assert "it has the pull profiles bucket/maps" in created["notes"]


@pytest.mark.parametrize("status", [200, 400, 409])
def test_a_repeated_report_links_again_whatever_edgegap_answers(
    tmp_path: Path, sandbox: EdgegapSandbox, status: int
) -> None:
    sandbox.storage.linked_status = status
    with hurried(tmp_path, sandbox, CONFIG) as receiver:
        receiver.ended(receiver.push("1.0.0"))
        again = receiver.ended(receiver.push("1.0.0"))

    assert (again["state"], again["outcome"]) == ("done", "unchanged")
    assert sandbox.storage.links == {("bucket", "maps", APP, "1.0.0")}


def test_killed_between_the_post_and_the_link_it_is_linked_before_it_counts_as_created(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("timeout", method="PUT", seconds=20))
    receiver = start(config=CONFIG)
    delivery = receiver.push("1.0.0")
    until(lambda: any(method == "PUT" for method, _ in writes(sandbox)))
    assert not sandbox.storage.links

    receiver.kill()
    receiver.start()

    ended = receiver.ended(delivery)
    assert ended["outcome"] == "created"
    assert sandbox.storage.links == {("bucket", "maps", APP, "1.0.0")}
    assert [method for method, _ in writes(sandbox)] == ["POST", "PUT", "PUT"]
    first = next(call for call in ended["requests"] if call["method"] == "PUT")
    assert (first["status"], first["message"]) == (None, "sent")


@pytest.mark.parametrize(
    "fault",
    [Fault("status", method="PUT", status=500), Fault("status", method="PUT", status=429)],
)
def test_a_temporary_error_is_retried_and_no_second_version_is_created(
    tmp_path: Path, sandbox: EdgegapSandbox, fault: Fault
) -> None:
    sandbox.misbehave(fault)
    with hurried(tmp_path, sandbox, CONFIG) as receiver:
        ended = receiver.ended(receiver.push("1.0.0"))

    assert ended["outcome"] == "created"
    assert [method for method, _ in writes(sandbox)] == ["POST", "PUT", "PUT"]


def test_an_unknown_profile_parks_with_the_known_names_and_moves_no_channel(
    tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "staging")
    config = WITH_CHANNEL.replace("bucket/maps", "bucket/map")
    with hurried(tmp_path, sandbox, config) as receiver:
        delivery = receiver.push("1.0.0")
        parked = receiver.ended(delivery)
        assert (parked["state"], parked["reason"]) == ("parked", "pull_profile_unknown")
        assert "bucket/map," in parked["sentence"]
        assert "it has bucket/maps, bucket/mods." in parked["sentence"]
        assert [method for method, _ in writes(sandbox)] == ["POST", "PUT"]

        sandbox.storage.add("bucket", "map")
        replay(receiver, delivery)

        assert registration(receiver, delivery, "staging")["outcome"] == "updated"
        assert registration(receiver, delivery, "1.0.0")["outcome"] == "created"


def test_the_kept_settings_have_what_was_linked_in_the_end(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    """The profile that parked it stayed in the copy, and `export` printed it."""
    sandbox.storage.add("bucket", "base")
    both = CONFIG.replace('"bucket/maps"', '"bucket/base", "bucket/mapz"')
    receiver = start(config=both)
    delivery = receiver.push("3.2.0")
    assert receiver.ended(delivery)["reason"] == "pull_profile_unknown"
    assert exported_profiles(receiver, "3.2.0") == '["bucket/base"]'

    (receiver.folder / "receiver.toml").write_text(CONFIG)
    assert receiver.run("reload").returncode == 0
    replayed = receiver.run("replay", delivery)

    assert replayed.returncode == 0
    assert registration(receiver, delivery, "3.2.0")["state"] == "done"
    assert exported_profiles(receiver, "3.2.0") == '["bucket/base", "bucket/maps"]'
    assert sandbox.storage.links == {
        ("bucket", "base", APP, "3.2.0"),
        ("bucket", "maps", APP, "3.2.0"),
    }


def test_the_kept_settings_of_a_channel_have_what_stays_linked(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    """A name that was removed from the rule was missing in `export` and in `diff`."""
    receiver = start(config=WITH_CHANNEL)
    assert registration(receiver, receiver.push("1.0.0"), "staging")["state"] == "done"
    (receiver.folder / "receiver.toml").write_text(WITH_CHANNEL.replace("maps", "mods"))
    assert receiver.run("reload").returncode == 0
    assert registration(receiver, receiver.push("1.1.0"), "staging")["outcome"] == "updated"

    assert exported_profiles(receiver, "staging") == '["bucket/maps", "bucket/mods"]'
    assert exported_profiles(receiver, "1.1.0") == '["bucket/mods"]'


def test_a_version_that_was_deleted_before_its_link_is_created_again(
    tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", method="PUT", status=404, message="Version not found"))
    with hurried(tmp_path, sandbox, CONFIG) as receiver:
        ended = receiver.ended(receiver.push("1.0.0"))

    assert ended["outcome"] == "created"
    assert sandbox.storage.links == {("bucket", "maps", APP, "1.0.0")}
