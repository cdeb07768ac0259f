"""Each manual action logs who did it, and the ledger keeps it with what was requested."""

import getpass
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.routing import Route

from receiver.doctor.finding import ChecksRun
from receiver.ledger.gates import slow_down
from receiver.ledger.stats import count_open
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.web.page import actions
from tests.support.commands import Commands, commands_beside
from tests.support.dockerhub import hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, REPOSITORY, RULE, until
from tests.support.visitor import PAGE, Reading, Visitor, visitor

CONFIG = RULE.replace("preflight = false", 'preflight = false\nkeep = 2\nchannels = ["staging"]')
CONFIG += '\n[[notice]]\nurl_env = "TEAM_NOTICE_URL"\non = ["deleted"]\n'
TOKEN = "API token " + "ab" * 8
STAGING = {"app": APP, "channel": "staging"}
NO_NAME = "_no-name-for-a-version"
HOUR = 3_600_000
Line = dict[str, Any]


class Scene:
    """A receiver with some versions, whose log lines are kept."""

    def __init__(self, here: ReceiverHere, edgegap: EdgegapSandbox) -> None:
        self.here, self.edgegap, self.lines = here, edgegap, list[Line]()
        here.service.worker._retention.begin = lambda app: None  # type: ignore[method-assign]
        self.deliveries = [self.pushed(tag) for tag in ("1.0", "1.1", "1.2", "1.3")]
        self.parked = self.pushed(NO_NAME)

    def pushed(self, tag: str) -> str:
        delivery = self.here.push(tag)
        self.here.ended(delivery)
        return delivery

    @property
    def registration(self) -> str:
        """The registration that is parked, or was."""
        return str(self.here.details(self.parked)["registrations"][0]["id"])

    def close_the_gate(self) -> None:
        self.here.inside(
            lambda: self.here.ledger.write(lambda tx: slow_down(tx, tx.now + HOUR, "busy"))
        )

    def full(self) -> str:
        """Meet Edgegap's version limit; return the delivery that is parked for it."""
        self.edgegap.version_limit = 1
        delivery = self.pushed("2.0")
        self.edgegap.version_limit = None
        return delivery

    def who(self, source: str, act: Callable[[], object]) -> list[tuple[str, Any]]:
        """Return the events that name this source while something is done, each with by whom."""
        before = len(self.lines)
        act()
        until(lambda: not {"queued", "working"} & set(self.here.ledger.read_sync(count_open)))
        self.here.wait_for_commits()
        new = self.lines[before:]
        return [(line["event"], line.get("by")) for line in new if line.get("source") == source]


@pytest.fixture
def scene(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    hub.push_image(REPOSITORY, "0.9")  # before the receiver's start: only a command records it
    monkeypatch.setattr("receiver.logs.configure_logs", lambda **_: None)  # of the commands
    monkeypatch.setattr(ChecksRun, "start", lambda _: None)
    monkeypatch.setattr(actions, "try_public_address", _arrived)
    with hub_beside(hub) as variables:
        environment = {**PAGE, **variables, "TEAM_NOTICE_URL": "json://127.0.0.1:9/x"}
        with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as here:
            here.environment["PORT"] = here.url.rpartition(":")[2]
            made = Scene(here, sandbox)
            with structlog.testing.capture_logs() as lines:
                made.lines = lines  # type: ignore[assignment]
                yield made


async def _arrived(*_: object) -> str:
    return "It arrived."


def posts(here: ReceiverHere, under: str) -> set[str]:
    """The paths of all actions."""
    routes = (route for route in here.app.routes if isinstance(route, Route))
    return {
        route.path
        for route in routes
        if "POST" in (route.methods or ()) and route.path.startswith(under)
    }


def test_each_operation_of_the_api_logs_its_token(scene: Scene) -> None:
    here, first = scene.here, scene.deliveries[0]
    missed = {"missed": [{"repository": REPOSITORY, "tag": "0.9"}]}
    headers = {"Authorization": f"Bearer {here.api_token()}"}
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("/api/dismiss", {"ids": [scene.parked]}, "dismissed"),
        ("/api/dismiss/undo", {"ids": [scene.parked]}, "dismissal_undone"),
        ("/api/deliveries", {"image": f"{REPOSITORY}:1.4"}, "pushed"),
        ("/api/deliveries/{id}/replay", {}, "replayed"),
        ("/api/replay", {"ids": [first]}, "replayed"),
        ("/api/catch-up", missed, "delivery_caught_up"),
        ("/api/rollback", {**STAGING, "to": "1.2"}, "rolled_back"),
        ("/api/promote", {**STAGING, "to": "1.3"}, "promoted"),
        ("/api/release", STAGING, "released"),
        ("/api/trials", {"app": APP, "version": "1.3", "at": "45.5,-73.6"}, "trial_requested"),
        ("/api/prune", {"app": APP}, "pruned"),
        ("/api/pause", {"repository": REPOSITORY}, "paused"),
        ("/api/resume", {"repository": REPOSITORY}, "resumed"),
        ("/api/open-gate", {"gate": "busy"}, "gate_opened"),
        ("/api/reload", {}, "config_reloaded"),
        ("/api/tokens/revoke", {"id": "cd" * 8}, "api_token_revoked"),
    ]
    found = {}
    with httpx.Client(base_url=here.url, headers=headers, trust_env=False, timeout=20) as api:
        for path, body, event in calls:
            if path == "/api/open-gate":
                scene.close_the_gate()

            def act(path: str = path, body: dict[str, Any] = body) -> None:
                api.post(path.format(id=first), json=body).raise_for_status()

            found[path] = event, scene.who("api", act)

    assert set(found) == posts(here, "/api/")
    assert {path: who for path, (event, who) in found.items() if who != [(event, TOKEN)]} == {}


