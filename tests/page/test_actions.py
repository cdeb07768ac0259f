"""What a person does on the page: replay, rollback, pruning, pausing, each from its form."""

from pathlib import Path

import pytest

from receiver.ledger.channels import read_channel_state
from receiver.ledger.transaction import Tx
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.web.health import overview_of
from receiver.web.page import questions
from receiver.web.page.overview import steps_of, try_public_address
from tests.support.dockerhub import deliveries, hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import (
    APP,
    REPOSITORY,
    RULE,
    until,
    webhook_body,
)
from tests.support.visitor import PAGE, Reading, Visitor, visitor

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]\nkeep = 2')
CONFIG += '\n[catch_up]\nevery = "off"\n'
pytestmark = pytest.mark.usefixtures("lists_are_read_at_once")


def said(person: Visitor, path: str) -> str:
    return person.read(path).text


def test_a_parked_push_is_replayed_from_its_own_page(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "2.0.0", docker_image="studio/another")
    identity = receiver.push("2.0.0")
    assert receiver.ended(identity)["state"] == "parked"
    sandbox.delete_version(APP, "2.0.0")

    form = person.read(f"/deliveries/{identity}").form("/do/replay", delivery=identity)
    answer = person.post("/do/replay", data=form)

    assert (answer.status_code, answer.headers["location"]) == (303, f"/deliveries/{identity}")
    assert "The delivery was replayed" in said(person, answer.headers["location"])
    assert "The delivery was replayed" not in said(person, answer.headers["location"])
    assert receiver.ended(identity)["outcome"] == "created"


def test_a_replay_of_an_unknown_delivery_is_refused_with_a_message(person: Visitor) -> None:
    answer = person.do("replay", delivery="d0<script>")

    assert answer.status_code == 400
    assert "There is no delivery d0&lt;script&gt;" in answer.text


