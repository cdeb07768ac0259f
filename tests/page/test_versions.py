"""The page of versions: from which push each is, and why it is kept; and what changed."""

from typing import Any

import httpx
import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.receiver_here import ReceiverHere
from tests.support.receiver_process import APP, NO_CATCH_UP, RULE, until
from tests.support.visitor import Visitor

CONFIG = (
    RULE.replace(
        "preflight = false",
        'preflight = false\nchannels = ["staging"]\nkeep = 2\npin = ["1.0.0"]',
    )
    + NO_CATCH_UP
)

pytestmark = pytest.mark.usefixtures("lists_are_read_at_once")


def created(receiver: ReceiverHere, sandbox: EdgegapSandbox, *tags: str) -> list[str]:
    """Push these tags, and wait for their versions and until the channel has the last one."""
    pushes = []
    for tag in tags:
        pushes.append(receiver.push(tag, pusher="ann"))
        receiver.ended(pushes[-1])
    until(lambda: sandbox.versions.get((APP, "staging"), {}).get("docker_tag") == tags[-1])
    until(lambda: all(one["state"] == "done" for one in registrations(receiver, pushes[-1])))
    return pushes


def registrations(receiver: ReceiverHere, delivery: str) -> Any:
    return receiver.details(delivery)["registrations"]


def rows(person: Visitor) -> dict[str, str]:
    """The text of each row, by its version."""
    shown = person.read("/versions")
    parts = shown.html.split('data-row="')[1:]
    return {part.partition('"')[0]: part.partition("</tr>")[0] for part in parts}


def test_each_version_says_whose_push_made_it_and_why_it_is_kept(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "0.9.0")
    pushes = created(receiver, sandbox, "1.0.0", "1.1.0", "1.2.0", "1.3.0")
    until(lambda: (APP, "1.1.0") not in sandbox.versions)

    shown = rows(person)

    assert set(shown) == {"0.9.0", "1.0.0", "1.2.0", "1.3.0"}  # the channel is no version
    assert f'href="/deliveries/{pushes[3]}"' in shown["1.3.0"]
    assert "by <bdi>ann</bdi>, " in shown["1.3.0"]
    assert ", created in " in shown["1.3.0"]
    assert "<bdi>staging</bdi>" in shown["1.3.0"]
    assert "one of the newest" in shown["1.3.0"]
    assert "</span><bdi>staging</bdi></a>" not in shown["1.2.0"]
    assert 'move </span><bdi>staging</bdi><span class="heard"> to 1.2.0<' in shown["1.2.0"]
    assert "pinned" in shown["1.0.0"]
    assert "not created here" in shown["0.9.0"]


def test_the_api_returns_the_same(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    created(receiver, sandbox, "1.0.0")
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    address = f"{receiver.url}/api/versions?app={APP}"

    answer = httpx.get(address, headers=headers, trust_env=False).json()
    one = next(one for one in answer["versions"] if one["version"] == "1.0.0")

    assert (one["pusher"], one["channels"], one["retention"]) == ("ann", ["staging"], "newest")
    assert one["push_to_version_milliseconds"] >= 0


def test_a_version_that_a_second_push_left_unchanged_does_not_say_how_long_that_took(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    created(receiver, sandbox, "1.0.0")
    again = receiver.push("1.0.0", pusher="bob")
    assert receiver.ended(again)["outcome"] == "unchanged"

    shown = rows(person)["1.0.0"]

    assert "by <bdi>bob</bdi>" in shown
    assert "created in" not in shown


def test_nothing_is_offered_to_be_deleted_while_all_is_kept(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    created(receiver, sandbox, "1.0.0", "1.1.0")

    assert all(action != "/do/prune" for action, _ in person.read("/versions").forms)


def test_a_version_with_running_deployments_says_so_and_is_not_announced_as_deleted(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    """It stayed in the list of those that may be deleted for as long as it ran."""
    sandbox.deployments.run(APP, "1.1.0")
    created(receiver, sandbox, "1.1.0", "1.2.0", "1.3.0")
    until(lambda: "1 deployment of it is running" in person.read("/versions").text)

    shown = person.read("/versions")

    assert "may be deleted" not in shown.text
    assert "could not be deleted at the last try" in shown.text
    assert "Try again to delete versions of my-game" in shown.text
    assert "but <bdi>1 deployment of it is running</bdi>" in rows(person)["1.1.0"]


def test_a_version_links_to_what_changed_since_the_one_before(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    created(receiver, sandbox, "1.0.0", "1.1.0")
    sandbox.deployments.run(APP, "1.1.0")
    links = person.read("/versions").links()
    (link,) = [one for one in links if one.startswith("/versions/diff")]

    shown = person.read(link)

    assert link == f"/versions/diff?app={APP}&a=1.0.0&b=1.1.0"
    assert (
        "image docker.io/studio/game-server:1.0.0 docker.io/studio/game-server:1.1.0" in shown.text
    )
    assert "No value of a variable is shown." in shown.text
    assert "Running now: 0 deployments of 1.0.0, 1 deployment of 1.1.0." in shown.text
    sandbox.misbehave(Fault("status", path_contains="/deployments", status=503, times=None))
    assert "an unknown number of deployments of 1.0.0" in person.read(link).text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (f"app={APP}&a=1.0.0", "There is nothing to compare."),
        ("app=other&a=1.0.0&b=1.1.0", "There is nothing to compare."),
        (f"app={APP}&a=7.0.0&b=<b>", "The app my-game has no version 7.0.0 at Edgegap"),
    ],
)
def test_what_cannot_be_compared_is_answered_with_a_page(
    person: Visitor, query: str, words: str
) -> None:
    assert words in person.read(f"/versions/diff?{query}", 404).text


def test_a_version_that_edgegap_does_not_return_now_can_be_asked_for_again(
    person: Visitor, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", method="GET", status=503, times=None, message="away"))

    shown = person.read(f"/versions/diff?app={APP}&a=1&b=2")

    assert "Edgegap did not return them (HTTP 503: away)" in shown.text
    assert f"/versions/diff?app={APP}&a=1&b=2" in shown.links()
