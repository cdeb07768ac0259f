"""Calls that break, and names that are taken: still exactly one version, and nobody's harmed."""

from collections.abc import Iterator
from typing import Any

import pytest

from receiver.edgegap import client
from receiver.sandbox.calls import Fault, Kind
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.receiver_here import ReceiverHere, hurried
from tests.support.receiver_process import APP, RULE, created_once


@pytest.fixture(scope="module")
def edgegap() -> EdgegapSandbox:
    return EdgegapSandbox()


@pytest.fixture(scope="module")
def running(
    edgegap: EdgegapSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverHere]:
    with hurried(tmp_path_factory.mktemp("broken"), edgegap, RULE) as receiver:
        yield receiver


@pytest.fixture
def here(running: ReceiverHere, edgegap: EdgegapSandbox) -> Iterator[ReceiverHere]:
    edgegap.calls.clear()
    yield running
    edgegap.behave()


def said(sandbox: EdgegapSandbox, method: str) -> list[Any]:
    return [call for call in list(sandbox.calls) if call.method == method]


BROKEN: list[tuple[Kind, str, bool]] = [
    (kind, method, after)
    for method, after in (("GET", False), ("POST", False), ("POST", True))
    for kind in ("status", "reset", "hang_up", "truncated", "garbage", "huge")
]


@pytest.mark.parametrize(("kind", "method", "after"), BROKEN)
def test_whatever_breaks_a_call_exactly_one_version_is_made(
    here: ReceiverHere, edgegap: EdgegapSandbox, kind: Kind, method: str, *, after: bool
) -> None:
    tag = f"{kind}-{method}-{after}".lower()
    size = 21_000_000 if kind == "huge" else 5000
    edgegap.misbehave(Fault(kind, method=method, after=after, status=503, size=size))

    ended = here.ended(here.push(tag))

    assert ended["outcome"] == "created"
    assert created_once(edgegap, tag)
    assert len(said(edgegap, "POST")) == (2 if method == "POST" and not after else 1)


@pytest.mark.parametrize("after", [False, True])
def test_a_post_that_is_not_answered_in_time_is_looked_at_before_it_is_sent_again(
    here: ReceiverHere, edgegap: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    monkeypatch.setattr(client, "CREATE_SECONDS", 0.2)
    tag = f"slow-{after}".lower()
    edgegap.misbehave(Fault("timeout", method="POST", after=after, seconds=20))

    assert here.ended(here.push(tag))["outcome"] == "created"

    assert created_once(edgegap, tag)
    methods = [call.method for call in edgegap.calls]
    posted = methods.index("POST")
    assert methods[posted + 1] == "GET"


@pytest.mark.parametrize("hidden_at_first", [False, True], ids=["present", "409"])
@pytest.mark.parametrize(
    ("held", "state", "word"),
    [
        ({}, "done", "unchanged"),
        ({"docker_tag": "another"}, "parked", "name_taken"),
        ({"docker_image": "studio/another"}, "parked", "name_taken"),
        ({"docker_repository": "ghcr.io"}, "parked", "name_taken"),
    ],
)
def test_a_version_that_is_there_already_is_left_alone(
    here: ReceiverHere,
    edgegap: EdgegapSandbox,
    held: dict[str, str],
    state: str,
    word: str,
    *,
    hidden_at_first: bool,
) -> None:
    tag = f"there-{hidden_at_first}-{'-'.join(held)}".lower().replace("_", "-")
    version = dict(edgegap.add_version(APP, tag, **held))
    if hidden_at_first:  # made by another between our look and our POST
        edgegap.misbehave(Fault("status", method="GET", path_contains=tag, status=404))

    ended = here.ended(here.push(tag))

    assert (ended["state"], ended["outcome"] or ended["reason"]) == (state, word)
    assert len(said(edgegap, "POST")) == int(hidden_at_first)
    assert edgegap.versions[APP, tag] == version


def test_taken_and_then_not_there_is_tried_once_more(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.misbehave(Fault("status", method="POST", status=409))

    assert here.ended(here.push("conflict-once"))["outcome"] == "created"
    assert len(said(edgegap, "POST")) == 2


def test_taken_and_then_not_there_twice_is_parked(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.misbehave(Fault("status", method="POST", status=409, times=2))

    assert here.ended(here.push("conflict-twice"))["reason"] == "name_conflict"
    assert len(said(edgegap, "POST")) == 2
