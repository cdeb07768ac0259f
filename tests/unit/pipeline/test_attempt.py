"""One attempt, decision by decision, with a client that answers from memory."""

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, cast

import pytest
from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.config.settings import Settings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.listing import Listing
from receiver.edgegap.plans import Rejected
from receiver.edgegap.responses import Answer, Body, version_path, versions_path
from receiver.edgegap.version_cache import VersionCache
from receiver.images import ImageReference
from receiver.ledger.claims import Claimed
from receiver.ledger.results import Result
from receiver.pipeline.attempt import Attempt
from receiver.pipeline.preflight import (
    DockerHubOut,
    Findings,
    ImageOk,
    ImagePending,
    ImageRejected,
    Preflight,
)
from receiver.reasons import Outcome, Reason, State
from receiver.rules.rule import Mode, OnOverwrite, Rule
from tests.support.attempt_ledger import empty_ledger

APP, REPOSITORY, VERSION = "my-game", "studio/game-server", "1.4.2"
NOW, HOUR = 1_800_000_000_000, 3_600_000
PORTS = [{"port": 7777, "protocol": "UDP", "name": "gameport"}]
RESOURCES = {"req_cpu": 1024, "req_memory": 2048}
RULE = Rule(REPOSITORY, APP, "a rule", preflight=False, settings={**RESOURCES, "ports": PORTS})
CLAIMED = Claimed(
    id="r01n0e03600qpvp6tds",
    rule="a rule",
    app=APP,
    version=VERSION,
    mode=Mode.CREATE,
    image=ImageReference(REPOSITORY, VERSION),
    push_time=NOW - HOUR,
    attempt=1,
    fence=1,
    waited=WaitState(),
    created_at=NOW,
)
THIS_IMAGE = {
    "docker_repository": "docker.io",
    "docker_image": REPOSITORY,
    "docker_tag": VERSION,
}
SAYS_NOTHING = None  # no response at all


class FakeClient:
    """Edgegap in memory: it keeps what it is sent, unless a response is prepared for a method.

    `requests` lists what was sent, `requests[n][2]` its body.
    """

    def __init__(self, **versions: Body) -> None:
        self.versions_held: dict[str, Body] = dict(versions)
        self.requests: list[tuple[str, str, Body | None]] = []
        self._prepared: dict[str, list[Answer]] = defaultdict(list)

    def respond(
        self, method: str, status: int | None, message: str = "", **more: Any
    ) -> "FakeClient":
        """Give this response to the next call of the method, whatever is held."""
        self._prepared[method].append(Answer(method, "/", status, message=message, **more))
        return self

    async def get_version(self, app: str, version: str) -> Answer:
        held = self.versions_held.get(version)
        return self._answer("GET", version_path(app, version), held)

    async def create(self, app: str, body: Mapping[str, Any]) -> Answer:
        answer = self._answer("POST", version_path(app), {"success": True}, body)
        if answer.ok:
            self.versions_held[str(body["name"])] = {**body, "create_time": "2026-11-28T00:00:00Z"}
        return answer

    async def probe(self) -> Answer:
        return self._answer("PROBE", "/v1/apps", {"applications": []})

    async def versions(self, app: str) -> Listing:
        rows = tuple(self.versions_held.values())
        return Listing(rows, self._answer("LIST", versions_path(app), {"versions": []}), True)

    def sent(self) -> list[str]:
        return [method for method, _, _ in self.requests]

    def _answer(
        self, method: str, path: str, body: Body | None, sent: Body | None = None
    ) -> Answer:
        self.requests.append((method, path, sent))
        if self._prepared[method]:
            return self._prepared[method].pop(0)
        return Answer(method, path, 404 if body is None else 200, body)


