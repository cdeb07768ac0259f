"""What notifications say, with a real Apprise and a real listener."""

import asyncio
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import cast

import pytest

from receiver.config.settings import LiveSettings, Settings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.responses import Answer, version_path
from receiver.ledger.deletions import Deletion, begin_deletion, end_deletion
from receiver.ledger.engine import read_database_url
from receiver.ledger.gates import close_token_gate
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import enqueue, lease_due
from receiver.ledger.transaction import Tx
from receiver.notifications.destinations import Notice, NotificationEvent
from receiver.pipeline.finishing import token_accepted
from receiver.pipeline.prune import settle_overdue
from receiver.rules.rule import Rule
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.secret import Secret
from receiver.upkeep.notify import NotificationSender
from tests.conftest import StartReceiver
from tests.support.ledger_work import MINUTE, at, write
from tests.support.notifications import NOTICE, NotificationListener
from tests.support.receiver_process import APP, REPOSITORY, RULE, until

CHANNEL = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(read_database_url(f"sqlite:///{tmp_path / 'ledger.db'}"))
    opened.open_to_write()
    yield opened
    opened.close()


def test_a_message_has_the_delivery_its_link_and_a_severity(
    start: StartReceiver, url: str, listener: NotificationListener
) -> None:
    receiver = start(config=RULE + NOTICE, environment={"TEAM_NOTICE_URL": url})

    created = receiver.push("1.0.0")
    until(lambda: listener.messages)
    parked = receiver.push("_no-name-for-a-version")
    until(lambda: len(listener.messages) >= 2)

    for message, delivery, severity in zip(
        listener.messages, (created, parked), ("success", "failure"), strict=True
    ):
        link = f"https://hooks.example.com/deliveries/{delivery}"
        assert message["message"].splitlines()[-1] == f"Delivery {delivery}: {link}"
        assert message["type"] == severity


def test_a_rollback_and_a_promotion_are_notified(
    start: StartReceiver, url: str, listener: NotificationListener
) -> None:
    receiver = start(
        config=f"{CHANNEL}{NOTICE}".replace('"parked"]', '"promoted", "rolled_back"]'),
        environment={"TEAM_NOTICE_URL": url},
    )
    receiver.ended(receiver.push("1.0"))
    receiver.ended(receiver.push("1.1"))

    assert receiver.run("rollback", "my-game", "staging").returncode == 0
    until(lambda: "Receiver: channel rolled back" in _texts(listener))
    assert receiver.run("promote", "my-game", "staging", "--to", "1.1", "--yes").returncode == 0
    until(lambda: "Receiver: channel promoted" in _texts(listener))

    texts = _texts(listener)
    assert "my-game/staging moved to " in texts["Receiver: channel rolled back"]
    assert f"{REPOSITORY}:1.0." in texts["Receiver: channel rolled back"]
    assert f"{REPOSITORY}:1.1." in texts["Receiver: channel promoted"]


def test_a_deleted_version_is_notified(
    start: StartReceiver, url: str, listener: NotificationListener
) -> None:
    rule = RULE.replace("preflight = false", "preflight = false\nkeep = 1")
    notice = NOTICE.replace('"created", "parked"', '"deleted"')
    receiver = start(config=rule + notice, environment={"TEAM_NOTICE_URL": url})

    receiver.ended(receiver.push("1.0"))
    receiver.ended(receiver.push("1.1"))

    until(lambda: listener.messages)
    assert "my-game/1.0 was deleted: " in _texts(listener)["Receiver: version deleted"]


def _texts(listener: NotificationListener) -> dict[str, str]:
    return {message["title"]: message["message"] for message in listener.messages}


@pytest.mark.parametrize("about", [None, "d-purged"])
def test_without_its_delivery_a_message_links_to_the_page(
    ledger: Ledger, url: str, listener: NotificationListener, about: str | None
) -> None:
    notice = Notice("team", Secret(url))
    settings = Settings(notices=(notice,), public_url="https://hooks.example.com/")
    event = NotificationEvent.RECOVERED
    write(ledger, lambda tx: enqueue(tx, [notice], event, "It works again.", about=about))

    asyncio.run(NotificationSender(ledger, LiveSettings(settings)).send_due())

    assert listener.messages[0]["message"] == "It works again.\nSee https://hooks.example.com/"