def test_a_channel_is_rolled_back_to_what_it_held(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    for tag in ("1.0.0", "1.1.0"):
        receiver.ended(receiver.push(tag))
        until(lambda tag=tag: has(receiver, sandbox) == tag)  # type: ignore[misc]
    until(lambda: "1.1.0, before that studio/game-server:1.0.0" in said(person, "/channels"))

    form = person.read("/channels").form("/do/move", channel="staging")
    answer = person.confirm("/do/move", form)

    assert "my-game/staging back from 1.1.0 to 1.0.0" in said(person, answer.headers["location"])
    until(lambda: has(receiver, sandbox) == "1.0.0")


def test_a_channel_is_released_and_promoted_and_its_moves_are_listed(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    for tag in ("2.0.0", "2.1.0"):
        receiver.ended(receiver.push(tag))
        until(lambda tag=tag: has(receiver, sandbox) == tag)  # type: ignore[misc]
    until(lambda: "Last 2 moves" in said(person, "/channels"))
    moving = person.read("/channels").form("/do/move", channel="staging")
    person.confirm("/do/move", {**moving, "to": "2.0.0"})
    assert receiver.ended(deliveries(receiver)[0].id)["outcome"] == "updated"
    until(lambda: "Held at 2.0.0 for " in said(person, "/channels"))
    released = person.confirm(
        "/do/release", person.read("/channels").form("/do/release", channel="staging")
    )
    assert "Released my-game/staging" in said(person, released.headers["location"])
    assert "Held at" not in said(person, "/channels")

    answer = person.do("promote", app=APP, channel="staging", to="2.1.0")

    shown = person.read(answer.headers["location"])
    assert "Promoted my-game/staging to 2.1.0" in shown.text
    assert "`" not in shown.text
    until(lambda: has(receiver, sandbox) == "2.1.0")
    until(lambda: "2.0.0 → 2.1.0 promote by page" in said(person, "/channels"))
    again = person.do("promote", app=APP, channel="staging")
    assert "Nothing was moved: name either" in said(person, again.headers["location"])


def test_a_rollback_that_cannot_be_done_says_why(person: Visitor) -> None:
    answer = person.do("rollback", app=APP, channel="<i>nothing</i>")

    assert answer.headers["location"] == "/channels"
    assert "Nothing was moved: this receiver moves no version <i>nothing</i>" in said(
        person, "/channels"
    )


def test_what_is_beyond_what_is_kept_is_deleted(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    receiver.service.worker._retention.begin = lambda app: None  # type: ignore[method-assign]
    for n in range(4):
        receiver.ended(receiver.push(f"1.{n}.0", pushed_at=1_790_000_000 + n))
    until(lambda: has(receiver, sandbox) == "1.3.0")

    form = person.read("/versions").form("/do/prune")
    answer = person.confirm("/do/prune", form)

    assert set(form) == {"csrf", "app"}
    assert answer.headers["location"] == "/versions"
    assert {name for _, name in sandbox.versions} == {"1.2.0", "1.3.0", "staging"}
    shown = said(person, "/versions")
    assert "Deleted 1.0.0, 1.1.0." in shown
    assert "1.0.0 deleted" in shown
    assert "beyond keep = 2" in shown


def test_many_versions_are_deleted_from_a_small_form_and_only_those_that_were_named(
    receiver: ReceiverHere, person: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the names of thousands in the page's form, nothing could be deleted."""
    receiver.inside(lambda: receiver.service.ledger.write(_many_versions))
    shown = person.read("/versions")

    asked = person.post("/do/prune", data=shown.form("/do/prune"))

    assert "1.0.0, 1.0.1," in shown.text
    assert "1.0.49 and more may be deleted" in shown.text
    assert "Delete the oldest 50, 1.0.0, 1.0.1," in asked.text
    named = Reading(asked.text).form("/do/prune", confirmed="yes")["versions"].split()
    assert named == [f"1.0.{number}" for number in range(50)]


def _many_versions(tx: Tx) -> int:
    columns = ("app", "version", "mode", "repository", "tag", "push_time", "created_here")
    rows = [
        (APP, f"1.0.{n}", "create", REPOSITORY, f"1.0.{n}", n * 1000, True, 1, f"r{n}", 1)
        for n in range(3000)
    ]
    return tx.insert("targets", (*columns, "made_at", "registration_id", "updated_at"), rows)


@pytest.mark.parametrize("action", ["prune", "make-room"])
def test_nothing_is_deleted_of_an_app_that_no_rule_names(person: Visitor, action: str) -> None:
    assert person.do(action, app="another", delivery="d0").status_code == 400


def test_room_is_made_for_a_push_that_met_the_limit(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    receiver.ended(receiver.push("1.0.0", pushed_at=1_790_000_000))
    receiver.ended(receiver.push("1.1.0", pushed_at=1_790_000_100))
    until(lambda: has(receiver, sandbox) == "1.1.0")
    sandbox.version_limit = 3
    identity = receiver.push("1.2.0", pushed_at=1_790_000_200)
    assert receiver.ended(identity)["reason"] == "version_limit"

    shown = person.read(f"/deliveries/{identity}")
    assert "Delete 1.0.0 and replay" in shown.text
    form = shown.form("/do/make-room", delivery=identity)
    asked = person.post("/do/make-room", data=form)
    answer = person.confirm("/do/make-room", form)

    assert "<li><bdi>1.0.0: no deployment of it is running</bdi></li>" in asked.text
    assert "Deleted 1.0.0. The push was replayed." in said(person, answer.headers["location"])
    assert receiver.ended(identity)["outcome"] == "created"
    assert (APP, "1.0.0") not in sandbox.versions


def test_where_no_room_can_be_made_the_page_says_so(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "by-hand")
    sandbox.version_limit = 1
    identity = receiver.push("1.0.0")
    assert receiver.ended(identity)["reason"] == "version_limit"

    assert "cannot delete any version of this app" in said(person, f"/deliveries/{identity}")
    answer = person.do("make-room", app=APP, delivery=identity)
    assert "Nothing can be deleted" in said(person, answer.headers["location"])
    assert (APP, "by-hand") in sandbox.versions


@pytest.mark.parametrize(("repository", "named"), [(REPOSITORY, REPOSITORY), ("*", "Everything")])
def test_a_pause_holds_back_until_it_is_ended(
    receiver: ReceiverHere, person: Visitor, repository: str, named: str
) -> None:
    form = person.read("/rules").form("/do/pause", repository=repository)
    if repository == "*":
        person.confirm("/do/pause", form)
    else:
        person.post("/do/pause", data=form)
    identity = receiver.push("1.0.0")

    paused = person.read("/")
    assert f"{named} is paused" in paused.text
    assert receiver.details(identity)["registrations"][0]["state"] == "queued"
    answer = person.post("/do/resume", data=paused.form("/do/resume", repository=repository))

    assert answer.headers["location"] == "/"
    assert receiver.ended(identity)["outcome"] == "created"
    assert f"{named} is paused" not in said(person, "/")


@pytest.mark.parametrize("repository", ["", "no-slash", "a/b/c", "studio/\u202egame", "<b>/x"])
def test_only_repositories_are_paused(person: Visitor, repository: str) -> None:
    assert person.do("pause", repository=repository).status_code == 400


def test_a_repository_that_nobody_knows_is_not_paused(person: Visitor) -> None:
    answer = person.do("pause", repository="studio/gameserver")

    assert "Nothing was paused: no rule names studio/gameserver" in said(
        person, answer.headers["location"]
    )
    assert "studio/gameserver is paused" not in said(person, "/")


def test_an_action_redirects_to_no_other_site(person: Visitor) -> None:
    answer = person.do("pause", repository=REPOSITORY, back="https://evil.example/")

    assert answer.headers["location"] == "/"


def test_what_is_parked_alike_is_one_line_each_and_replayed_at_once(
    receiver: ReceiverHere,
    person: Visitor,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each had its sentence: thirty were a wall under which nothing else of the page was found."""
    tags = [f"3.{number}.0" for number in range(3)]
    for tag in tags:
        sandbox.add_version(APP, tag, docker_image="studio/another")
    pushes = [receiver.push(tag) for tag in tags]
    for identity in pushes:
        assert receiver.ended(identity)["reason"] == "name_taken"
    for tag in tags:
        sandbox.delete_version(APP, tag)

    shown = person.read("/")
    form = shown.form("/do/replay-parked")
    asked = Reading(person.post("/do/replay-parked", data=form).text)
    assert "Replay all 3 parked? 3 for name_taken: my-game/3.2.0, my-game/3.1.0, my-game/3.0.0" in (
        asked.text
    )
    monkeypatch.setattr(questions, "MAX_NAMED", 1)
    asked = Reading(person.post("/do/replay-parked", data=form).text)
    assert "3 for name_taken: my-game/3.2.0, and 2 more" in asked.text
    assert "parked name_taken 3 Replay these 3 parked for name_taken Dismiss these 3" in shown.text
    assert shown.text.count("Push under a new tag") == 1
    these = shown.form("/do/replay-reason")
    asked = Reading(person.post("/do/replay-reason", data=these).text)
    assert (
        "Replay my-game/3.2.0, my-game/3.1.0, my-game/3.0.0, parked for name_taken?" in asked.text
    )
    assert [receiver.details(one)["registrations"][0]["state"] for one in pushes] == ["parked"] * 3

    answer = person.confirm("/do/replay-reason", these)

    assert answer.headers["location"] == "/"
    assert "3 pushes were replayed" in said(person, "/")
    for identity in pushes:
        until(lambda identity=identity: receiver.ended(identity)["outcome"] == "created")  # type: ignore[misc]
    assert "replay-parked" not in person.read("/").html


def test_what_is_dangerous_is_confirmed_on_a_page_of_its_own(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    """The question was our script's: without JavaScript nothing asked."""
    for tag in ("1.0.0", "1.1.0"):
        receiver.ended(receiver.push(tag))
        until(lambda tag=tag: has(receiver, sandbox) == tag)  # type: ignore[misc]
    until(lambda: "before that" in said(person, "/channels"))
    form = person.read("/channels").form("/do/move", channel="staging")

    asked = person.post("/do/move", data=form)

    assert "Roll back staging of my-game from 1.1.0 to 1.0.0?" in asked.text
    assert has(receiver, sandbox) == "1.1.0"
    person.confirm("/do/move", form)
    until(lambda: has(receiver, sandbox) == "1.0.0")
    fields = {**form, "versions": "1.0.0"}
    for name, question in (
        ("release", "Let pushes move staging of my-game again? It has 1.0.0."),
        ("prune", "Delete 1.0.0 of my-game at Edgegap?"),
        ("replay-parked", "Replay all 0 parked?"),
    ):
        assert question in person.post(f"/do/{name}", data=fields).text


def moved(receiver: ReceiverHere, sandbox: EdgegapSandbox, *tags: str) -> None:
    """Push tags, each of which moves the channel."""
    for number, tag in enumerate(tags):
        receiver.ended(receiver.push(tag, pushed_at=1_790_000_000 + number))
        until(lambda tag=tag: has(receiver, sandbox) == tag)  # type: ignore[misc]


def has(receiver: ReceiverHere, sandbox: EdgegapSandbox) -> str:
    """Return the channel's tag if Edgegap and the ledger, which is written after it, agree."""
    state = receiver.inside(
        lambda: receiver.service.ledger.read(lambda tx: read_channel_state(tx, APP, "staging"))
    )
    at_edgegap = sandbox.versions.get((APP, "staging"), {}).get("docker_tag")
    return state.tag if state.tag == at_edgegap else ""


def test_what_was_confirmed_is_done_or_nothing(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    """It asked for a move to 9.0.1, and after a push moved to 9.0.2."""
    moved(receiver, sandbox, "9.0.1", "9.0.2")
    until(lambda: "9.0.2, before that" in said(person, "/channels"))
    form = person.read("/channels").form("/do/move", channel="staging")
    named = Reading(person.post("/do/move", data={**form, "to": "9.0.1"}).text)
    previous = Reading(person.post("/do/move", data={**form, "to": ""}).text)
    for asked in (named, previous):
        assert "Roll back staging of my-game from 9.0.2 to 9.0.1?" in asked.text
    shown = previous.form("/do/move", to=f"{REPOSITORY}:9.0.1", tag="9.0.1", has="9.0.2")
    moved(receiver, sandbox, "9.0.3")

    answer = person.post("/do/move", data=shown)

    assert answer.headers["location"] == "/channels"
    assert "Nothing was moved: my-game/staging has 9.0.3 now, not 9.0.2" in said(
        person, "/channels"
    )
    assert has(receiver, sandbox) == "9.0.3"


def test_a_promotion_and_a_release_are_of_what_was_shown(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    moved(receiver, sandbox, "1.0.0", "1.1.0")
    promotion = person.read(f"/promote?app={APP}&channel=staging&to=1.0.0").form("/do/promote")
    assert (promotion["has"], promotion["tag"]) == ("1.1.0", "1.0.0")
    moved(receiver, sandbox, "1.2.0")

    answer = person.post("/do/promote", data=promotion)

    assert "has 1.2.0 now, not 1.1.0" in said(person, answer.headers["location"])
    person.do("promote", app=APP, channel="staging", to="1.0.0")
    until(lambda: has(receiver, sandbox) == "1.0.0")
    form = person.read("/channels").form("/do/release", channel="staging")
    asked = Reading(person.post("/do/release", data=form).text).form("/do/release", has="1.0.0")
    person.do("promote", app=APP, channel="staging", to="1.1.0")
    until(lambda: "Held at 1.1.0" in said(person, "/channels"))
    until(lambda: has(receiver, sandbox) == "1.1.0")
    answer = person.post("/do/release", data=asked)
    assert "Nothing was released: my-game/staging has 1.1.0" in said(person, "/channels")
    assert "Held at 1.1.0" in said(person, "/channels")


def test_a_later_version_is_promoted_and_an_earlier_one_rolled_back(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    """The choice was named "Roll back", also for a later version, and listed one tag twice."""
    receiver.service.worker._retention.begin = lambda app: None  # type: ignore[method-assign]
    moved(receiver, sandbox, "10.1.0", "10.2.0", "10.2.1")
    until(lambda: "10.2.1, before that" in said(person, "/channels"))
    until(lambda: "10.1.0" in choices(person))
    assert choices(person) == ["10.2.0", "10.1.0"]
    form = person.read("/channels").form("/do/move", channel="staging")
    answer = person.confirm("/do/move", {**form, "to": "10.2.0"})
    assert "Rolled my-game/staging back from 10.2.1 to 10.2.0" in said(
        person, answer.headers["location"]
    )
    until(lambda: has(receiver, sandbox) == "10.2.0")
    until(lambda: sorted(choices(person)) == ["10.1.0", "10.2.1"])

    asked = person.post("/do/move", data={**form, "to": "10.2.1"})

    assert "Promote staging of my-game from 10.2.0 to 10.2.1?" in asked.text
    answer = person.post("/do/move", data=Reading(asked.text).form("/do/move", confirmed="yes"))
    assert "Promoted my-game/staging to 10.2.1" in said(person, answer.headers["location"])
    until(lambda: "10.2.0 → 10.2.1 promote by page" in said(person, "/channels"))


def choices(person: Visitor) -> list[str]:
    elements = person.read("/channels").elements
    images = [one.get("value") or "" for name, one in elements if name == "option"]
    return [image.rpartition(":")[2] for image in images]


@pytest.mark.parametrize("action", ["move", "rollback", "release", "promote"])
def test_a_form_that_names_no_channel_is_refused(person: Visitor, action: str) -> None:
    csrf = person.read("/").form("/logout")["csrf"]

    answer = person.post(f"/do/{action}", data={"csrf": csrf})

    assert answer.status_code == 400
    assert "Name the app and the channel; nothing was changed." in answer.text


def test_room_is_made_only_for_a_push_that_met_the_limit(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    """The version was deleted first, then the delivery was looked for."""
    moved(receiver, sandbox, "1.0.0", "1.1.0")
    done = deliveries(receiver)[0].id
    before = set(sandbox.versions)

    for delivery, why in (("d0", "There is no delivery d0"), (done, "is not parked for")):
        for fields in ({}, {"versions": "1.0.0"}):
            answer = person.do("make-room", app=APP, delivery=delivery, **fields)
            assert (answer.status_code, why in answer.text) == (400, True)

    assert set(sandbox.versions) == before


def test_versions_are_deleted_only_by_their_names(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    receiver.service.worker._retention.begin = lambda app: None  # type: ignore[method-assign]
    moved(receiver, sandbox, "1.0.0", "1.1.0", "1.2.0")

    asked = Reading(person.do("prune", app=APP).text)
    moved(receiver, sandbox, "1.3.0")
    person.post("/do/prune", data=asked.form("/do/prune", versions="1.0.0"))

    assert "Delete 1.0.0 of my-game at Edgegap?" in asked.text
    assert {name for _, name in sandbox.versions} == {"1.1.0", "1.2.0", "1.3.0", "staging"}


def test_the_first_steps_turn_green_by_themselves(
    receiver: ReceiverHere, person: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: "has the app my-game: done" in said(person, "/"))
    shown = person.read("/")
    assert "The public address leads to this receiver: to do" in shown.text
    assert "A webhook of Docker Hub arrived: to do" in shown.text
    assert "The first version was created: to do" in shown.text
    public = receiver.service.links.link
    monkeypatch.setattr(
        type(receiver.service.links), "link", lambda _, base, name: public(receiver.url, name)
    )

    answer = person.post("/do/test-push", data=shown.form("/do/test-push", repository=REPOSITORY))

    shown = person.read(answer.headers["location"])
    assert "The test push arrived as delivery d" in shown.text
    assert "The public address leads to this receiver: done" in shown.text
    assert "A webhook of Docker Hub arrived: to do" in shown.text
    (row,) = deliveries(receiver)
    assert (row.source, row.reason) == ("test", "test_push")
    receiver.post(webhook_body("latest"))
    assert "A webhook of Docker Hub arrived: done" in said(person, "/")
    receiver.ended(receiver.push("1.0.0"))
    assert "First steps" not in said(person, "/")


@pytest.mark.parametrize("url", ["https://nowhere.invalid", "http://nowhere.invalid"])
def test_an_address_that_is_set_is_not_one_that_was_reached(
    edgegap: str, tmp_path: Path, url: str
) -> None:
    """The address counted as public because it began with https."""
    environment = {**PAGE, "RECEIVER_PUBLIC_URL": url}
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as receiver:
        service = receiver.service
        answer = receiver.inside(lambda: try_public_address(service, REPOSITORY))
        overview = receiver.inside(lambda: overview_of(service))

    assert answer.startswith("The test push did not arrive: nothing answers at the public URL")
    done = {one.title: one.done for one in steps_of(overview, service.settings, [])}
    assert done["A public https address is set"] == url.startswith("https")
    assert not done["The public address leads to this receiver"]
    assert not done["A webhook of Docker Hub arrived"]


@pytest.mark.parametrize(("private", "shown"), [(False, "done"), (True, "failed")])
def test_a_first_step_is_that_docker_hub_shows_the_repository(
    edgegap: str, tmp_path: Path, *, private: bool, shown: str
) -> None:
    """Whether the login may pull was not among them; catch-up learns it without a push."""
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY, private=private)
    hub.add_login("builder", "public-only")
    with hub_beside(hub) as found:
        login = {"DOCKERHUB_USERNAME": "builder", "DOCKERHUB_TOKEN": "public-only"}
        with (
            receiver_here(tmp_path, edgegap, environment={**PAGE, **found, **login}) as one,
            visitor(one) as person,
        ):
            step = f"Docker Hub shows {REPOSITORY} to the login: {shown}"
            until(lambda: step in said(person, "/"))


def test_the_first_steps_do_not_come_back(receiver: ReceiverHere, person: Visitor) -> None:
    """The last 50 registrations decided: many pushes that wait made it a new receiver."""
    receiver.ended(receiver.push("1.0.0"))
    assert person.do("pause", repository="*").status_code == 303
    for number in range(52):
        receiver.push(f"2.0.{number}")

    assert "First steps" not in said(person, "/")


def test_a_test_push_that_does_not_arrive_says_what_to_check(person: Visitor) -> None:
    answer = person.do("test-push", repository=REPOSITORY)

    assert "did not arrive" in said(person, answer.headers["location"])
    assert person.do("test-push", repository="studio/unknown").status_code == 400
