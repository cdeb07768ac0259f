"""Retention end to end: old versions of the receiver's own are deleted, and never one in use."""

import getpass
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.ledger import deletions
from receiver.ledger.gates import close_token_gate
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands, commands_beside, commands_in
from tests.support.receiver_here import ReceiverHere, hurried_at, receiver_here
from tests.support.receiver_process import APP, REPOSITORY, RULE, until
from tests.support.visitor import PAGE, visitor

BEYOND = "beyond keep = 2"
KEEPING = RULE.replace("preflight", "keep = 2\npreflight")
MOMENTS = itertools.count(1_780_000_000)


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap, config=KEEPING, environment=PAGE) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver


@pytest.fixture
def beside(here: ReceiverHere) -> Commands:
    return commands_beside(here)


def make(receiver: ReceiverHere, *tags: str) -> None:
    """Push one tag after another; each is made before the next."""
    for tag in tags:
        assert receiver.ended(receiver.push(tag, pushed_at=next(MOMENTS)))["state"] == "done"


def versions(sandbox: EdgegapSandbox, app: str = APP) -> list[str]:
    return [name for of, name in sandbox.versions if of == app]


def ready(receiver: ReceiverHere) -> Any:
    return httpx.get(f"{receiver.url}/readyz", trust_env=False).json()


def whys(receiver: ReceiverHere) -> dict[str, str]:
    """What was noted last of each version that was to go."""
    answer = httpx.get(
        f"{receiver.url}/api/versions",
        params={"app": APP},
        headers={"Authorization": f"Bearer {receiver.api_token()}"},
        trust_env=False,
    )
    newest_first = answer.raise_for_status().json()["deletions"]
    return {one["version"]: one["why"] for one in reversed(newest_first)}


def test_after_a_success_those_beyond_the_newest_are_deleted(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    make(here, "1.0", "1.1", "1.2", "1.3")

    until(lambda: versions(sandbox) == ["1.2", "1.3"])


def test_versions_whose_channel_was_not_done_yet_are_deleted_once_it_is(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    """They stayed until the next push."""
    away = Fault("status", path_contains="/staging", status=503, times=None)
    config = KEEPING.replace("keep = 2", 'keep = 2\nchannels = ["staging"]')
    with hurried_at(tmp_path, edgegap, config) as receiver:
        make(receiver, "0.9")
        until(lambda: "staging" in versions(sandbox))
        sandbox.misbehave(away)
        pushes = [receiver.push(tag, pushed_at=next(MOMENTS)) for tag in ("1.0", "1.1", "1.2")]
        until(lambda: {"1.0", "1.1", "1.2"} <= {*versions(sandbox)})
        until(lambda: all(len(receiver.details(one)["registrations"]) == 2 for one in pushes))
        assert "1.0" in versions(sandbox)

        sandbox.behave()

        until(lambda: sorted(versions(sandbox)) == ["1.1", "1.2", "staging"])


def test_one_of_which_something_runs_stays_until_nothing_does(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    sandbox.deployments.run(APP, "1.0")
    sandbox.deployments.run("lobby", "1.1")
    make(here, "1.0", "1.1", "1.2", "1.3")
    until(lambda: "1.1" not in versions(sandbox))
    assert "1.0" in versions(sandbox)
    assert "1 deployment" in whys(here)["1.0"]

    sandbox.deployments.clear()
    make(here, "1.4")
    until(lambda: versions(sandbox) == ["1.3", "1.4"])


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path_contains="/v1/deployments", status=500, times=None),
        Fault("garbage", path_contains="/v1/deployments", times=None),
        Fault("garbage", path_contains="/v1/deployments", times=None, body='{"data": []}'),
        Fault("garbage", path_contains="/v1/deployments", times=None, body='{"total_count": 0}'),
        Fault(
            "garbage",
            path_contains="/v1/deployments",
            times=None,
            body='{"data": [], "total_count": false}',
        ),
        Fault("reset", path_contains="/v1/deployments", times=None),
    ],
    ids=["error", "no JSON", "no count", "no rows", "no number", "no answer"],
)
def test_if_it_is_not_certain_what_runs_nothing_is_deleted(
    here: ReceiverHere, sandbox: EdgegapSandbox, fault: Fault
) -> None:
    sandbox.misbehave(fault)

    make(here, "1.0", "1.1", "1.2")

    until(lambda: "not certain" in whys(here).get("1.0", ""))
    assert versions(sandbox) == ["1.0", "1.1", "1.2"]