class FakePreflight:
    """Finds what it is given."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    async def check(self, image: ImageReference, rule: Rule) -> Findings:
        return self._findings


def attempt(
    client: FakeClient,
    *,
    rule: Rule = RULE,
    claimed: Claimed = CLAIMED,
    findings: Findings | None = None,
) -> Result:
    """Run one attempt; `findings` are those of a preflight."""
    recorded: list[str] = []

    def record(method: str) -> None:
        assert method not in client.sent()[len(recorded) :], "recorded before it is sent"
        recorded.append(method)

    edgegap = cast("EdgegapClient", client)
    made = Attempt(
        claimed,
        Settings(rules=(dataclasses.replace(rule, preflight=findings is not None),)),
        edgegap,
        VersionCache(edgegap),
        preflight=cast("Preflight", FakePreflight(findings or ImageOk())),
        ledger=empty_ledger(lambda: NOW, record),
        jitter=lambda: 1.0,
    )
    result = asyncio.run(made.run())
    assert recorded == [method for method in client.sent() if method == "POST"]
    return result


def held(**more: Any) -> Body:
    return {"name": VERSION, **THIS_IMAGE, **RESOURCES, "ports": PORTS, "is_active": True, **more}


def ending(result: Result) -> object:
    return result.outcome or result.reason


def test_an_absent_version_is_created_and_read_back() -> None:
    client = FakeClient()

    result = attempt(client)

    assert (result.state, result.outcome) == (State.DONE, Outcome.CREATED)
    assert client.sent() == ["GET", "LIST", "POST", "GET"]
    assert client.versions_held[VERSION].items() >= {**THIS_IMAGE, **RESOURCES}.items()


@pytest.mark.parametrize(
    ("ours", "version", "expected"),
    [
        (False, held(), Outcome.UNCHANGED),
        (True, held(), Outcome.CREATED),
        (False, held(docker_tag="1.4.1"), Reason.NAME_TAKEN),
        (True, held(docker_tag="1.4.1"), Reason.NAME_TAKEN),
        (True, held(ports=[]), Reason.STORED_DIFFERENTLY),
        (False, held(ports=[]), Outcome.UNCHANGED),
    ],
    ids=["known", "made by us", "other image", "ours, other image", "ours, no port", "no port"],
)
def test_a_version_that_exists_is_compared_and_never_created(
    ours: bool, version: Body, expected: object
) -> None:
    client = FakeClient(**{VERSION: version})

    result = attempt(client, claimed=replace(CLAIMED, ours=ours))

    assert ending(result) == expected
    assert "POST" not in client.sent()


def test_what_edgegap_stored_otherwise_parks() -> None:
    client = FakeClient().respond("GET", 404).respond("GET", 200, body=held(ports=[]))

    result = attempt(client)

    assert ending(result) is Reason.STORED_DIFFERENTLY
    assert "ports" in result.sentence


@pytest.mark.parametrize(
    ("holds", "expected"),
    [(held(), Outcome.UNCHANGED), (held(docker_tag="other"), Reason.NAME_TAKEN)],
)
def test_a_name_that_is_taken_in_between_is_looked_at(holds: Body, expected: object) -> None:
    client = FakeClient().respond("POST", 409, "this version already exists")
    client.respond("GET", 404).respond("GET", 200, body=holds)

    assert ending(attempt(client)) == expected
    assert client.sent() == ["GET", "LIST", "POST", "GET"]


def test_a_name_that_is_taken_but_absent_is_tried_again_and_then_parks() -> None:
    first = attempt(FakeClient().respond("POST", 409, "this version already exists"))
    claimed = replace(CLAIMED, waited=first.waited, attempt=2)
    again = FakeClient().respond("POST", 409, "this version already exists")

    assert (first.state, first.reason) == (State.WAITING, Reason.NAME_CONFLICT)
    assert attempt(again, claimed=claimed).state is State.PARKED


@pytest.mark.parametrize("status", [SAYS_NOTHING, 500, 502, 504])
def test_a_post_of_unknown_effect_is_read_back(status: int | None) -> None:
    took = FakeClient().respond("GET", 404).respond("POST", status).respond("GET", 200, body=held())
    took_not = FakeClient().respond("POST", status)

    assert ending(attempt(took)) is Outcome.CREATED
    result = attempt(took_not)
    assert result.state is State.WAITING
    assert NOW < result.due_at <= NOW + HOUR
    assert took_not.sent().count("POST") == 1


@pytest.mark.parametrize(
    ("method", "status", "message", "state", "reason"),
    [
        ("GET", 500, "", State.WAITING, Reason.EDGEGAP_ERROR),
        ("GET", SAYS_NOTHING, "", State.WAITING, Reason.EDGEGAP_UNREACHABLE),
        ("LIST", 503, "", State.WAITING, Reason.EDGEGAP_ERROR),
        ("POST", 400, "limit of 10 versions reached", State.PARKED, Reason.VERSION_LIMIT),
        ("POST", 401, "", State.WAITING, Reason.EDGEGAP_TOKEN_REFUSED),
        ("GET", 401, "", State.WAITING, Reason.EDGEGAP_TOKEN_REFUSED),
        ("POST", 429, "", State.WAITING, Reason.EDGEGAP_BUSY),
    ],
)
def test_each_refusal_waits_or_parks(
    method: str, status: int | None, message: str, state: State, reason: Reason
) -> None:
    result = attempt(FakeClient().respond(method, status, message))

    assert (result.state, result.reason) == (state, reason)
    assert result.sentence


def test_a_refused_token_stops_all_and_a_busy_edgegap_slows_all_down() -> None:
    refused = attempt(FakeClient().respond("GET", 401))
    busy = attempt(FakeClient().respond("GET", 429, retry_after=90_000))

    assert refused.close_gate
    assert not busy.close_gate
    assert busy.slow_down_until == NOW + 90_000


def test_an_app_that_the_token_may_not_use_stops_no_other_app() -> None:
    """A 403 may be about the app or about the token: one call shows which."""
    this_app = attempt(FakeClient().respond("GET", 403))
    all_apps = attempt(FakeClient().respond("GET", 403).respond("PROBE", 401))

    assert not this_app.close_gate
    assert all_apps.close_gate


def test_a_proxys_404_is_not_taken_as_an_absent_version() -> None:
    client = FakeClient().respond("GET", 404, foreign=True)

    assert attempt(client).state is State.WAITING
    assert "POST" not in client.sent()


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (dataclasses.replace(RULE, name="another"), Reason.RULE_GONE),
        (dataclasses.replace(RULE, repository="studio/other"), Reason.RULE_GONE),
        (dataclasses.replace(RULE, version="v{tag}"), Reason.RULE_CHANGED),
        (dataclasses.replace(RULE, settings={}), Reason.NO_SETTINGS),
        (
            dataclasses.replace(RULE, settings={**RULE.settings, "req_cpu": -1}),
            Reason.SETTINGS_INVALID,
        ),
        (dataclasses.replace(RULE, copy_from="1.0"), Reason.COPY_FROM_MISSING),
    ],
)
def test_a_rule_that_does_not_fit_parks_before_anything_is_sent(rule: Rule, reason: Reason) -> None:
    client = FakeClient()

    assert ending(attempt(client, rule=rule)) is reason
    assert "POST" not in client.sent()


def test_a_version_that_was_pruned_is_not_created_again_by_a_repeated_report() -> None:
    client = FakeClient()

    result = attempt(client, claimed=replace(CLAIMED, deleted="beyond keep = 2"))

    assert ending(result) is Outcome.SUPERSEDED
    assert "beyond keep = 2" in result.sentence
    assert client.sent() == ["GET"]


def test_the_newest_version_is_copied_and_the_rule_overrides_it() -> None:
    source = {
        **held(),
        "name": "1.4.1",
        "docker_tag": "1.4.1",
        "req_cpu": 2048,
        "time_to_deploy": 77,
        "envs": [{"key": "MODE", "value": "coop", "is_hidden": False}],
        "whitelisting_active": False,
        "create_time": "2026-11-01T00:00:00Z",
    }
    client = FakeClient(**{"1.4.1": source})
    rule = dataclasses.replace(RULE, settings={"req_memory": 4096})

    result = attempt(client, rule=rule)

    assert ending(result) is Outcome.CREATED, result.sentence
    body = client.versions_held[VERSION]
    assert [env["key"] for env in body["envs"]] == ["MODE"]
    assert (body["req_cpu"], body["req_memory"], body["time_to_deploy"]) == (2048, 4096, 77)
    assert body["docker_tag"] == VERSION


PENDING = ImagePending((Answer("HEAD", "/v2/", 404, message="no such tag"),))


@pytest.mark.parametrize(
    ("findings", "state", "expected"),
    [
        (ImageOk("sha256:new"), State.DONE, Outcome.CREATED),
        (PENDING, State.WAITING, Reason.IMAGE_NOT_READY),
        (ImageRejected(Rejected(Reason.NOT_AMD64, "No.")), State.PARKED, Reason.NOT_AMD64),
        (DockerHubOut("no connection", longest=HOUR), State.WAITING, Reason.DOCKER_HUB_UNAVAILABLE),
        (DockerHubOut("no connection", longest=HOUR, lasted=HOUR), State.DONE, Outcome.CREATED),
    ],
    ids=["there", "not there yet", "unfit", "Docker Hub is out", "out for too long"],
)
def test_the_image_is_checked_before_the_version_is_created(
    findings: Findings, state: State, expected: object
) -> None:
    client = FakeClient()

    result = attempt(client, findings=findings)

    assert (result.state, ending(result)) == (state, expected)
    assert ("POST" in client.sent()) == (state is State.DONE)


@pytest.mark.parametrize("policy", OnOverwrite)
def test_a_tag_with_another_image_than_before_is_noted_or_parks(policy: OnOverwrite) -> None:
    rule = dataclasses.replace(RULE, on_overwrite=policy)
    claimed = replace(CLAIMED, known_digest="sha256:old")
    client = FakeClient(**{VERSION: held()})

    result = attempt(client, rule=rule, claimed=claimed, findings=ImageOk("sha256:new"))

    assert result.overwritten
    parks = policy is OnOverwrite.PARK
    assert ending(result) == (Reason.TAG_OVERWRITTEN if parks else Outcome.UNCHANGED)
    assert "sha256:old before, sha256:new now" in (result.sentence if parks else result.notes[0])
