"""What a person asks for: the same line in the log and the same effect, wherever it is asked."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import URL

from receiver.backoff import WaitState
from receiver.ledger import gates
from receiver.ledger.claims import claim
from receiver.ledger.ledger import Ledger
from receiver.ledger.results import Result, settle
from receiver.reasons import Reason, State
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.conftest import StartReceiver
from tests.crash.asking import asked, ledger_of, logged
from tests.support.ledger_work import MINUTE, OWNER, at, pushed, write
from tests.support.postgres import plain, rows
from tests.support.receiver_process import APP, NOWHERE, REPOSITORY, RULE, ReceiverProcess, until
from tests.support.visitor import PAGE, visitor

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]\nkeep = 1')
CONFIG += """
[[notice]]
url_env = "TEAM_NOTICE_URL"
on = ["parked"]

[catch_up]
every = "off"
"""
ENVIRONMENT = {
    **PAGE,
    "TEAM_NOTICE_URL": f"{NOWHERE.replace('http', 'json')}/notify",
    "LOGNAME": "änna\u202e",  # the user on this machine, with a letter that turns text around
}
WAYS = ("page", "api", "command")
Ask = Callable[..., Any]

# What to ask for: on the page, by the API, by a command.
OPERATIONS: dict[str, tuple[tuple[str, dict[str, str]], tuple[str, Any], tuple[str, ...]]] = {
    "paused": (
        ("pause", {"repository": REPOSITORY}),
        ("pause", {"repository": REPOSITORY}),
        ("pause", REPOSITORY),
    ),
    "resumed": (
        ("resume", {"repository": REPOSITORY}),
        ("resume", {"repository": REPOSITORY}),
        ("resume", REPOSITORY),
    ),
    "replayed": (
        ("replay", {"delivery": "{delivery}"}),
        ("replay", {"ids": ["{delivery}"]}),
        ("replay", "{delivery}"),
    ),
    "rolled_back": (
        (
            "rollback",
            {"app": APP, "channel": "staging", "to": "1.0.0", "tag": "1.0.0", "has": "1.0.0"},
        ),
        ("rollback", {"app": APP, "channel": "staging", "to": "1.0.0"}),
        ("rollback", APP, "staging", "--to", "1.0.0"),
    ),
    "gate_opened": (
        ("open-gate", {"gate": "busy"}),
        ("open-gate", {"gate": "busy"}),
        ("open-gate", "busy"),
    ),
}
FACTS = ("repository", "app", "channel", "gate", "count", "deliveries")


@pytest.fixture
def receiver(start: StartReceiver) -> ReceiverProcess:
    return start(config=CONFIG, environment=ENVIRONMENT)


def lines(receiver: ReceiverProcess, event: str) -> list[dict[str, Any]]:
    return [line for line in logged(receiver.log) if line["event"] == event]


def api(receiver: ReceiverProcess, path: str, body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    url = f"{receiver.url}/api/{path}"
    return httpx.post(url, json=body, headers=headers, trust_env=False, timeout=20)


def ready_for(receiver: ReceiverProcess, operation: str, delivery: str) -> None:
    """Have something to do for the operation."""
    if operation == "resumed":
        api(receiver, "pause", {"repository": REPOSITORY})
    if operation == "gate_opened":
        receiver.stop()
        ledger = Ledger(URL.create("sqlite", database=str(ledger_of(receiver.folder))))
        ledger.open_to_write()
        write(ledger, lambda tx: gates.slow_down(tx, tx.now + 60 * MINUTE, "busy"))
        ledger.close()
        receiver.start()


def filled(value: Any, delivery: str) -> Any:
    return json.loads(json.dumps(value).replace("{delivery}", delivery))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_writes_the_same_line_wherever_it_is_asked_for(
    receiver: ReceiverProcess, operation: str
) -> None:
    """A pause by a command or the API was not in the log at all."""
    delivery = receiver.push("1.0.0")
    receiver.ended(delivery)
    on_page, by_api, by_command = (filled(one, delivery) for one in OPERATIONS[operation])

    ready_for(receiver, operation, delivery)
    with visitor(receiver) as person:
        person.do(on_page[0], **on_page[1])
    ready_for(receiver, operation, delivery)
    assert api(receiver, *by_api).status_code < 300
    ready_for(receiver, operation, delivery)
    done = receiver.run(*by_command)
    assert done.returncode == 0, done.stderr
    assert operation not in done.stderr  # it is in the server's log
    ready_for(receiver, operation, delivery)
    receiver.stop()
    alone = receiver.run(*by_command)
    assert alone.returncode == 0, alone.stderr

    seen = lines(receiver, operation)
    seen += [json.loads(one) for one in alone.stderr.splitlines() if one.startswith("{")]
    assert [one["source"] for one in seen] == ["page", "api", "command", "command"]
    assert {one["event"] for one in seen} == {operation}
    facts = [{name: one[name] for name in FACTS if name in one} for one in seen]
    assert facts == [facts[0]] * 4
    assert facts[0]
    assert seen[0]["address"].startswith("198.18.")  # as the visitor's proxy reports it
    assert [one["address"] for one in seen[1:]] == ["127.0.0.1"] * 3
    assert "by" not in seen[0]  # the page has one password for all
    assert re.fullmatch(r"API token \w+", seen[1]["by"])
    assert [one["by"] for one in seen[2:]] == ["änna", "änna"]


@pytest.mark.parametrize("wait", [False, True])
def test_a_push_by_command_is_the_same_as_one_by_the_api(
    receiver: ReceiverProcess, *, wait: bool
) -> None:
    """Without a server its notifications were left out."""
    # Docker Hub takes such tags, and Edgegap no such version names: they are parked at once.
    api(receiver, "deliveries", {"image": f"{REPOSITORY}:_1"})
    by_command = receiver.run("push", f"{REPOSITORY}:_2")
    receiver.stop()
    alone = receiver.run("push", f"{REPOSITORY}:_3", *(["--wait"] if wait else []))

    notices = asked(ledger_of(receiver.folder), "SELECT event, text FROM outbox ORDER BY id")
    assert len(notices) == 3, (by_command.stderr, alone.stderr)
    assert {event for event, _ in notices} == {"parked"}
    assert len({re.sub("_[123]", "TAG", text) for _, text in notices}) == 1
    seen = [line["source"] for line in lines(receiver, "pushed")]
    assert seen == ["api", "command"]
    assert '"event":"pushed"' in alone.stderr


def test_what_a_command_did_is_on_the_page_at_once(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    """The page showed what Edgegap had listed before, for a quarter of a minute."""

    def listings() -> int:
        return len([one for one in sandbox.calls if one.path.endswith(f"/app/{APP}/versions")])

    with visitor(receiver) as person:
        person.read("/versions")
        before = listings()
        person.read("/versions")
        assert listings() == before  # it is asked only once in a while

        assert receiver.run("pause", REPOSITORY).returncode == 0

        assert f"{REPOSITORY} is paused" in person.read("/").text
        person.read("/versions")
        assert listings() > before


def test_a_replica_does_what_a_command_on_its_machine_asks_for(
    edgegap: str, tmp_path: Path, postgres_url: URL
) -> None:
    """On PostgreSQL each command wrote into the ledger by itself, past the server's log."""
    environment = {"DATABASE_URL": plain(postgres_url), "PORT": "0"}
    receiver = ReceiverProcess(tmp_path, edgegap, environment=environment).start()
    receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
    try:
        done = receiver.run("pause", REPOSITORY)
        assert done.returncode == 0, done.stderr
        assert "no server is running" not in done.stderr
        assert [one["source"] for one in lines(receiver, "paused")] == ["command"]

        elsewhere = receiver.run("resume", REPOSITORY, PORT="9")
        assert elsewhere.returncode == 0, elsewhere.stderr
        assert "no server is running" in elsewhere.stderr  # on this machine, as far as it knows
        assert rows(postgres_url, "SELECT count(*) FROM pauses") == [(0,)]
    finally:
        receiver.stop()