@pytest.mark.parametrize("made", [3, 5])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_pruning_respects_a_429_as_all_else_does(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands, method: str, made: int
) -> None:
    """It went on to the next version, and the next, while Edgegap asked to be left alone."""
    here.service.worker._retention.begin = lambda app: None  # type: ignore[method-assign]
    tags = ["1.0", "1.1", "1.2", "1.3", "1.4"][:made]
    make(here, *tags)
    path = "/v1/deployments" if method == "GET" else None
    busy = Fault("status", method=method, path_contains=path, status=429, retry_after=60)
    sandbox.misbehave(busy)
    before = len(sandbox.calls)

    done = beside.run("prune", APP)

    assert done.exit_code == 1
    assert "429" in done.output
    assert len(sandbox.calls) - before == (2 if method == "GET" else 4)
    assert versions(sandbox) == tags
    until(lambda: any("busy" in one for one in ready(here)["degraded"]))


def test_behind_a_refused_token_nothing_is_asked_of_edgegap(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    here.service.worker._retention.begin = lambda app: None  # type: ignore[method-assign]
    make(here, "1.0", "1.1", "1.2")
    here.inside(lambda: here.ledger.write(lambda tx: close_token_gate(tx, "refused")))
    before = len(sandbox.calls)

    done = beside.run("prune", APP)

    assert done.exit_code == 1
    assert "EDGEGAP_TOKEN" in done.output
    assert not [call for call in sandbox.calls[before:] if call.path != "/v1/apps"]


@pytest.mark.parametrize("status", [409, 400, 500])
def test_one_a_matchmaker_holds_is_recorded_and_left(
    here: ReceiverHere, sandbox: EdgegapSandbox, status: int
) -> None:
    sandbox.held_by_matchmaker = {(APP, "1.0")}
    sandbox.delete_refusal_status = status

    make(here, "1.0", "1.1", "1.2")

    until(lambda: f"refused ({status})" in whys(here).get("1.0", ""))
    assert versions(sandbox) == ["1.0", "1.1", "1.2"]
    assert sandbox.posts_that_created(APP, "1.2") == 1


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("declined", method="DELETE", message="It is in use"), "(200): It is in use"),
        (Fault("declined", method="DELETE", body='{"success": false}'), "refused (200)"),
        (Fault("garbage", method="DELETE", body=""), "still has it"),
        (Fault("status", method="DELETE", status=204, body=""), "still has it"),
        (
            Fault("status", method="GET", path_contains="/version/1.0", status=404, body="<html>"),
            "",
        ),
    ],
    ids=["declined", "declined in silence", "empty", "204", "no look"],
)
def test_only_a_deletion_that_edgegap_confirms_counts(
    here: ReceiverHere,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    why: str,
) -> None:
    monkeypatch.setattr(deletions, "EFFECT_MS", 1_000)
    make(here, "1.0", "1.1")
    sandbox.misbehave(replace(fault, times=None))
    make(here, "1.2")

    until(lambda: why in whys(here).get("1.0", "nothing yet") and "1.0" in whys(here))
    sandbox.behave()
    assert "1.0" in versions(sandbox)
    make(here, "1.3")

    until(lambda: versions(sandbox) == ["1.2", "1.3"])


@pytest.mark.parametrize(
    "fault",
    [
        Fault("garbage", method="DELETE"),
        Fault("status", method="DELETE", status=404, body="<html>"),
        Fault("status", method="DELETE", status=302, body=""),
    ],
    ids=["a page", "404", "302"],
)
def test_an_answer_that_is_not_edgegaps_confirms_nothing(
    here: ReceiverHere, sandbox: EdgegapSandbox, fault: Fault
) -> None:
    sandbox.misbehave(replace(fault, times=None))

    make(here, "1.0", "1.1", "1.2")

    until(lambda: any(call.method == "DELETE" for call in sandbox.calls))
    assert "1.0" in versions(sandbox)
    assert whys(here).get("1.0") != "beyond keep = 2"


