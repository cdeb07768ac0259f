"""The page of checks: doctor, catch-up and a test notification, each on a button."""

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.dockerhub.registry import PullLimit
from receiver.doctor import finding
from receiver.doctor.finding import ChecksRun
from receiver.notifications.apprise import DeliveryFailed
from receiver.notifications.destinations import Message
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.secret import Secret
from receiver.upkeep import notify
from receiver.version import VERSION
from tests.conftest import StartReceiver
from tests.support.demo import demonstrating
from tests.support.dockerhub import ago, deliveries, hub_beside
from tests.support.notifications import NOTICE
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import KEY, NO_CATCH_UP, REPOSITORY, RULE, until
from tests.support.visitor import PAGE, PASSWORD, Reading, Visitor, visitor


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    return hub


@pytest.fixture
def receiver(
    edgegap: str, hub: DockerHubSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverHere]:
    with hub_beside(hub) as found:
        environment = {**PAGE, **found, "TEAM_NOTICE_URL": "json://127.0.0.1:9/secret-of-the-team"}
        folder = tmp_path_factory.mktemp("checks")
        with receiver_here(folder, edgegap, config=RULE + NOTICE, environment=environment) as one:
            yield one


def checked(person: Visitor) -> Reading:
    """Run the checks and return the page once they ended."""
    assert person.do("run-checks").headers["location"] == "/checks"
    until(lambda: re.search(r"\d+ checks: \d+ failed", person.read("/checks").text))
    return person.read("/checks")


def test_the_checks_of_the_demo_compare_it_with_the_same_environment(tmp_path: Path) -> None:
    """A proxy or a certificate in the environment was a difference between them."""
    with (
        demonstrating(tmp_path, {"NO_PROXY": "example.com"}) as demo,
        visitor(demo, demo.password) as person,
    ):
        shown = checked(person)

    assert "pass running server: it has the same settings" in shown.text


def test_the_checks_are_those_of_doctor_and_show_no_secret(start: StartReceiver) -> None:
    receiver = start(config=RULE + NO_CATCH_UP, environment=PAGE)
    with visitor(receiver) as person:
        assert "checks:" not in person.read("/checks").text
        shown = checked(person)
        receiver.ended(receiver.push("1.0.0"))
        again = checked(person)

    for found in (
        "pass configuration: valid, 1 rule",
        "pass Edgegap token: accepted; it sees my-game",
        "pass running server: it has the same settings",
        "warn public URL: it is not https",
    ):
        assert found in shown.text
    assert "Put a proxy with TLS in front" in shown.text
    assert "pass settings of" in again.text
    for secret in (KEY, PASSWORD, "sandbox-token"):
        assert secret not in shown.html


def test_the_page_of_checks_is_for_those_who_signed_in(receiver: ReceiverHere) -> None:
    with Visitor(receiver) as stranger:
        assert stranger.get("/checks").headers["location"].startswith("/login")
        for action in ("run-checks", "catch-up", "notify-test"):
            assert stranger.post(f"/do/{action}").headers["location"] == "/login"
    with visitor(receiver) as person:
        assert person.post("/do/run-checks", data={"csrf": "x"}).status_code == 403


SCRIPTS = {
    "no JSON": "print('Traceback')",
    "no finding": "raise SystemExit(1)",
    "killed": "import os; os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_checks_that_cannot_be_run_say_what_to_do_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    checks = ran(tmp_path, monkeypatch, SCRIPTS[script])
    assert checks.problem.endswith("Run `receiver doctor` on the receiver's machine.")
    assert checks.findings == ()
    assert checks.ended_at is not None


def ran(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> ChecksRun:
    """Run a program in doctor's place until it ended."""
    in_its_place(folder, monkeypatch, script)
    checks = ChecksRun({})

    async def run_it() -> None:
        checks.start()
        checks.start()  # one is in progress
        assert checks._task is not None
        await checks._task

    asyncio.run(run_it())
    return checks


def in_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "program"
    program.write_text(f"#!{sys.executable}\n{script}\n", "utf-8")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))


def test_checks_that_hang_are_ended_and_end_with_the_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = '{"health":"pass","what":"a","found":"b","hint":""}'
    hangs = f"import signal\nprint('{line}', flush=True)\nsignal.pause()"
    monkeypatch.setattr(finding, "RUN_SECONDS", 0.05)
    assert "did not end within" in ran(tmp_path, monkeypatch, hangs).problem
    monkeypatch.setattr(finding, "RUN_SECONDS", 60.0)
    checks = ChecksRun({})

    async def stop_it() -> None:
        checks.start()
        await asyncio.to_thread(until, lambda: checks.findings)
        await checks.stop()

    asyncio.run(stop_it())
    assert checks._task is not None
    assert checks._task.cancelled()


def test_catch_up_runs_now(receiver: ReceiverHere, person: Visitor, hub: DockerHubSandbox) -> None:
    until(lambda: "never" not in person.read("/rules").text.partition("Catch-up")[2])
    hub.push_image(REPOSITORY, "3.0.0", pushed_at=ago(-60))

    answer = person.do("catch-up")

    assert answer.headers["location"] == "/checks"
    assert "Catch-up runs now" in person.read("/checks").text
    until(
        lambda: [(one.source, one.tag) for one in deliveries(receiver)] == [("catch-up", "3.0.0")]
    )


def test_catch_up_that_is_off_has_no_button(edgegap: str, tmp_path: Path) -> None:
    with (
        receiver_here(tmp_path, edgegap, config=RULE + NO_CATCH_UP, environment=PAGE) as receiver,
        visitor(receiver) as person,
    ):
        shown = person.read("/checks")
        assert "It is off in the configuration" in shown.text
        assert "/do/catch-up" not in shown.html
        assert "/do/notify-test" not in shown.html
        assert "catch-up is off" in person.do("catch-up").text
        assert "No [[notice]] is configured" in person.do("notify-test").text


@pytest.mark.parametrize(
    ("fails", "result"), [(False, "sent"), (True, "not sent, it did not accept the message")]
)
def test_a_test_notification_goes_to_each_destination(
    person: Visitor, monkeypatch: pytest.MonkeyPatch, fails: bool, result: str
) -> None:
    sent: list[str] = []

    async def send(url: Secret, message: Message) -> None:
        sent.append(message.title)
        if fails:
            raise DeliveryFailed("it did not accept the message")

    monkeypatch.setattr(notify, "send", send)

    person.do("notify-test")

    shown = person.read("/checks")
    assert re.search(rf"Test notification: .+: {result}\.", shown.text)
    assert sent == ["Receiver: a test"]
    assert "secret-of-the-team" not in shown.html


def test_the_foot_of_each_page_has_the_version_the_ledger_and_the_pulls_left(
    receiver: ReceiverHere, person: Visitor
) -> None:
    shown = person.read("/")
    assert f"Receiver {VERSION}" in shown.text
    assert re.search(r"ledger [\d.]+ kB", shown.text)
    assert "started" in shown.text
    assert {"/checks", "/api/"} <= set(shown.links())

    receiver.service.preflight.registry.limits.last = None
    assert "pulls left" not in person.read("/channels").text
    receiver.service.preflight.registry.limits.last = PullLimit(100, 49, 21_600)
    assert "Docker Hub pulls left: 49 of 100" in person.read("/channels").text
