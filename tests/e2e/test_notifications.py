"""Which notification goes to which destination: a real Apprise, a real listener."""

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from receiver.backoff import WaitState
from receiver.config.settings import LiveSettings, Settings
from receiver.dockerhub.webhook import Push
from receiver.images import ImageReference
from receiver.ledger.claims import MAX_CRASHES, Claimed, claim, reclaim_expired
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.engine import read_database_url
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import MAX_QUIET_PERIODS, OutboxEntry, enqueue, lease_due
from receiver.ledger.results import Result
from receiver.notifications import apprise as notify
from receiver.notifications.destinations import (
    EVERYTHING,
    Message,
    Notice,
    NotificationEvent,
    message_of,
)
from receiver.pipeline.finishing import events_of, notify_crashed
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.rule import Decision, Match, Mode, Rule
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret
from receiver.upkeep.catch_up import record_missed
from receiver.upkeep.notify import NotificationSender
from tests.conftest import StartReceiver
from tests.support.commands import NOWHERE, Commands
from tests.support.dockerhub import hub_beside
from tests.support.notifications import NOTICE, NotificationListener
from tests.support.receiver_process import REPOSITORY, RULE, ReceiverProcess, until
from tests.support.tables import read_notices

NOTICE_OF_EVERYTHING = '\n[[notice]]\nurl_env = "TEAM_NOTICE_URL"\n\n[catch_up]\nevery = "off"\n'


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(read_database_url(f"sqlite:///{tmp_path / 'ledger.db'}"))
    opened.open_to_write()
    yield opened
    opened.close()


def _sender(ledger: Ledger, url: str, **kwargs: Any) -> NotificationSender:
    notice = Notice("team", Secret(url), **kwargs)
    return NotificationSender(ledger, LiveSettings(Settings(notices=(notice,))))


def test_a_created_version_and_a_parked_registration_are_notified(
    start: StartReceiver, url: str, listener: NotificationListener
) -> None:
    sandbox_rule = RULE.replace("studio/game-server", "studio/lost").replace("my-game", "no-app")
    receiver = start(config=RULE + sandbox_rule + NOTICE, environment={"TEAM_NOTICE_URL": url})

    receiver.push("1.0.0")
    answer = receiver.post(_body("studio/lost"), repository="studio/lost")

    assert answer.status_code == 202
    until(lambda: len(listener.messages) >= 2)
    result = listener.messages
    texts = {message["title"]: message["message"] for message in result}
    assert (
        "my-game/1.0.0 created from docker.io/studio/game-server:1.0.0"
        in (texts["Receiver: version created"])
    )
    assert "Edgegap has no app no-app" in texts["Receiver: registration parked"]
    assert "json://" not in receiver.everything_written()


def claimed_as(mode: Mode) -> Claimed:
    return Claimed(
        id="r0", rule="r", app="my-game", version="staging", mode=mode,
        image=ImageReference(REPOSITORY, "1.0"), push_time=0, attempt=1, fence=1,
        waited=WaitState(),
        created_at=0,
    )  # fmt: skip


@pytest.mark.parametrize("outcome", [Outcome.CREATED, Outcome.UPDATED])
def test_a_notification_holds_what_a_person_should_know(outcome: Outcome) -> None:
    result = Result(State.DONE, outcome, notes=("a note", "a warning"), warnings=("a warning",))

    ((_, of_version),) = events_of(claimed_as(Mode.CREATE), result)
    ((_, of_channel),) = events_of(claimed_as(Mode.CHANNEL), result)

    for text in (of_version, of_channel):
        assert text.splitlines()[1:] == ["- a warning"]
    assert "matchmaker" not in of_version
    assert "A matchmaker profile that names staging uses it from the next match on." in of_channel


def test_a_parked_notification_lists_the_warnings_too() -> None:
    result = Result(State.PARKED, reason=Reason.HIDDEN_ENV, sentence="Do this.")
    warned = replace(result, warnings=("not copied from 1.0: command",))

    ((event, text),) = events_of(claimed_as(Mode.CREATE), warned)

    assert event is NotificationEvent.PARKED
    assert text == "my-game/staging parked: Do this.\n- not copied from 1.0: command"