def test_a_receiver_on_another_ledger_is_not_asked(
    start: StartReceiver, tmp_path: Path, postgres_url: URL, edgegap: str
) -> None:
    another = start()
    environment = {
        "DATABASE_URL": plain(postgres_url),
        "PORT": another.url.rpartition(":")[2],
    }
    folder = tmp_path / "mine"
    folder.mkdir()
    ledger = Ledger(postgres_url)
    ledger.open_to_write()
    ledger.close()
    mine = ReceiverProcess(folder, edgegap, environment=environment)

    done = mine.run("pause", REPOSITORY)

    assert done.returncode == 0, done.stderr
    assert lines(another, "paused") == []
    assert rows(postgres_url, "SELECT repository FROM pauses") == [(REPOSITORY,)]


# Gates, opened by hand.

NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("name", "reason"),
    [("busy", Reason.EDGEGAP_BUSY), ("token", Reason.EDGEGAP_TOKEN_REFUSED)],
)
def test_an_opened_gate_lets_go_on_what_waits_for_it(
    ledger: Ledger, name: str, reason: Reason
) -> None:
    for tag, why in (("1.0", reason), ("2.0", Reason.EDGEGAP_ERROR)):
        write(ledger, at(NOW, lambda tx, tag=tag: pushed(tx, tag)))  # type: ignore[misc]
        (claimed,) = write(ledger, at(NOW, lambda tx: claim(tx, owner=OWNER, most=1)))
        waits = Result(
            State.WAITING, reason=why, due_at=NOW + 60 * MINUTE, waited=WaitState(why, NOW)
        )
        write(ledger, at(NOW, lambda tx, c=claimed, w=waits: settle(tx, c, OWNER, w)))  # type: ignore[misc]
    if name == "busy":
        write(ledger, at(NOW, lambda tx: gates.slow_down(tx, NOW + 60 * MINUTE, "busy")))
    else:
        write(ledger, at(NOW, lambda tx: gates.close_token_gate(tx, "refused")))

    assert write(ledger, at(NOW + 1, lambda tx: gates.open_gate(tx, name)))

    assert write(ledger, at(NOW + 1, gates.closed_gates)) == []
    due = write(ledger, at(NOW + 1, lambda tx: claim(tx, owner=OWNER, most=9)))
    assert [one.image.tag for one in due] == ["1.0"]  # the other waits for something else
    assert not write(ledger, at(NOW + 1, lambda tx: gates.open_gate(tx, name)))


