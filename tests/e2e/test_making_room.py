"""At Edgegap's version limit: make room where the rule allows it, else park with the ways out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, RULE

LONG_AGO = 1_780_000_000
MAKING_ROOM = RULE.replace("preflight", "make_room = true\npreflight")


@pytest.fixture(autouse=True)
def free_tier(sandbox: EdgegapSandbox) -> None:
    sandbox.version_limit = 2


@contextmanager
def full(folder: Path, edgegap_url: str, config: str) -> Iterator[ReceiverHere]:
    """A receiver that has made as many versions as there may be."""
    with receiver_here(folder, edgegap_url, config=config) as receiver:
        assert pushed(receiver, "1.0", 0)["outcome"] == "created"
        assert pushed(receiver, "1.1", 10)["outcome"] == "created"
        yield receiver


def pushed(receiver: ReceiverHere, tag: str, at: int) -> dict[str, Any]:
    return receiver.ended(receiver.push(tag, pushed_at=LONG_AGO + at))


def versions(sandbox: EdgegapSandbox) -> list[str]:
    return [name for _, name in sandbox.versions]


def test_the_oldest_is_deleted_and_the_registration_goes_on(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    with full(tmp_path, edgegap, MAKING_ROOM) as receiver:
        ended = pushed(receiver, "1.2", 20)

    assert ended["outcome"] == "created"
    assert versions(sandbox) == ["1.1", "1.2"]
    deleted = [call for call in ended["requests"] if call["method"] == "DELETE"]
    assert [call["path"].rpartition("/")[2] for call in deleted] == ["1.0"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path_contains="/v1/deployments", status=429, retry_after=1),
        Fault("status", method="DELETE", status=429, retry_after=1),
        Fault("status", path_contains=f"/app/{APP}/versions", status=429, retry_after=1),
        Fault("status", path_contains=f"/app/{APP}/versions", status=503),
        Fault("status", path_contains=f"/app/{APP}/version/1.0", method="GET", status=500),
        Fault("hang_up", path_contains="/v1/deployments"),
    ],
    ids=[
        *("what runs", "deleting", "the list, too often", "the list, an error"),
        *("the oldest, an error", "what runs, no answer"),
    ],
)
def test_where_edgegap_may_not_be_called_it_waits_and_room_is_made_then(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox, fault: Fault
) -> None:
    """It was parked for the limit, which nothing but a person takes up again."""
    with full(tmp_path, edgegap, MAKING_ROOM) as receiver:
        sandbox.misbehave(fault)

        ended = pushed(receiver, "1.2", 20)

    assert ended["outcome"] == "created"
    assert versions(sandbox) == ["1.1", "1.2"]


def test_one_that_runs_is_passed_over_and_never_the_newest_goes(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    with full(tmp_path, edgegap, MAKING_ROOM) as receiver:
        sandbox.deployments.run(APP, "1.0")

        ended = pushed(receiver, "1.2", 20)

    assert (ended["state"], ended["reason"]) == ("parked", "version_limit")
    assert versions(sandbox) == ["1.0", "1.1"]


def test_room_is_not_made_for_an_older_push(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    with full(tmp_path, edgegap, MAKING_ROOM) as receiver:
        ended = pushed(receiver, "0.9", -10)

    assert ended["outcome"] == "superseded"  # it was parked, and no later push closed it
    assert "all versions there are of later pushes" in ended["sentence"]
    assert versions(sandbox) == ["1.0", "1.1"]


def test_it_deletes_nothing_where_one_less_is_not_enough(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    sandbox.version_limit = None
    with receiver_here(tmp_path, edgegap, config=MAKING_ROOM) as receiver:
        for number in range(4):
            pushed(receiver, f"1.{number}", number)
        sandbox.version_limit = 2

        ended = pushed(receiver, "2.0", 20)

    assert (ended["state"], ended["reason"]) == ("parked", "version_limit")
    assert versions(sandbox) == ["1.0", "1.1", "1.2", "1.3"]


def test_what_edgegap_has_no_longer_makes_no_room(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    sandbox.version_limit = 3
    with full(tmp_path, edgegap, MAKING_ROOM) as receiver:
        pushed(receiver, "1.2", 20)
        del sandbox.versions[APP, "1.0"]
        sandbox.add_version(APP, "by-hand")

        ended = pushed(receiver, "1.3", 30)

    assert ended["outcome"] == "created"
    assert versions(sandbox) == ["1.2", "by-hand", "1.3"]


def test_otherwise_it_parks_with_the_three_ways_out(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    with full(tmp_path, edgegap, RULE) as receiver:
        ended = pushed(receiver, "1.2", 20)

    assert (ended["state"], ended["reason"]) == ("parked", "version_limit")
    for way in ("delete old versions", "larger Edgegap plan", "versions = false"):
        assert way in ended["sentence"]
    assert versions(sandbox) == ["1.0", "1.1"]


def test_a_fault_while_making_room_parks_it_and_the_worker_goes_on(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of our own")

    with full(tmp_path, edgegap, MAKING_ROOM) as receiver:
        with monkeypatch.context() as patch:
            patch.setattr("receiver.pipeline.prune.prunable", broken)
            ended = pushed(receiver, "1.2", 20)

        assert (ended["state"], ended["reason"]) == ("parked", "version_limit")
        assert pushed(receiver, "1.3", 30)["outcome"] == "created"


def test_two_at_once_do_not_count_on_the_same_room(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    sandbox.version_limit = 3
    with full(tmp_path, edgegap, MAKING_ROOM) as receiver:
        pushed(receiver, "1.2", 20)
        sandbox.latency = 0.02
        both = [receiver.push(tag, pushed_at=LONG_AGO + 30) for tag in ("1.3", "1.4")]

        assert [receiver.ended(one)["outcome"] for one in both] == ["created", "created"]
    assert sorted(versions(sandbox)) == ["1.2", "1.3", "1.4"]