def test_a_deletion_without_a_body_counts_once_the_version_is_gone(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("garbage", method="DELETE", after=True, body="", times=None))

    make(here, "1.0", "1.1", "1.2")

    until(lambda: whys(here).get("1.0") == "beyond keep = 2")
    assert versions(sandbox) == ["1.1", "1.2"]


def test_one_that_a_person_gave_another_image_is_left(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    make(here, "1.0", "1.1")
    sandbox.versions[APP, "1.0"]["docker_tag"] = "by-hand"
    make(here, "1.2")

    until(lambda: "another image" in whys(here).get("1.0", ""))
    assert "1.0" in versions(sandbox)


def test_what_was_not_made_here_is_never_touched(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "0.1")
    sandbox.add_version(APP, "0.2")

    make(here, "0.1", "1.0", "1.1", "1.2")

    until(lambda: "1.0" not in versions(sandbox))
    assert versions(sandbox) == ["0.1", "0.2", "1.1", "1.2"]
    assert "0.1" not in whys(here)


def test_a_pinned_one_and_one_a_channel_holds_stay(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    config = KEEPING.replace("keep = 2", 'keep = 1\npin = ["*-final"]\nchannels = ["staging"]')
    with receiver_here(tmp_path, edgegap, config=config) as receiver:
        make(receiver, "1.0-final", "1.1")
        until(lambda: sandbox.versions.get((APP, "staging"), {}).get("docker_tag") == "1.1")
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        commands_beside(receiver).run("pause", REPOSITORY)

        answer = commands_beside(receiver).json_of("prune", APP, "--dry-run", "--json")

    assert answer["prunable"] == []
    assert set(versions(sandbox)) == {"1.0-final", "1.1", "staging"}


def test_a_dry_run_lists_what_would_be_deleted_and_asks_only_what_runs(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    switch_off(here)
    make(here, "1.0", "1.1", "1.2")
    sandbox.calls.clear()

    done = beside.run("prune", APP, "--dry-run")

    assert done.stdout == f"would delete  {APP}/1.0  {BEYOND}; no deployment of it is running\n"
    assert {one.path for one in sandbox.calls} == {"/v1/deployments"}
    assert versions(sandbox) == ["1.0", "1.1", "1.2"]


def test_the_command_prints_the_result_for_each(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    sandbox.deployments.run(APP, "1.1")
    sandbox.deployments.run(APP, "1.1")
    switch_off(here)
    make(here, "1.0", "1.1", "1.2", "1.3")

    done = beside.run("prune", APP)

    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"deleted  {APP}/1.0  {BEYOND}, requested by command ({getpass.getuser()})",
        f"kept  {APP}/1.1  2 deployments of it are running",
    ]
    assert versions(sandbox) == ["1.1", "1.2", "1.3"]
    answer = beside.json_of("prune", APP, "--json")
    assert [(one["version"], one["deleted"]) for one in answer["results"]] == [("1.1", False)]
    sandbox.deployments.clear()
    beside.run("prune", APP)
    assert beside.run("prune", APP).stdout == f"{APP} has no versions to delete.\n"


def switch_off(receiver: ReceiverHere) -> None:
    """Let the command alone delete."""
    receiver.service.worker._retention.begin = lambda app: None  # type: ignore[method-assign]


def test_each_listing_and_question_names_the_running_deployments(
    here: ReceiverHere,
    beside: Commands,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They named none; and an Edgegap that hangs holds none of them up."""
    switch_off(here)
    make(here, "1.0", "1.1", "1.2", "1.3")
    sandbox.deployments.run(APP, "1.1")
    sandbox.deployments.run(APP, "1.1")
    monkeypatch.setattr("receiver.cli.versions.is_interactive", lambda: True)
    none, two = "no deployment of it is running", "2 deployments of it are running, so it is kept"
    unknown = "Edgegap did not say within 3 seconds how many deployments of it are running"

    listed = beside.run("prune", APP, "--dry-run").stdout.splitlines()
    asked = beside.run("prune", APP, given="n\n").stderr
    with visitor(here) as one:
        form = one.read("/versions").form("/do/prune")
        page = one.post("/do/prune", data=form).text
        monkeypatch.setattr("receiver.edgegap.in_time.LIMIT_SECONDS", 0.05)
        sandbox.misbehave(Fault("slow", seconds=3600, times=None))
        late = one.post("/do/prune", data=form).text
    blind = beside.run("prune", APP, "--dry-run").stdout.splitlines()
    monkeypatch.setattr("receiver.cli.output.on_terminal", lambda: True)
    table = beside.run("prune", APP, "--dry-run").stdout.splitlines()
    sandbox.behave()
    sandbox.proceed()

    assert listed == [
        f"would delete  {APP}/1.0  {BEYOND}; {none}",
        f"would keep  {APP}/1.1  {BEYOND}; {two}",
    ]
    assert f"  1.0: {none}\n  1.1: {two}\nDelete 1.0, 1.1 of {APP}" in asked
    assert f"<li><bdi>1.0: {none}</bdi></li><li><bdi>1.1: {two}</bdi></li>" in page
    assert f"<li><bdi>1.1: {unknown}; it is kept unless none are</bdi></li>" in late
    assert [line.count(unknown) for line in blind] == [1, 1]
    assert table[0].split() == ["RESULT", "VERSION", "WHY"]


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_on_a_terminal_it_asks_before_it_deletes(
    here: ReceiverHere, sandbox: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    beside = commands_beside(here)
    switch_off(here)
    make(here, "1.0", "1.1", "1.2")
    monkeypatch.setattr("receiver.cli.versions.is_interactive", lambda: True)

    done = beside.run("prune", APP, given=f"{answer}\n")

    assert f"Delete 1.0 of {APP} at Edgegap? [y/N]" in done.stderr
    assert done.exit_code == (0 if answer == "y" else 1)
    assert versions(sandbox) == (["1.1", "1.2"] if answer == "y" else ["1.0", "1.1", "1.2"])
    assert beside.run("prune", APP, "--yes").exit_code == 0
    assert versions(sandbox) == ["1.1", "1.2"]


def test_only_what_was_confirmed_is_deleted(here: ReceiverHere, sandbox: EdgegapSandbox) -> None:
    switch_off(here)
    make(here, "1.0", "1.1", "1.2", "1.3")

    answer = httpx.post(
        f"{here.url}/api/prune",
        json={"app": APP, "versions": ["1.0", "1.3"]},
        headers={"Authorization": f"Bearer {here.api_token()}"},
        trust_env=False,
    )

    assert [one["version"] for one in answer.json()["results"]] == ["1.0"]
    assert versions(sandbox) == ["1.1", "1.2", "1.3"]


def test_without_a_server_the_command_deletes_by_itself(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    with receiver_here(tmp_path, edgegap, config=RULE) as receiver:
        make(receiver, "1.0", "1.1", "1.2")
    commands = commands_in(tmp_path, edgegap)
    commands.configure(KEEPING)

    listed = commands.run("prune", APP, "--dry-run")
    done = commands.run("prune", APP)

    assert listed.stdout == f"would delete  {APP}/1.0  {BEYOND}; no deployment of it is running\n"
    assert done.stdout.startswith(f"deleted  {APP}/1.0  {BEYOND}, requested by command (")
    assert versions(sandbox) == ["1.1", "1.2"]


def test_if_no_rule_keeps_it_says_what_to_add(commands: Commands) -> None:
    done = commands.run("prune", APP)

    assert done.exit_code == 2
    assert f"no rule of the app {APP} has `keep`; add it" in done.stderr


def test_a_deleted_version_pushed_again_is_created_again(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    make(here, "1.0", "1.1", "1.2")
    until(lambda: "1.0" not in versions(sandbox))

    again: dict[str, Any] = here.ended(here.push("1.0", pushed_at=int(time.time())))

    assert again["outcome"] == "created"
    until(lambda: versions(sandbox) == ["1.2", "1.0"])


def test_a_push_of_a_deleted_version_that_is_reported_again_does_not_create_it(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    """It was created again, beside the newest ones, and stayed until the next push."""
    pushed_at = next(MOMENTS)
    first = here.push("1.0", pushed_at=pushed_at)
    here.ended(first)
    make(here, "1.1", "1.2")
    until(lambda: here.details(first)["registrations"][0]["deleted_at"])

    again = here.push("1.0", pushed_at=pushed_at)
    ended = here.ended(again)

    assert ended["outcome"] == "superseded"
    assert "was deleted since (beyond keep = 2)" in ended["sentence"]
    assert versions(sandbox) == ["1.1", "1.2"]
    beside.run("replay", again)
    until(lambda: "1.0" in versions(sandbox))


def test_a_report_without_a_time_may_be_of_a_new_push_of_a_deleted_version(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    first = here.push("1.0", pushed_at=next(MOMENTS))
    here.ended(first)
    make(here, "1.1", "1.2")
    until(lambda: here.details(first)["registrations"][0]["deleted_at"])

    assert here.ended(here.push("1.0", pushed_at=None))["outcome"] == "created"


def test_the_details_and_the_list_say_that_a_version_was_deleted_later(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    """They said `created`, and nothing of the deletion."""
    first = here.push("1.0", pushed_at=next(MOMENTS))
    here.ended(first)
    make(here, "1.1", "1.2")
    until(lambda: "1.0" not in versions(sandbox))
    until(lambda: here.details(first)["registrations"][0]["deleted_at"])

    shown, listed = beside.run("show", first).stdout, beside.run("deliveries").stdout

    assert "done created, later deleted" in shown
    assert ", beyond keep = 2" in next(line for line in shown.splitlines() if "deleted  " in line)
    assert listed.count("created, later deleted") == 1
    again = here.push("1.0", pushed_at=next(MOMENTS))
    assert here.ended(again)["deleted_at"] is None


def test_an_older_tag_pushed_by_hand_is_kept_and_drives_out_none(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    """It was created, deleted 12 ms later, and reported as success; or it drove out a newer one."""
    make(here, "1.0", "1.1", "1.2")
    until(lambda: versions(sandbox) == ["1.1", "1.2"])

    again = beside.json_of("push", f"{REPOSITORY}:1.0", "--wait", "--json")
    unknown = beside.json_of("push", f"{REPOSITORY}:0.1", "--wait", "--json")
    pruned = beside.run("prune", APP)

    assert [one["outcome"] for one in again["registrations"]] == ["created"]
    assert [one["outcome"] for one in unknown["registrations"]] == ["created"]
    assert pruned.stdout == f"{APP} has no versions to delete.\n"
    make(here, "1.3")
    until(lambda: sorted(versions(sandbox)) == ["0.1", "1.0", "1.2", "1.3"])


def test_one_pushed_by_hand_counts_as_any_other_once_its_tag_is_pushed_again(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    make(here, "1.0", "1.1", "1.2")
    until(lambda: versions(sandbox) == ["1.1", "1.2"])
    beside.json_of("push", f"{REPOSITORY}:1.0", "--wait", "--json")

    make(here, "1.0")
    make(here, "1.3", "1.4")

    until(lambda: versions(sandbox) == ["1.3", "1.4"])


def test_the_newest_push_asked_for_by_hand_counts_as_any_other(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    """As a build does that waits for its version."""
    for tag in ("1.0", "1.1", "1.2", "1.3"):
        make(here, tag)
        beside.json_of("push", f"{REPOSITORY}:{tag}", "--wait", "--json")

    until(lambda: versions(sandbox) == ["1.2", "1.3"])


def test_an_older_delivery_that_a_person_replays_is_kept(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    first = here.push("1.0", pushed_at=next(MOMENTS))
    here.ended(first)
    make(here, "1.1", "1.2")
    until(lambda: "1.0" not in versions(sandbox))

    beside.run("replay", first)
    until(lambda: "1.0" in versions(sandbox))
    make(here, "1.3")

    until(lambda: sorted(versions(sandbox)) == ["1.0", "1.2", "1.3"])