def overview(receiver: ReceiverProcess) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    return httpx.get(f"{receiver.url}/api/overview", headers=headers, trust_env=False).json()


@pytest.mark.parametrize("way", WAYS)
def test_an_operator_need_not_wait_as_long_as_edgegap_once_asked(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox, way: str
) -> None:
    sandbox.misbehave(Fault("status", status=429, retry_after=3600))
    delivery = receiver.push("5.0.0")
    (busy,) = until(lambda: overview(receiver)["degraded"])
    assert (busy["code"], busy["held"]) == ("busy", 1)
    assert busy["next_try_at"] > busy["since_at"]
    sandbox.behave()

    if way == "page":
        with visitor(receiver) as person:
            form = person.read("/").form("/do/open-gate", gate="busy")
            answer = person.post("/do/open-gate", data=form)
            assert answer.headers["location"] == "/"
    elif way == "api":
        assert api(receiver, "open-gate", {"gate": "busy"}).json() == {"opened": "busy"}
    else:
        assert receiver.run("open-gate", "busy").stdout == "Opened.\n"

    assert receiver.ended(delivery)["outcome"] == "created"
    assert overview(receiver)["degraded"] == []
    assert api(receiver, "open-gate", {"gate": "busy"}).status_code == 409
    assert api(receiver, "open-gate", {"gate": "garden"}).status_code == 400


def test_there_is_nothing_to_open(receiver: ReceiverProcess) -> None:
    refused = receiver.run("open-gate", "token")
    assert (refused.returncode, "is already open" in refused.stderr) == (1, True)
    receiver.stop()
    refused = receiver.run("open-gate", "token")
    assert (refused.returncode, "is already open" in refused.stderr) == (1, True)
    assert receiver.run("open-gate", "garden").returncode == 2