def test_an_accepted_token_is_notified_once(ledger: Ledger) -> None:
    settings = Settings(notices=(Notice("team", Secret("json://x")),))

    async def scenario() -> list[NotificationEvent]:
        await ledger.write(partial(token_accepted, settings=settings))  # it never was refused
        await ledger.write(partial(close_token_gate, sentence="Edgegap refuses it."))
        for _ in range(2):
            await ledger.write(partial(token_accepted, settings=settings))
        return [one.event for one in await ledger.write(lease_due)]

    assert asyncio.run(scenario()) == [NotificationEvent.RECOVERED]


def test_a_token_is_accepted_again_also_if_a_person_opened_its_gate(
    start: StartReceiver, sandbox: EdgegapSandbox, url: str, listener: NotificationListener
) -> None:
    """`open-gate token` opened it before a call was accepted: nobody was notified of it."""
    notice = NOTICE.replace('"created", "parked"', '"token_refused", "recovered"')
    receiver = start(config=RULE + notice, environment={"TEAM_NOTICE_URL": url})
    sandbox.token_state = "refused"
    delivery = receiver.push("1.0.0")
    until(lambda: len(listener.messages) == 1)

    assert receiver.run("open-gate", "token").returncode == 0
    until(lambda: "is already open" not in receiver.run("open-gate", "token").stderr)
    sandbox.token_state = "good"
    receiver.run("open-gate", "token")

    assert receiver.ended(delivery)["outcome"] == "created"
    receiver.ended(receiver.push("1.0.1"))
    until(lambda: len(listener.messages) == 2)
    texts = [message["message"] for message in listener.messages]
    assert [text.startswith("Edgegap accepts the API token again.") for text in texts] == [
        False,
        True,
    ]


@pytest.mark.parametrize("late", [False, True], ids=["alone", "after another replica"])
def test_a_deletion_that_two_replicas_confirm_is_notified_once(ledger: Ledger, late: bool) -> None:
    rule = Rule(REPOSITORY, APP, "main")
    settings = Settings(rules=(rule,), notices=(Notice("team", Secret("json://x")),))

    class Client:
        async def get_version(self, app: str, version: str) -> Answer:
            if late:
                await ledger.write(lambda tx: end_deletion(tx, deletion, deleted=True, why="old"))
            return Answer("GET", version_path(app, version), HTTPStatus.NOT_FOUND)

    async def scenario() -> list[NotificationEvent]:
        await settle_overdue(ledger, cast("EdgegapClient", Client()), settings)
        return [one.event for one in await ledger.write(lease_due)]

    def begin(tx: Tx) -> Deletion:
        return begin_deletion(tx, APP, "1.0", why="old")

    deletion = write(ledger, at(write(ledger, lambda tx: tx.now) - 10 * MINUTE, begin))

    assert asyncio.run(scenario()) == ([] if late else [NotificationEvent.DELETED])


def test_a_parked_registration_that_a_later_push_closes_is_notified(
    start: StartReceiver, sandbox: EdgegapSandbox, url: str, listener: NotificationListener
) -> None:
    notice = NOTICE.replace('"created", "parked"', '"recovered"')
    receiver = start(config=CHANNEL + notice, environment={"TEAM_NOTICE_URL": url})
    receiver.ended(receiver.push("1.0"))
    sandbox.misbehave(Fault("status", method="PATCH", status=400))
    parked = receiver.push("1.1")
    until(lambda: "parked" in [one["state"] for one in receiver.details(parked)["registrations"]])

    receiver.ended(receiver.push("1.2"))

    until(lambda: listener.messages)
    assert "what was parked before it is closed" in _texts(listener)["Receiver: recovered"]
