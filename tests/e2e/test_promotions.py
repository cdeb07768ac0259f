"""Promoting: what changes is shown first, and the registry must still have that image."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from receiver import backoff
from receiver.cli import channels
from receiver.ledger.approvals import approvable, waiting_moves
from receiver.ledger.channels import wake_channel
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.signing import ApprovalToken
from receiver.upkeep import promotion
from tests.support.approvals import approve_waiting, registration_of
from tests.support.commands import Commands, commands_beside
from tests.support.dockerhub import deliveries, hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, until
from tests.support.visitor import PAGE, visitor

CHANNELS = f"""
[[channel]]
app = "{APP}"
name = "prod"
from = "staging"
tags = "never-*"
"""
CONFIG = RULE.replace("preflight = false", 'channels = ["staging"]') + CHANNELS + NO_CATCH_UP
APPROVED = f"""{CONFIG}
[[channel]]
app = "{APP}"
name = "staging"
needs = ["approval"]
"""


@pytest.fixture
def hub() -> DockerHubSandbox:
    made = DockerHubSandbox()
    made.add_repository(REPOSITORY)
    for tag in ("1.0", "1.1"):
        made.push_image(REPOSITORY, tag)
    return made


@pytest.fixture
def here(edgegap: str, hub: DockerHubSandbox, tmp_path: Path) -> Iterator[ReceiverHere]:
    with (
        hub_beside(hub) as variables,
        receiver_here(tmp_path, edgegap, config=CONFIG, environment={**PAGE, **variables}) as one,
    ):
        one.environment["PORT"] = one.url.rpartition(":")[2]
        yield one


@pytest.fixture
def commands(here: ReceiverHere) -> Commands:
    return commands_beside(here)


def pushed(here: ReceiverHere, tag: str) -> dict[str, Any]:
    """Push a tag that moves `staging`."""
    delivery = here.push(tag)
    here.ended(delivery)
    return {one["version"]: one for one in here.details(delivery)["registrations"]}


def reloaded(here: ReceiverHere, config: str) -> None:
    here.config.write_text(config, "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults


def test_what_changes_is_shown_before_the_move(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    digest = pushed(here, "1.0")["staging"]["digest"]

    first = commands.run("promote", APP, "prod")
    assert first.exit_code == 0, first.output
    assert first.stderr.splitlines()[:6] == [
        "my-game/prod",
        "  has      nothing yet",
        f"  gets     {REPOSITORY}:1.0",
        f"  digest   {digest}",
        "  trial    it was not tried",
        "  running  0 deployments of the channel",
    ]
    assert "Promoted my-game/prod to 1.0." in first.stdout
    until(lambda: (APP, "prod") in sandbox.versions)

    pushed(here, "1.1")
    sandbox.deployments.run(APP, "prod", "players")
    second = commands.run("promote", APP, "prod", "--from", "staging", "--yes")
    assert f"  has      {REPOSITORY}:1.0" in second.stderr
    assert "  running  1 deployment of the channel" in second.stderr
    until(lambda: sandbox.versions[APP, "prod"]["docker_tag"] == "1.1")


def test_what_stays_although_the_rule_has_another_value_is_not_shown_as_a_change(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    """Edgegap sets resources only when a version is made: the move does not send them."""
    pushed(here, "1.0")
    here.ended(commands.json_of("promote", APP, "prod", "--json")["delivery"])
    reloaded(here, CONFIG.replace("req_memory = 2048", "req_memory = 1024"))
    pushed(here, "1.1")

    done = commands.run("promote", APP, "prod", "--to", "1.1")

    assert "  changes" not in done.stderr
    assert "  note     req_memory stays 2048: " in done.stderr
    until(lambda: sandbox.versions[APP, "prod"]["docker_tag"] == "1.1")
    assert sandbox.versions[APP, "prod"]["req_memory"] == 2048


def settings_of(before: str, duration: int, value: str) -> str:
    """The configuration with a limit on matches, and with a hidden variable."""
    envs = f'envs = [{{ key = "DB", value = "{value}", is_hidden = true }}]'
    lines = f"req_memory = 2048\nmax_duration = {duration}\n{envs}"
    return before.replace("req_memory = 2048", lines)


def test_what_a_move_changes_is_shown_before_it(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    """A rule that changed since the version was created changed its settings without a word."""
    reloaded(here, settings_of(CONFIG, 60, "canary-1"))
    for tag in ("1.0", "1.1"):
        pushed(here, tag)
    moved = commands.json_of("promote", APP, "prod", "--to", "1.0", "--json")
    here.ended(moved["delivery"])
    with visitor(here) as one:
        page = one.get(f"/promote?app={APP}&channel=prod&to=1.1")
    assert "Settings that change" not in page.text

    reloaded(here, settings_of(CONFIG, 5, "canary-2"))
    with visitor(here) as one:
        page = one.get(f"/promote?app={APP}&channel=prod&to=1.1")
    done = commands.run("promote", APP, "prod", "--to", "1.1")

    lines = [line for line in done.stderr.splitlines() if "  changes" in line]
    assert lines == [
        "  changes  max_duration: 60 → 5",
        "  changes  variable DB: a value → another value",
    ]
    assert "<bdi>60</bdi> → <bdi>5</bdi>" in page.text
    assert "canary" not in page.text + done.output
    until(lambda: sandbox.versions[APP, "prod"]["docker_tag"] == "1.1")
    assert sandbox.versions[APP, "prod"]["max_duration"] == 5


def test_each_question_before_a_move_says_what_changes_and_what_runs(
    here: ReceiverHere,
    commands: Commands,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`Move …` and `receiver rollback` named neither; `Promote …` did."""
    reloaded(here, settings_of(CONFIG, 60, "canary-1"))
    digest = pushed(here, "1.0")["staging"]["digest"]
    pushed(here, "1.1")
    reloaded(here, settings_of(CONFIG, 5, "canary-2"))
    sandbox.deployments.run(APP, "staging")
    monkeypatch.setattr(channels, "is_interactive", lambda: True)
    facts = [
        ("has", f"{REPOSITORY}:1.1"),
        ("gets", f"{REPOSITORY}:1.0"),
        ("digest", digest),
        ("trial", "it was not tried"),
        ("running", "1 deployment of the channel"),
        ("changes", "max_duration: 60 → 5"),
        ("changes", "variable DB: a value → another value"),
    ]

    with visitor(here) as one:
        form = one.read("/channels").form("/do/move", channel="staging")
        asked = one.post("/do/move", data=form)
    done = commands.run("rollback", APP, "staging", given="n\n")

    lines = [line.split(maxsplit=1) for line in done.stderr.splitlines()[1:-2]]
    assert lines == [[name, fact] for name, fact in facts]
    assert "Move my-game/staging to 1.0?" in done.stderr
    assert (done.exit_code, "nothing was moved" in done.stderr) == (1, True)
    assert all(f"<li><bdi>{name.capitalize()}: {fact}" in asked.text for name, fact in facts)
    assert "Roll back staging of my-game from 1.1 to 1.0?" in asked.text
    assert "canary" not in asked.text + done.output