def test_an_unreachable_destination_delays_no_version(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    dead = {"TEAM_NOTICE_URL": "json://127.0.0.1:9/notify"}
    receiver = start(config=RULE + NOTICE, environment=dead)

    registration = receiver.ended(receiver.push("1.0.0"))

    assert registration["outcome"] == "created"
    assert sandbox.posts_that_created("my-game", "1.0.0") == 1


def test_fifty_parked_pushes_are_one_message(
    ledger: Ledger, url: str, listener: NotificationListener
) -> None:
    async def scenario() -> int:
        sender = _sender(ledger, url)
        notices = sender._current.settings.notices
        for number in range(50):
            text = f"my-game/1.{number} parked"
            await ledger.write(
                partial(enqueue, notices=notices, event=NotificationEvent.PARKED, text=text)
            )
        first = await sender.send_due()
        return first + await sender.send_due()

    assert asyncio.run(scenario()) == 1
    assert [message["title"] for message in listener.messages] == [
        "Receiver: 50 registrations parked"
    ]
    assert "and 40 more" in listener.messages[0]["message"]


def test_a_refused_notification_is_sent_again_and_not_through_a_proxy_on_this_machine(
    ledger: Ledger, url: str, listener: NotificationListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)

    async def scenario() -> tuple[int, int]:
        sender = _sender(ledger, url)
        notices = sender._current.settings.notices
        await ledger.write(lambda tx: enqueue(tx, notices, NotificationEvent.CREATED, "made"))
        listener.status = 500
        refused = await sender.send_due()
        listener.status = 200
        await ledger.write(lambda tx: tx.run("UPDATE outbox SET due_at = 0").rowcount)
        return refused, await sender.send_due()

    assert asyncio.run(scenario()) == (0, 1)
    assert len(listener.messages) == 2


def test_a_notice_gets_only_its_events_and_rules() -> None:
    notice = Notice("team", Secret("json://x"), (NotificationEvent.PARKED,), ("lobby",))

    assert notice.wants(NotificationEvent.PARKED, "lobby")
    assert notice.wants(NotificationEvent.PARKED, None)
    assert not notice.wants(NotificationEvent.PARKED, "another")
    assert not notice.wants(NotificationEvent.CREATED, "lobby")


def test_a_message_about_one_event_has_its_title_and_text() -> None:
    message = message_of(NotificationEvent.CREATED, ["my-game/1.0 created"])

    assert message.title == "Receiver: version created"
    assert message.body == "my-game/1.0 created"


def test_all_faults_of_a_notice_are_reported() -> None:
    tables = [{"url_env": "UNSET", "on": ["nonsense"], "rules": ["gone"], "colour": "red"}]

    notices, faults = read_notices(tables, {}, [Rule("a/b", "app", "rule")])

    assert notices == ()
    assert {fault.where for fault in faults} == {
        "notice 1, colour",
        "notice 1, url_env",
        "notice 1, on",
        "notice 1, rules",
    }


def test_by_default_a_notice_gets_every_event() -> None:
    notices, faults = read_notices([{"url_env": "URL"}], {"URL": "json://x"}, [])

    assert faults == []
    assert notices[0].on == EVERYTHING
    assert "json" not in repr(notices)


def _body(repository: str) -> dict[str, Any]:
    return {"push_data": {"tag": "1.0.0"}, "repository": {"repo_name": repository}}


def test_a_registration_parked_on_arrival_is_notified(
    start: StartReceiver, url: str, listener: NotificationListener
) -> None:
    receiver = start(config=RULE + NOTICE, environment={"TEAM_NOTICE_URL": url})

    receiver.push("_no-name-for-a-version")

    until(lambda: listener.messages)
    assert "my-game/_no-name-for-a-version parked" in listener.messages[0]["message"]


def test_a_registration_parked_after_crashes_is_notified(ledger: Ledger) -> None:
    notices = (Notice("team", Secret("json://x")),)
    match = Match(rule="r", app="my-game", version="1.0.0")
    delivery = NewDelivery("webhook", "studio/game-server", "1.0.0")

    async def scenario() -> list[str]:
        ruling = Decision(Verdict.ACCEPTED, matches=(match,))
        await ledger.write(lambda tx: record(tx, delivery, ruling))
        for _ in range(MAX_CRASHES):
            await ledger.write(
                lambda tx: claim(tx, owner="w", most=1) or claim(tx, owner="w", most=1, alone=True)
            )
            await ledger.write(
                lambda tx: notify_crashed(
                    tx, Settings(notices=notices), reclaim_expired(tx, all_of_them=True)
                )
            )
        return [one.text for one in await ledger.write(lease_due)]

    answer = asyncio.run(scenario())

    assert len(answer) == 1
    assert answer[0].startswith("my-game/1.0.0 parked: The receiver stopped six times")


def test_a_hanging_destination_delays_no_other_and_no_shutdown(
    ledger: Ledger, url: str, listener: NotificationListener
) -> None:
    async def scenario() -> tuple[int, int]:
        over = asyncio.Event()
        dawdling: list[asyncio.Task[None] | None] = []

        async def dawdle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            dawdling.append(asyncio.current_task())
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not over.is_set():
                writer.write(b"x")
                await asyncio.sleep(0.1)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(dawdle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        slow = Notice("slow", Secret(f"json://127.0.0.1:{port}/x"))
        team = Notice("team", Secret(url))
        settings = LiveSettings(Settings(notices=(slow, team)))
        await ledger.write(lambda tx: enqueue(tx, (slow,), NotificationEvent.CREATED, "made"))
        given_up = await NotificationSender(ledger, settings, seconds=0.1).send_due()
        await ledger.write(lambda tx: tx.run("UPDATE outbox SET due_at = 0").rowcount)
        await ledger.write(lambda tx: enqueue(tx, (team,), NotificationEvent.CREATED, "made"))
        sending = asyncio.create_task(NotificationSender(ledger, settings).send_due())
        await asyncio.to_thread(until, lambda: listener.messages)
        assert not sending.done()
        over.set()
        sent = await sending
        await asyncio.gather(*(task for task in dawdling if task is not None))
        server.close()
        await server.wait_closed()
        return given_up, sent

    assert asyncio.run(scenario()) == (0, 2)
    assert len(listener.messages) == 1


def test_all_events_for_one_destination_are_sent_at_once_within_their_lease(
    ledger: Ledger,
) -> None:
    together = asyncio.Barrier(len(EVERYTHING))  # it answers nobody before all have come

    async def take(_: Request) -> Response:
        await together.wait()
        return Response()

    slow = Starlette(routes=[Route("/notify", take, methods=["POST"])])

    async def scenario(url: str) -> tuple[int, list[OutboxEntry]]:
        sender = _sender(ledger, url)
        notices = sender._current.settings.notices
        for event in EVERYTHING:
            await ledger.write(partial(enqueue, notices=notices, event=event, text="it was"))
        sent = await sender.send_due()
        await ledger.write(lambda tx: tx.run("UPDATE outbox SET due_at = 0").rowcount)
        return sent, await ledger.write(lease_due)

    with serving(slow) as base:
        url = base.replace("http://", "json://") + "/notify?rto=20"
        assert asyncio.run(scenario(url)) == (len(EVERYTHING), [])


def test_an_unsupported_url_is_reported_without_showing_it(ledger: Ledger) -> None:
    with pytest.raises(notify.DeliveryFailed, match="Apprise does not support") as answer:
        asyncio.run(
            notify.send(Secret("nonsense"), message_of(NotificationEvent.CREATED, ["made"]))
        )

    assert "nonsense" not in str(answer.value)


def test_two_notices_need_two_names() -> None:
    tables = [{"url_env": "URL", "name": "team"}, {"url_env": "URL", "name": "team"}]

    _, faults = read_notices(tables, {"URL": "json://x"}, [])

    assert [fault.what for fault in faults] == ["two notices have the name 'team'"]


def test_a_missed_push_found_by_catch_up_is_notified(
    start: StartReceiver, url: str, listener: NotificationListener
) -> None:
    receiver = start(config=RULE + NOTICE_OF_EVERYTHING, environment={"TEAM_NOTICE_URL": url})

    _found(receiver, "1.0.0", "_no-name-for-a-version", "latest")

    until(lambda: len(listener.messages) >= 3)
    texts = {message["title"]: message["message"] for message in listener.messages}
    both = "Receiver: 2 missed pushes found by catch-up"
    assert set(texts) == {
        both, "Receiver: version created", "Receiver: registration parked"
    }  # fmt: skip
    assert f"{REPOSITORY}:1.0.0 was pushed, and no webhook reported it." in texts[both]
    assert "latest" not in texts[both]
    assert "my-game/_no-name-for-a-version parked" in texts["Receiver: registration parked"]


def test_a_missed_push_is_notified_only_to_the_notices_of_its_rule(ledger: Ledger) -> None:
    rule = Rule(REPOSITORY, "my-game", "game")
    matching = Notice("game", Secret("json://x"), rules=("game",))
    other = Notice("lobby", Secret("json://x"), rules=("lobby",))
    missed = [Push(REPOSITORY, "1.0.0")]

    async def scenario() -> list[tuple[str, NotificationEvent]]:
        for _ in range(2):  # the second time the ledger knows it
            await ledger.write(
                lambda tx: record_missed(tx, [rule], missed, (matching, other), up_since=None)
            )
        return [(one.notice, one.event) for one in await ledger.write(lease_due)]

    assert asyncio.run(scenario()) == [("game", NotificationEvent.CAUGHT_UP)]


def test_a_refused_token_is_notified_once(
    start: StartReceiver, url: str, listener: NotificationListener
) -> None:
    environment = {"TEAM_NOTICE_URL": url, "EDGEGAP_TOKEN": "wrong"}
    receiver = start(config=RULE + NOTICE_OF_EVERYTHING, environment=environment)

    for tag in ("1.0", "1.1", "1.2"):
        receiver.push(tag)

    until(lambda: listener.messages)
    assert [one["title"] for one in listener.messages] == ["Receiver: Edgegap refuses the token"]
    assert "set EDGEGAP_TOKEN" in listener.messages[0]["message"]


def test_an_overwritten_tag_is_notified(
    start: StartReceiver, url: str, listener: NotificationListener
) -> None:
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    config = RULE.replace("preflight = false\n", "") + NOTICE_OF_EVERYTHING
    with hub_beside(hub) as variables:
        receiver = start(config=config, environment={"TEAM_NOTICE_URL": url, **variables})
        for _ in range(2):
            hub.push_image(REPOSITORY, "1.0")
            receiver.ended(receiver.push("1.0"))

        until(lambda: len(listener.messages) >= 2)

    texts = {message["title"]: message["message"] for message in listener.messages}
    assert f"{REPOSITORY}:1.0 was overwritten" in texts["Receiver: tag overwritten"]


def test_repeated_events_are_held_until_they_stop_but_not_forever(ledger: Ledger) -> None:
    notices = (Notice("team", Secret("json://x")),)
    quiet = 5000

    async def due(after: int) -> int:
        """How many would be leased if all of it had happened `after` milliseconds before."""
        await ledger.write(
            lambda tx: (
                tx.run(
                    "UPDATE outbox SET due_at = 0, created_at = created_at - :after", after=after
                ).rowcount
            )
        )
        return len(await ledger.write(lambda tx: lease_due(tx, quiet)))

    async def scenario() -> list[int]:
        counts = []
        await ledger.write(lambda tx: enqueue(tx, notices, NotificationEvent.PARKED, "one"))
        counts.append(await due(0))
        await due(quiet - 1000)
        await ledger.write(lambda tx: enqueue(tx, notices, NotificationEvent.PARKED, "two"))
        counts.append(await due(0))
        counts.append(await due(quiet))
        await ledger.write(lambda tx: enqueue(tx, notices, NotificationEvent.PARKED, "three"))
        await due(quiet * MAX_QUIET_PERIODS)
        await ledger.write(lambda tx: enqueue(tx, notices, NotificationEvent.PARKED, "four"))
        counts.append(await due(0))
        return counts

    assert asyncio.run(scenario()) == [0, 0, 2, 4]


def _found(receiver: ReceiverProcess, *tags: str) -> None:
    """Hand it tags as catch-up finds them."""
    answer = httpx.post(
        f"{receiver.url}/api/catch-up",
        json={"missed": [{"repository": REPOSITORY, "tag": tag} for tag in tags]},
        headers={"Authorization": f"Bearer {receiver.api_token()}"},
        trust_env=False,
    )
    assert answer.status_code == 202


def test_check_and_doctor_report_an_unsupported_destination(commands: Commands) -> None:
    commands.configure(RULE + NOTICE)

    checked = commands.run("check", TEAM_NOTICE_URL="canary-nonsense")
    examined = commands.run("doctor", TEAM_NOTICE_URL="canary-nonsense")

    assert checked.exit_code == 3
    for done in (checked, examined):
        assert "notice 1: Apprise does not support its URL" in done.output
        assert "canary-nonsense" not in done.output
    assert commands.run("check", TEAM_NOTICE_URL="json://127.0.0.1:9/x").exit_code == 0


def test_a_notice_without_apprise_installed_is_a_fault(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was dropped without a word, and a parked push was notified to nobody."""
    commands.configure(RULE + NOTICE)
    monkeypatch.setattr("receiver.notifications.apprise.find_spec", lambda _: None)

    done = commands.run("check", TEAM_NOTICE_URL="json://127.0.0.1:9/x")

    assert done.exit_code == 3
    assert "Apprise, which sends it, is not installed" in done.stderr
    assert "pip install '.[notices]'" in done.stderr
    commands.configure(RULE)
    assert commands.run("check").exit_code == 0


def test_a_push_by_command_that_waits_sends_its_messages_itself(
    commands_with_edgegap: Commands, listener: NotificationListener, url: str
) -> None:
    """They lay in the ledger until a server ran, which may be never."""
    commands_with_edgegap.configure(RULE + NOTICE)

    done = commands_with_edgegap.run("push", f"{REPOSITORY}:1.0.0", "--wait", TEAM_NOTICE_URL=url)

    assert done.exit_code == 0, done.output
    assert [message["title"] for message in listener.messages] == ["Receiver: version created"]


def test_a_destination_that_answers_with_a_compressed_bomb_fills_no_memory() -> None:
    bomb = gzip.compress(bytes(2**26)) * 16  # 1 GiB

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(bomb, headers={"Content-Encoding": "gzip"})(scope, receive, send)

    with serving(app) as base:
        url = Secret(base.replace("http://", "json://"))
        with pytest.raises(notify.DeliveryFailed):
            asyncio.run(notify.send(url, Message("title", "body")))