def test_each_action_of_the_page_logs_that_it_came_from_there(scene: Scene) -> None:
    here, first, parked = scene.here, scene.deliveries[0], scene.registration
    image = f"{REPOSITORY}:1.2"
    calls: list[tuple[str, dict[str, str], str]] = [
        (
            "replay-reason",
            {"reason": "version_name_invalid", "registrations": parked},
            "replayed",
        ),
        ("replay-parked", {}, "replayed"),
        ("dismiss", {"registration": parked}, "dismissed"),
        ("undo-dismissal", {"registration": parked}, "dismissal_undone"),
        (
            "dismiss-reason",
            {"reason": "version_name_invalid", "registrations": parked},
            "dismissed",
        ),
        ("replay", {"delivery": first}, "replayed"),
        ("move", {**STAGING, "to": image}, "rolled_back"),
        ("rollback", {**STAGING, "to": f"{REPOSITORY}:1.3"}, "promoted"),
        ("promote", {**STAGING, "to": "1.2"}, "promoted"),
        ("release", STAGING, "released"),
        ("make-room", {"app": APP}, "pruned"),
        ("prune", {"app": APP}, "pruned"),
        ("test-push", {"repository": REPOSITORY}, "test_push_sent"),
        ("pause", {"repository": REPOSITORY}, "paused"),
        ("resume", {"repository": REPOSITORY}, "resumed"),
        ("open-gate", {"gate": "busy"}, "gate_opened"),
        ("catch-up", {}, "catch_up_requested"),
        ("notify-test", {}, "notifications_tested"),
        ("run-checks", {}, "checks_requested"),
    ]
    found = {}
    with visitor(here) as person:
        for name, fields, event in calls:
            if name == "open-gate":
                scene.close_the_gate()
            if name == "make-room":
                fields = {**fields, "delivery": scene.full()}  # noqa: PLW2901
            act = _confirmed(person, name, fields)
            found[f"/do/{name}"] = event, [one for one, _ in scene.who("page", act)]

    assert set(found) == posts(here, "/do/")
    assert {path: who for path, (event, who) in found.items() if event not in who} == {}
    assert all(line["address"] for line in scene.lines if line.get("source") == "page")


def _confirmed(person: Visitor, name: str, fields: dict[str, str]) -> Callable[[], None]:
    """Send a form, and confirm it if that is asked."""

    def act() -> None:
        action = f"/do/{name}"
        csrf = person.read("/").form("/logout")["csrf"]
        answer = person.post(action, data={"csrf": csrf, **fields})
        if answer.status_code == 200:
            form = Reading(answer.text).form(action, confirmed="yes")
            answer = person.post(action, data=form)
        assert answer.status_code == 303, answer.text

    return act


def test_each_command_logs_its_user(scene: Scene) -> None:
    """`catch-up` and `reload` named nobody."""
    beside, first, user = commands_beside(scene.here), scene.deliveries[0], getpass.getuser()
    calls = [
        (("dismiss", scene.parked), "dismissed"),
        (("dismiss", "--undo", scene.parked), "dismissal_undone"),
        (("push", f"{REPOSITORY}:1.4"), "pushed"),
        (("replay", first), "replayed"),
        (("catch-up", "--since", "1d"), "delivery_caught_up"),
        (("rollback", APP, "staging", "--to", "1.2"), "rolled_back"),
        (("promote", APP, "staging", "--to", "1.3"), "promoted"),
        (("release", APP, "staging"), "released"),
        (("trial", APP, "1.3", "--at", "45.5,-73.6"), "trial_requested"),
        (("prune", APP), "pruned"),
        (("pause", REPOSITORY), "paused"),
        (("resume", REPOSITORY), "resumed"),
        (("open-gate", "busy"), "gate_opened"),
        (("reload",), "config_reloaded"),
        (("api-token", "--revoke", "cd" * 8), "api_token_revoked"),
    ]
    wrong = {}
    for arguments, event in calls:
        if arguments[0] == "open-gate":
            scene.close_the_gate()
        who = scene.who("command", lambda: done(beside, *arguments))  # noqa: B023 - called at once
        if (event, user) not in who:
            wrong[arguments] = who

    assert wrong == {}


def done(beside: Commands, *arguments: str) -> None:
    ended = beside.run(*arguments)
    assert ended.exit_code == 0, ended.output


def test_the_ledger_keeps_who_requested_what(scene: Scene) -> None:
    beside, user = commands_beside(scene.here), getpass.getuser()
    by = f"command ({user})"

    done(beside, "dismiss", scene.parked)
    pushed = beside.json_of("push", f"{REPOSITORY}:1.4", "--json")
    moved = beside.json_of("rollback", APP, "staging", "--to", "1.2", "--json")["delivery"]
    tried = beside.json_of("trial", APP, "1.3", "--at", "45.5,-73.6", "--json")["delivery"]
    done(beside, "pause", REPOSITORY)
    done(beside, "prune", APP)
    shown = [scene.here.details(one) for one in (pushed["id"], moved, tried, scene.parked)]
    with visitor(scene.here) as person:
        page = person.read(f"/deliveries/{moved}").text
        versions = until(lambda: person.read("/versions").text)

    assert [one["requested_by"] for one in shown] == [by, by, by, None]
    assert shown[3]["registrations"][0]["dismissed_by"] == by
    assert f"by command, requested by {by}" in beside.run("show", moved).stdout
    assert f"Requested by {by}" in page
    assert f"beyond keep = 2, requested by {by}" in versions