def test_a_question_says_why_a_channel_cannot_be_moved(here: ReceiverHere) -> None:
    pushed(here, "1.0")
    tried = CHANNELS.replace('tags = "never-*"', 'needs = ["trial"]')
    trial = '\n[rule.trial]\nat = "45.5,-73.6"\n'
    reloaded(here, CONFIG.replace(CHANNELS, trial + tried))

    with visitor(here) as one:
        form = one.read("/channels").form("/promote", channel="prod")
        csrf = one.read("/").form("/logout")["csrf"]
        asked = one.post("/do/move", data={**form, "csrf": csrf, "to": "1.0"})

    assert "It cannot be moved: my-game/prod takes only what passed a trial" in asked.text


def test_a_person_who_approves_sees_what_the_move_changes(
    here: ReceiverHere,
    commands: Commands,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if Edgegap does not return the channel, the link opens.

    Each preview of the link was a call to Edgegap, which limits the calls of all registrations.
    """
    reloaded(here, settings_of(APPROVED, 60, "canary-1"))
    delivery = here.push("1.0")
    until(lambda: registration_of(here, delivery, "staging")["state"] == "waiting")
    first = commands.json_of("promote", APP, "staging", "--to", "1.0", "--json")["delivery"]
    here.ended(first)
    commands.run("release", APP, "staging")
    reloaded(here, settings_of(APPROVED, 5, "canary-2"))
    delivery = here.push("1.1")
    until(lambda: registration_of(here, delivery, "staging")["state"] == "waiting")
    (move,) = here.ledger.read_sync(waiting_moves)
    asked = here.ledger.read_sync(lambda tx: approvable(tx, move.registration_id))
    assert asked is not None
    link = here.service.approvals.link("", ApprovalToken(asked, 2**33))

    before = len(sandbox.calls)
    with ThreadPoolExecutor() as previews:
        (shown, *others) = previews.map(lambda _: httpx.get(here.url + link, trust_env=False), "ab")
    assert [one.text for one in others] == [shown.text]
    paths = sorted(one.path for one in sandbox.calls[before:])
    assert paths == ["/v1/app/my-game/version/staging", "/v1/deployments"]
    monkeypatch.setattr(promotion, "FRESH_SECONDS", 0.0)
    sandbox.misbehave(Fault("status", path_contains="/version/staging", status=503, times=None))
    blind = httpx.get(here.url + link, trust_env=False)

    assert "<bdi>60</bdi> → <bdi>5</bdi>" in shown.text
    assert "canary" not in shown.text
    assert (blind.status_code, "did not return the channel" in blind.text) == (200, True)


def test_a_rule_renamed_while_its_version_is_created_moves_its_channels(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """The version was created, and its channel stayed where it was without a word."""
    pushed(here, "1.0")
    sandbox.misbehave(Fault("slow", method="POST"))
    delivery = here.push("1.1")
    until(lambda: here.details(delivery)["registrations"][0]["state"] == "working")
    here.config.write_text(CONFIG.replace("[[rule]]", '[[rule]]\nname = "other"', 1), "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults
    sandbox.proceed()

    here.ended(delivery)

    until(lambda: sandbox.versions[APP, "staging"]["docker_tag"] == "1.1")


@pytest.mark.parametrize("line", ["versions = false", 'version = "b-{tag}"'])
def test_the_command_that_a_waiting_move_names_approves_it(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox, line: str
) -> None:
    """It failed: the ledger knows no version of the tag's name."""
    reloaded(here, APPROVED.replace("channels =", f"{line}\nchannels ="))
    waits = registration_of(here, here.push("1.0"), "staging")
    assert "`receiver promote my-game staging --to 1.0`" in waits["sentence"]

    done = commands.run("promote", APP, "staging", "--to", "1.0", "--yes")

    assert done.exit_code == 0, done.output
    assert f"  digest   {waits['digest']}" in done.stderr
    until(lambda: (APP, "staging") in sandbox.versions)


def test_what_waited_is_promoted_only_with_its_digest(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    reloaded(here, APPROVED.replace("channels =", "versions = false\nchannels ="))
    registration_of(here, here.push("1.0"), "staging")
    hub.push_image(REPOSITORY, "1.0")

    done = commands.json_of("promote", APP, "staging", "--to", "1.0", "--json")

    assert here.ended(done["delivery"])["reason"] == "digest_changed"
    assert (APP, "staging") not in sandbox.versions


def test_a_renamed_rule_keeps_the_move_that_waits(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """It was parked as `rule_gone`, and the approval that was asked for moved nothing."""
    reloaded(here, APPROVED)
    delivery = here.push("1.0")
    waits = registration_of(here, delivery, "staging")
    assert waits["reason"] == "needs_approval"

    reloaded(here, APPROVED.replace("[[rule]]", '[[rule]]\nname = "other"', 1))

    kept = registration_of(here, delivery, "staging")
    assert (kept["id"], kept["rule"], kept["reason"]) == (waits["id"], "other", "needs_approval")
    # The reload lets it be decided again, and it does not wait meanwhile.
    until(lambda: here.inside(lambda: here.ledger.write(approve_waiting)))
    here.wake()
    until(lambda: (APP, "staging") in sandbox.versions)


def test_a_person_who_does_not_confirm_moves_nothing(
    here: ReceiverHere,
    commands: Commands,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pushed(here, "1.0")
    monkeypatch.setattr(channels, "is_interactive", lambda: True)

    done = commands.run("promote", APP, "prod", given="n\n")

    assert (done.exit_code, "nothing was moved" in done.stderr) == (1, True)
    assert "Move my-game/prod to 1.0?" in done.stderr
    assert (APP, "prod") not in sandbox.versions
    assert commands.run("promote", APP, "prod", given="y\n").exit_code == 0


def test_a_tag_that_was_overwritten_since_is_not_promoted(
    here: ReceiverHere, commands: Commands, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    digest = pushed(here, "1.0")["staging"]["digest"]
    hub.push_image(REPOSITORY, "1.0")

    answer = commands.json_of("promote", APP, "prod", "--json")
    ended = here.ended(answer["delivery"])

    assert (ended["state"], ended["reason"]) == ("parked", "digest_changed")
    assert digest in ended["sentence"]
    assert (APP, "prod") not in sandbox.versions


@pytest.mark.parametrize("fault", [Fault("status", status=503), Fault("reset", times=None)])
def test_a_digest_that_cannot_be_read_moves_nothing(
    here: ReceiverHere,
    commands: Commands,
    hub: DockerHubSandbox,
    sandbox: EdgegapSandbox,
    fault: Fault,
) -> None:
    pushed(here, "1.0")
    hub.push_image(REPOSITORY, "1.0")
    hub.misbehave(replace(fault, path_contains="/manifests/"))

    delivery = commands.json_of("promote", APP, "prod", "--json")["delivery"]

    waits = until(lambda: waiting(here, delivery))
    assert waits["reason"] == "docker_hub_unavailable"
    assert "only once the registry confirms" in waits["sentence"]
    hub.behave()
    ended = here.ended(delivery)
    assert (ended["state"], ended["reason"]) == ("parked", "digest_changed")
    assert (APP, "prod") not in sandbox.versions


def waiting(here: ReceiverHere, delivery: str) -> dict[str, Any]:
    """The one registration of a delivery, if it waits."""
    (found,) = here.details(delivery)["registrations"]
    return dict(found) if found["state"] == "waiting" else {}


def test_a_move_that_waited_for_the_registry_is_made_once_it_answers(
    here: ReceiverHere, commands: Commands, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    pushed(here, "1.0")
    hub.misbehave(Fault("status", status=503, path_contains="/manifests/"))

    answer = commands.json_of("promote", APP, "prod", "--json")

    assert here.ended(answer["delivery"])["outcome"] == "created"
    assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.0"


def test_a_rule_without_preflight_compares_no_digest_and_says_so(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    config = CONFIG.replace('channels = ["staging"]', 'preflight = false\nchannels = ["staging"]')
    with receiver_here(tmp_path, edgegap, config=config) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        pushed(here, "1.0")
        answer = commands_beside(here).json_of("promote", APP, "prod", "--json")
        ended = here.ended(answer["delivery"])

    assert ended["outcome"] == "created"
    assert any("it was not checked that the tag still has" in note for note in ended["notes"])


def test_what_was_shown_is_what_is_moved_or_nothing(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    headers = {"Authorization": f"Bearer {here.api_token()}"}
    asked = {"app": APP, "channel": "prod", "from": "staging"}
    with httpx.Client(base_url=here.url, headers=headers, trust_env=False) as api:
        assert api.get("/api/promotion", params=asked).status_code == 409
        pushed(here, "1.0")
        shown = api.get("/api/promotion", params=asked).json()
        pushed(here, "1.1")
        late = api.post("/api/promote", json={**asked, "tag": shown["tag"]})
        assert (late.status_code, late.json()["code"]) == (409, "channel_not_changed")
        assert "would get 1.1 now, not 1.0" in late.json()["detail"]
        assert api.post("/api/promote", json={**asked, "tag": "1.1"}).status_code == 202
    until(lambda: (APP, "prod") in sandbox.versions)


def test_the_page_shows_it_before_its_button(here: ReceiverHere, sandbox: EdgegapSandbox) -> None:
    pushed(here, "1.0")
    with visitor(here) as person:

        def offered() -> bool:
            return "/promote" in [action for action, _ in person.read("/channels").forms]

        assert offered()
        page = person.read(f"/promote?app={APP}&channel=prod&to={REPOSITORY}:1.0")
        assert "Move my-game/prod to 1.0?" in page.text
        assert f"Has nothing yet Gets {REPOSITORY}:1.0 Digest sha256:" in page.text
        assert (APP, "prod") not in sandbox.versions
        moved = person.post("/do/promote", data=page.form("/do/promote", tag="1.0"))
        assert moved.headers["location"].startswith("/deliveries/")
        until(lambda: (APP, "prod") in sandbox.versions)
        until(lambda: not offered())  # it has the same image
        holds = [one for one in person.read("/channels").links() if one.startswith("/promote?")]
        assert holds == [f"/promote?app={APP}&channel=staging&to=studio%2Fgame-server%3A1.0"]
        assert "Hold my-game/staging at 1.0?" in person.read(holds[0]).text
        gone = person.read(f"/promote?app={APP}&channel=nothing&from=staging", status=409)
        assert "moves no version nothing" in gone.text


def test_what_was_shown_is_promoted_or_nothing(
    here: ReceiverHere,
    commands: Commands,
    hub: DockerHubSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tag was pushed again before the person confirmed it, and players got another image."""
    moving = CONFIG.replace("channels =", 'on_overwrite = "move"\nchannels =', 1)
    reloaded(here, moving)
    at = int(time.time()) - 100
    here.ended(here.push("1.0", pushed_at=at))
    monkeypatch.setattr(channels, "is_interactive", lambda: True)

    def push_again(*_: object, **__: object) -> bool:
        digest = hub.push_image(REPOSITORY, "1.0")
        delivery = here.push("1.0", pushed_at=at + 10)
        until(lambda: registration_of(here, delivery, "staging")["digest"] == digest)
        return True

    monkeypatch.setattr(click, "confirm", push_again)
    with visitor(here) as person:
        form = person.read(f"/promote?app={APP}&channel=prod").form("/do/promote")
        done = commands.run("promote", APP, "prod")
        person.post("/do/promote", data=form)
        said = person.read("/channels").text

    for text in (done.stderr, said):
        assert f"which 1.0 has since it was overwritten, not {form['digest']}" in text
    assert {one.source for one in deliveries(here)} == {"webhook"}


def test_who_promotes_what_waits_for_an_approval_approves_it(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    """The channels that take images of it got the move from the link only."""
    following = APPROVED.replace('from = "staging"\ntags = "never-*"', 'from = "staging"')
    reloaded(here, following)
    delivery = here.push("1.0")
    assert registration_of(here, delivery, "staging")["reason"] == "needs_approval"

    commands.json_of("promote", APP, "staging", "--to", "1.0", "--json")

    until(lambda: (APP, "prod") in sandbox.versions)
    assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.0"


def test_what_waits_for_an_approval_ends_when_a_later_image_moves_the_channel(
    here: ReceiverHere, commands: Commands
) -> None:
    """Its link went on to say "Approved. The channel is being moved." for half an hour."""
    reloaded(here, APPROVED)
    older, newer = here.push("1.0"), here.push("1.1")
    for delivery in (older, newer):
        assert registration_of(here, delivery, "staging")["reason"] == "needs_approval"

    commands.json_of("promote", APP, "staging", "--to", "1.1", "--json")

    until(lambda: registration_of(here, older, "staging")["outcome"] == "superseded")


@pytest.mark.parametrize("on_overwrite", ["warn", "move"])
def test_a_push_of_the_same_tag_does_not_change_which_image_was_promoted(
    here: ReceiverHere,
    hub: DockerHubSandbox,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
    on_overwrite: str,
) -> None:
    """The push joined the move that waited, and players got an image that nobody was shown."""
    monkeypatch.setattr(backoff, "MAX_BACKOFF", 600_000)
    monkeypatch.setattr(backoff, "FIRST_BACKOFF", 600_000)
    config = f'on_overwrite = "{on_overwrite}"\nchannels = ["staging", "live"]'
    reloaded(here, CONFIG.replace('channels = ["staging"]', config))
    at = int(time.time()) - 100
    for number, tag in enumerate(("1.0", "1.1")):
        here.ended(here.push(tag, pushed_at=at + number))
    sandbox.misbehave(Fault("status", path_contains="/version/live", status=503))
    asked = commands_beside(here).json_of("promote", APP, "live", "--to", "1.0", "--json")[
        "delivery"
    ]
    assert until(lambda: waiting(here, asked))["reason"] == "edgegap_error"
    hub.push_image(REPOSITORY, "1.0")
    again = here.push("1.0", pushed_at=at + 10)
    until(lambda: len(here.details(again)["registrations"]) == 3)

    here.inside(lambda: here.ledger.write(lambda tx: wake_channel(tx, APP, "live")))
    here.wake()
    ended = here.ended(asked)

    assert (ended["state"], ended["reason"]) == ("parked", "digest_changed")
    assert sandbox.versions[APP, "live"]["docker_tag"] == "1.1"


def test_a_push_that_joins_a_promotion_while_it_is_made_does_not_park_it(
    here: ReceiverHere, commands: Commands, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    reloaded(here, CONFIG.replace('["staging"]', '["staging", "live"]'))
    at = int(time.time()) - 100
    for number, tag in enumerate(("1.0", "1.1")):
        here.ended(here.push(tag, pushed_at=at + number))
    sandbox.misbehave(Fault("slow", method="PATCH", path_contains="/version/live"))
    asked = commands.json_of("promote", APP, "live", "--to", "1.0", "--json")["delivery"]
    until(lambda: [one for one in sandbox.calls if one.method == "PATCH"][2:])  # two were of 1.1
    hub.push_image(REPOSITORY, "1.0")
    again = here.push("1.0", pushed_at=at + 10)
    until(lambda: len(here.details(again)["registrations"]) == 3)
    sandbox.proceed()

    ended = here.ended(asked)

    assert ended["outcome"] == "updated"
    assert sandbox.versions[APP, "live"]["docker_tag"] == "1.0"


def test_the_board_says_who_moved_a_channel(here: ReceiverHere) -> None:
    """It named the source only: `push by webhook`."""
    pushed(here, "1.0")
    asked = {"app": APP, "channel": "prod", "to": "1.0"}
    token = {"Authorization": f"Bearer {here.api_token()}"}
    moved = httpx.post(f"{here.url}/api/promote", json=asked, headers=token, trust_env=False)
    here.ended(moved.json()["delivery"])

    listed = httpx.get(f"{here.url}/api/channels", headers=token, trust_env=False).json()

    by = {one["channel"]: one["moves"][0]["by"] for one in listed["channels"]}
    assert by["staging"] == "builder"
    assert by["prod"].startswith("api (")
    with visitor(here) as person:
        shown = person.read("/channels").text
    assert "push by builder, rule" in shown
    assert f"promote by {by['prod']}, rule" in shown
