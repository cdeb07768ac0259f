"""Approving by the link of a notification: once, by a person, and never by a preview."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import URL

from receiver.logs import user_name
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.conftest import StartReceiver
from tests.support.approvals import (
    CONFIG,
    NOTICE,
    PUSHED,
    Chat,
    chatting,
    link_to,
    registration_of,
)
from tests.support.commands import commands_beside
from tests.support.dockerhub import hub_beside
from tests.support.postgres import plain, rows
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, KEY, REPOSITORY, RULE, ReceiverProcess, until
from tests.support.visitor import PAGE, Reading, Visitor, visitor


@pytest.fixture
def chat() -> Chat:
    return Chat()


@pytest.fixture
def chat_url(chat: Chat) -> Iterator[str]:
    with chatting(chat) as url:
        yield url


@pytest.fixture
def here(edgegap: str, chat_url: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    environment = {"CHAT_URL": chat_url}
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as receiver:
        yield receiver


def waiting(receiver: ReceiverProcess, tag: str) -> str:
    """Push a tag for which `prod` then waits; return the delivery."""
    delivery = receiver.push(tag, pushed_at=PUSHED)
    assert registration_of(receiver, delivery, "prod")["reason"] == "needs_approval"
    return delivery


def asked(receiver: ReceiverProcess, method: str, path: str, name: str = "") -> httpx.Response:
    return httpx.request(
        method, f"{receiver.url}{path}", trust_env=False, timeout=20,
        data={"name": name} if method == "POST" else None,
    )  # fmt: skip


def moves(sandbox: EdgegapSandbox, tag: str) -> int:
    """How many requests gave `prod` this tag."""
    sent = [call for call in sandbox.calls if call.method in {"POST", "PATCH"}]
    bodies = [(call.path.rpartition("/")[2], call.body or {}) for call in sent]
    of_prod = [body for end, body in bodies if "prod" in {end, body.get("name")}]
    return len([body for body in of_prod if body.get("docker_tag") == tag])


def test_the_link_of_a_notification_approves_once_and_is_written_nowhere(
    start: StartReceiver, sandbox: EdgegapSandbox, chat: Chat, chat_url: str
) -> None:
    receiver = start(config=CONFIG, environment={"CHAT_URL": chat_url})
    delivery = waiting(receiver, "1.0")
    link = chat.link()
    assert "my-game/prod" in chat.messages[0]["message"]

    for method in ("GET", "HEAD", "GET", "HEAD"):  # as chat programs do for a preview
        assert asked(receiver, method, link).status_code == 200
    shown = Reading(asked(receiver, "GET", link).text)
    assert "Move my-game/prod to 1.0?" in shown.text
    assert "Has nothing yet Gets studio/game-server:1.0 Digest not known Trial" in shown.text
    assert [action for action, _ in shown.forms] == [""]
    assert registration_of(receiver, delivery, "prod")["state"] == "waiting"

    assert "Approved. The channel is being moved." in asked(receiver, "POST", link, " anna ").text
    until(lambda: registration_of(receiver, delivery, "prod")["outcome"] == "created")
    again = Reading(asked(receiver, "POST", link, "bob").text).text
    assert "It was approved already by link (anna)" in again
    assert "by link (anna)" in Reading(asked(receiver, "GET", link).text).text

    approval = registration_of(receiver, delivery, "prod")["approval"]
    assert (approval["approver"], approval["address"]) == ("link (anna)", "127.0.0.1")
    assert moves(sandbox, "1.0") == 1
    written = receiver.everything_written()
    assert '"event":"approved"' in written
    assert link.rpartition("/")[2] not in written
    assert link.rpartition(".")[2] not in written


def test_a_move_that_waits_is_in_the_first_line_and_no_problem(
    edgegap: str, chat_url: str, tmp_path: Path
) -> None:
    """The first line said that all was well, and nothing of what waits for a person."""
    environment = {"CHAT_URL": chat_url, **PAGE}
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as here:
        waiting(here, "1.0")

        with visitor(here) as person:
            shown = person.read("/")
        assert "All is well. 1 move waits for an approval. The newest version is" in shown.text
        assert 'class="answer wait"' in shown.html
        done = commands_beside(here).run("status", PORT=here.url.rpartition(":")[2])
        assert done.exit_code == 0, done.output
        assert "note  1 move waits for an approval.\n" in done.stdout


def test_a_link_is_for_one_image_and_a_newer_one_takes_its_place(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    first = waiting(here, "1.0")
    second = waiting(here, "1.1")
    until(lambda: registration_of(here, first, "prod")["outcome"] == "superseded")

    for method in ("GET", "POST"):
        answer = asked(here, method, link_to("1.0"))
        assert answer.status_code == 410
        assert "a newer image took its place" in answer.text
        assert "<form" not in answer.text
    other = "sha256:" + "0" * 64
    assert asked(here, "POST", link_to("1.1", digest=other)).status_code == 410
    assert registration_of(here, second, "prod")["state"] == "waiting"

    asked(here, "POST", link_to("1.1"))
    until(lambda: registration_of(here, second, "prod")["outcome"] == "created")
    assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.1"


def test_an_approved_move_waits_for_the_end_of_a_pause_and_the_page_says_so(
    edgegap: str, sandbox: EdgegapSandbox, chat_url: str, tmp_path: Path
) -> None:
    """It said "The channel is being moved", and nothing moved before somebody ended the pause."""
    environment = {"CHAT_URL": chat_url}
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        delivery = waiting(here, "1.0")
        assert commands_beside(here).run("pause", REPOSITORY).exit_code == 0

        before = Reading(asked(here, "GET", link_to("1.0")).text).text
        given = Reading(asked(here, "POST", link_to("1.0"), "anna").text).text
        again = Reading(asked(here, "GET", link_to("1.0")).text).text

        by = f"{REPOSITORY} is paused by command ({user_name()}); receiver resume {REPOSITORY}"
        for text in (before, given, again):
            assert re.search(rf"Held back for [^.]+\. {re.escape(by)} lets it go on\.", text)
        assert "Approved. The channel is not being moved yet." in given
        assert "is being moved" not in given
        assert (APP, "prod") not in sandbox.versions
        assert commands_beside(here).run("resume", REPOSITORY).exit_code == 0
        until(lambda: registration_of(here, delivery, "prod")["outcome"] == "created")


def test_a_move_that_a_hold_forbids_is_not_approved_and_the_page_says_why(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """During a pause it was "Approved. The channel is being moved.", and it was not."""
    here.environment["PORT"] = here.url.rpartition(":")[2]
    commands = commands_beside(here)
    for tag in ("1.0", "1.1"):
        first = waiting(here, tag)
        asked(here, "POST", link_to(tag))
        until(lambda one=first: _outcome(here, one) in {"created", "updated"})  # type: ignore[misc]
    delivery = waiting(here, "1.2")
    assert commands.run("pause", REPOSITORY).exit_code == 0
    assert commands.run("promote", APP, "prod", "--to", "1.0").exit_code == 0

    answers = [asked(here, method, link_to("1.2")) for method in ("GET", "POST")]

    assert commands.run("resume", REPOSITORY).exit_code == 0
    for answer in answers:
        text = Reading(answer.text).text
        assert (answer.status_code, "There is nothing to approve any more." in text) == (410, True)
        assert "The channel is held for the move to 1.0 since" in text
    until(lambda: _outcome(here, delivery) == "superseded")
    until(lambda: sandbox.versions[APP, "prod"]["docker_tag"] == "1.0")
    assert (
        here.ledger.read_sync(
            lambda tx: tx.run("SELECT count(*) FROM approvals WHERE tag = '1.2'").scalar_one()
        )
        == 0
    )


def test_an_expired_or_altered_link_says_so_and_does_nothing(here: ReceiverHere) -> None:
    delivery = waiting(here, "1.0")

    for method in ("GET", "POST"):
        expired = asked(here, method, link_to("1.0", seconds=-1))
        assert (expired.status_code, "This link has expired." in expired.text) == (410, True)
        assert "receiver promote my-game prod --to 1.0" in expired.text
        altered = asked(here, method, link_to("1.0")[:-2])
        assert (altered.status_code, "This link is not valid." in altered.text) == (404, True)
        foreign = asked(here, method, link_to("1.0", key=KEY.upper()))
        assert foreign.status_code == 404
    assert registration_of(here, delivery, "prod")["state"] == "waiting"


def test_tries_are_limited_and_previews_are_not(here: ReceiverHere) -> None:
    waiting(here, "1.0")

    found = [asked(here, "GET", "/approve/guessed").status_code for _ in range(11)]

    assert found == [404] * 10 + [429]
    limited = asked(here, "POST", link_to("1.0"))
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "60")
    assert asked(here, "GET", link_to("1.0")).status_code == 200


def test_a_name_is_short_and_printable(here: ReceiverHere) -> None:
    delivery = waiting(here, "1.0")

    for name in ("a" * 101, "an\nna"):
        answer = asked(here, "POST", link_to("1.0"), name)
        assert (answer.status_code, "Nothing was approved." in answer.text) == (400, True)

    assert registration_of(here, delivery, "prod")["state"] == "waiting"


def test_the_page_is_strict_and_needs_no_script(here: ReceiverHere) -> None:
    waiting(here, "1.0")

    answer = asked(here, "GET", link_to("1.0"))

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert link_to("1.0").rpartition("/")[2][:20] not in answer.text
    sheet = next(one["href"] for tag, one in Reading(answer.text).elements
                 if tag == "link" and one.get("rel") == "stylesheet")  # fmt: skip
    assert asked(here, "GET", str(sheet)).status_code == 200


def test_a_person_who_is_signed_in_is_recorded_as_such(
    edgegap: str, chat_url: str, tmp_path: Path
) -> None:
    environment = {**PAGE, "CHAT_URL": chat_url}
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as here:
        delivery = waiting(here, "1.0")
        with visitor(here) as person:
            person.post(link_to("1.0"), data={"name": "anna"})
        approval = registration_of(here, delivery, "prod")["approval"]

    assert approval["approver"] == "page (anna)"
    assert approval["address"].startswith("198.18.")


def test_what_waits_is_listed_and_approved_on_the_page(
    edgegap: str, sandbox: EdgegapSandbox, chat_url: str, tmp_path: Path
) -> None:
    environment = {**PAGE, "CHAT_URL": chat_url}
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        delivery = waiting(here, "1.0")
        listed = commands_beside(here).run("channels", APP).stdout
        assert (
            "channel  my-game/prod  not moved yet  waits  for 1.0 (needs_approval) since 20"
            in listed
        )
        with visitor(here) as person:
            for page in (person.read("/channels"), person.read("/")):
                assert "Waits for an approval: my-game/prod to 1.0" in page.text
                assert "/approve/" not in page.html
            (move,) = {one for one in person.read("/").links() if one.startswith("/moves/")}
            link = person.get(move).headers["location"]
            assert "Open the receiver's page" in person.read(link).text
            assert "Approved by page, " in Reading(person.post(link).text).text
            until(lambda: registration_of(here, delivery, "prod")["outcome"] == "created")
            details = person.read(f"/deliveries/{delivery}").text
            assert "by page from 198.18." in details
            assert "Waits for an approval" not in person.read("/").text
            assert "It was approved already by page" in (
                person.read(person.get(move).headers["location"]).text
            )
            assert "There is no such move." in person.read("/moves/r0", 404).text
            assert person.get("/moves/%00").status_code == 400
        with Visitor(here) as stranger:
            assert stranger.get(move).headers["location"] == f"/login?next={move}"
            assert stranger.sign_in(path=f"/login?next={move}").headers["location"] == move
        shown = commands_beside(here).run("show", delivery).stdout
        assert "  approved  20" in shown
        assert " by page from 198.18." in shown
    assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.0"


def test_without_public_url_the_message_names_the_command(
    edgegap: str, chat: Chat, chat_url: str, tmp_path: Path
) -> None:
    environment = {"CHAT_URL": chat_url, "RECEIVER_PUBLIC_URL": ""}
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as here:
        waiting(here, "1.0")
        here.inside(here.service.notification_sender.send_due)

    assert "`receiver promote my-game prod --to 1.0`" in chat.messages[0]["message"]


def test_a_tag_that_was_overwritten_since_is_not_moved_to(
    edgegap: str, sandbox: EdgegapSandbox, chat: Chat, chat_url: str, tmp_path: Path
) -> None:
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    hub.push_image(REPOSITORY, "1.0")
    config = CONFIG.replace("preflight = false\n", "")
    with hub_beside(hub) as variables:
        environment = {"CHAT_URL": chat_url, **variables}
        with receiver_here(tmp_path, edgegap, config=config, environment=environment) as here:
            delivery = waiting(here, "1.0")
            here.inside(here.service.notification_sender.send_due)
            digest = registration_of(here, delivery, "prod")["digest"]
            assert digest in asked(here, "GET", chat.link()).text
            hub.push_image(REPOSITORY, "1.0")

            asked(here, "POST", chat.link())

            parked = until(lambda: _parked(here, delivery))
    assert parked == "digest_changed"
    assert (APP, "prod") not in sandbox.versions


def test_a_tag_that_is_pushed_again_is_to_be_approved_again(
    edgegap: str, sandbox: EdgegapSandbox, chat: Chat, chat_url: str, tmp_path: Path
) -> None:
    """The first link said that there is nothing to approve, and no second one came."""
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    config = CONFIG.replace("preflight = false", 'on_overwrite = "move"')
    links: list[str] = []
    digests: list[str] = []
    with hub_beside(hub) as variables:
        environment = {"CHAT_URL": chat_url, **variables}
        with receiver_here(tmp_path, edgegap, config=config, environment=environment) as here:
            for number in (1, 2):
                hub.push_image(REPOSITORY, "1.0")
                delivery = here.push("1.0")
                until(lambda one=delivery: _asked_for(here, one) not in {"", *digests})  # type: ignore[misc]
                digests.append(_asked_for(here, delivery))
                here.inside(here.service.notification_sender.send_due)
                until(lambda most=number: len(chat.messages) == most)  # type: ignore[misc]
                links.append(chat.link())
            assert here.push("1.0")  # reported again: nothing new is to be approved
            here.inside(here.service.notification_sender.send_due)

            old, new = (Reading(asked(here, "GET", link).text).text for link in links)
            assert "There is nothing to approve any more." in old
            assert digests[1] in new
            asked(here, "POST", links[1])
            until(lambda: registration_of(here, delivery, "prod")["outcome"] == "created")

    assert len(chat.messages) == 2
    assert moves(sandbox, "1.0") == 1


def test_an_approval_without_a_digest_is_of_one_push(
    here: ReceiverHere, sandbox: EdgegapSandbox, chat: Chat
) -> None:
    """Approved once, the tag moved the channel each time that it was pushed again."""
    config = CONFIG.replace("preflight = false", 'preflight = false\non_overwrite = "move"')
    here.config.write_text(config, "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults
    links, delivery = [], ""
    for number in (1, 2, 3):
        delivery = here.push("1.0", pushed_at=PUSHED + number)
        assert registration_of(here, delivery, "prod")["reason"] == "needs_approval"
        until(lambda most=number: _sent(here, chat) == most)  # type: ignore[misc]
        links.append(chat.link())
        if number == 1:
            asked(here, "POST", links[0])
            until(lambda one=delivery: _outcome(here, one) == "created")  # type: ignore[misc]

    for old in links[:2]:  # of what was approved, and of what was pushed over since
        asked(here, "POST", old)
    assert registration_of(here, delivery, "prod")["approval"] is None
    assert registration_of(here, delivery, "prod")["state"] == "waiting"
    asked(here, "POST", links[2])
    until(lambda: _outcome(here, delivery) == "updated")


def _sent(here: ReceiverHere, chat: Chat) -> int:
    here.inside(here.service.notification_sender.send_due)
    return len(chat.messages)


def _outcome(here: ReceiverHere, delivery: str) -> str | None:
    found: str | None = registration_of(here, delivery, "prod")["outcome"]
    return found


def _asked_for(here: ReceiverHere, delivery: str) -> str:
    """The digest that waits for an approval, empty if none does."""
    found = [one for one in here.details(delivery)["registrations"] if one["version"] == "prod"]
    waits = [one for one in found if one["reason"] == "needs_approval"]
    return str(waits[0]["digest"]) if waits else ""


def _parked(here: ReceiverHere, delivery: str) -> str:
    found = registration_of(here, delivery, "prod")
    return str(found["reason"]) if found["state"] == "parked" else ""


def test_many_approve_at_once_on_two_replicas_and_the_channel_moves_once(
    edgegap: str, sandbox: EdgegapSandbox, chat_url: str, tmp_path: Path, postgres_url: URL
) -> None:
    environment = {"CHAT_URL": chat_url, "DATABASE_URL": plain(postgres_url)}
    with ExitStack() as open_ones, ThreadPoolExecutor(8) as people:
        replicas = []
        for number in range(2):
            folder = tmp_path / f"replica-{number}"
            folder.mkdir()
            made = receiver_here(folder, edgegap, config=CONFIG, environment=environment)
            replicas.append(open_ones.enter_context(made))
        delivery = waiting(replicas[0], "1.0")
        approving = [
            people.submit(asked, replicas[number % 2], "POST", link_to("1.0"), f"number {number}")
            for number in range(8)
        ]
        answers = [one.result() for one in approving]
        until(lambda: registration_of(replicas[1], delivery, "prod")["outcome"] == "created")

    assert [one.status_code for one in answers] == [200] * 8
    given = [one for one in answers if "Approved. The channel is being moved." in one.text]
    assert len(given) == 1
    assert len([one for one in answers if "It was approved already" in one.text]) == 7
    assert rows(postgres_url, "SELECT count(*) FROM approvals") == [(1,)]
    assert rows(postgres_url, "SELECT count(*) FROM channel_moves WHERE channel = 'prod'") == [(1,)]
    assert moves(sandbox, "1.0") == 1


def test_what_waits_ends_also_if_another_repository_moves_its_source(
    edgegap: str, tmp_path: Path
) -> None:
    """For half an hour its link still said "Approved. The channel is being moved."."""
    other = RULE.replace(REPOSITORY, "studio/other").replace(
        "preflight = false", 'preflight = false\nchannels = ["staging"]'
    )
    config = CONFIG.replace('channels = ["staging"]', 'channels = ["staging", "prod"]')
    config = config.replace(NOTICE, "")
    with receiver_here(tmp_path, edgegap, config=f"{other}\n{config}") as here:
        delivery = waiting(here, "1.0")
        here.push_to("studio/other", "2.0")
        until(lambda: registration_of(here, delivery, "prod")["outcome"] == "superseded")
