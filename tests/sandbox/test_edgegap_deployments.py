"""The deployments of the Edgegap sandbox, over real HTTP and on a clock that the test moves."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DOCUMENTED_RATES, DeploymentQuirks
from receiver.sandbox.serving import serving
from tests.contract.openapi import contract_checked
from tests.support.dockerhub_client import Clock

AUTHORIZATION = {"authorization": "token sandbox-token"}
ID = "{:012x}".format
APP = "my-game"


@pytest.fixture
def sandbox(clock: Clock) -> EdgegapSandbox:
    made = EdgegapSandbox(clock=clock)
    made.add_version(
        APP,
        "1.0",
        ports=[{"port": 7777, "protocol": "UDP", "tls_upgrade": False, "name": "gameport"}],
        restart_policy="always",
    )
    return made


@pytest.fixture
def edgegap(sandbox: EdgegapSandbox) -> Iterator[httpx.Client]:
    """A client of the served sandbox; every answer must be as the OpenAPI document wants it."""
    checked = contract_checked(sandbox.app)
    with (
        serving(checked) as url,
        httpx.Client(base_url=url, headers=AUTHORIZATION, timeout=5, trust_env=False) as asking,
    ):
        yield asking
    assert [one for one in checked.violations if "->" in one] == []


def body(**changes: Any) -> dict[str, Any]:
    near = {"user_type": "geo_coordinates", "user_data": {"latitude": 45.5, "longitude": -73.6}}
    return {"application": APP, "version": "1.0", "users": [near], "tags": ["a tag"], **changes}


def deployed(edgegap: httpx.Client, **changes: Any) -> str:
    answer = edgegap.post("/v2/deployments", json=body(**changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["request_id"])


def status(edgegap: httpx.Client, request_id: str) -> dict[str, Any]:
    answer = edgegap.get(f"/v1/status/{request_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def logs(edgegap: httpx.Client, request_id: str) -> httpx.Response:
    return edgegap.get(f"/v1/deployment/{request_id}/container-logs")


def stop(edgegap: httpx.Client, request_id: str) -> httpx.Response:
    return edgegap.delete(f"/v1/stop/{request_id}")


def listed(edgegap: httpx.Client, *filters: tuple[str, str, Any], **params: Any) -> Any:
    named = [dict(zip(("field", "operator", "value"), one, strict=True)) for one in filters]
    query = {"query": json.dumps({"filters": named}), **params}
    answer = edgegap.get("/v1/deployments", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_deployment_takes_steps_until_it_is_ready(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(APP, "1.0", ready_after=8)
    found = deployed(edgegap)
    steps = []
    for _ in range(5):
        steps.append((status(edgegap, found)["current_status"], status(edgegap, found)["running"]))
        clock.now += 2

    assert steps == [
        ("Status.INITIALIZING", False),
        ("Status.SEEKING", False),
        ("Status.SEEKED", False),
        ("Status.DEPLOYING", False),
        ("Status.READY", True),
    ]
    shown = status(edgegap, found)
    assert shown["elapsed_time"] == 2
    assert (shown["app_name"], shown["app_version"], shown["tags"]) == (APP, "1.0", ["a tag"])
    assert shown["ports"]["gameport"]["internal"] == 7777
    assert (shown["location"]["latitude"], shown["error"]) == (45.5, False)


def test_it_may_never_be_ready_or_end_in_error(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=None)
    slow = deployed(edgegap)
    sandbox.deployments.set_lifecycle(APP, error_after=5, error_detail="Pull image timeout")
    failing = deployed(edgegap)
    clock.now += 3600

    assert status(edgegap, slow)["current_status"] == "Status.DEPLOYING"
    shown = status(edgegap, failing)
    assert (shown["error"], shown["running"]) == (True, False)
    assert (shown["current_status"], shown["error_detail"]) == (
        "Status.ERROR",
        "Pull image timeout",
    )


def test_a_crash_is_restarted_and_only_its_data_shows_it(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(APP, "1.0", ready_after=1, crash_after=10, exit_code=139)
    found = deployed(edgegap)
    clock.now += 10
    assert logs(edgegap, found).json()["crash_data"] is None

    clock.now += 21

    assert status(edgegap, found)["current_status"] == "Status.READY"
    shown = logs(edgegap, found).json()
    assert shown["crash_data"] == {"exit_code": 139, "message": "OOM killed", "restart_count": 3}
    assert "Out of memory" in shown["crash_logs"]


def test_it_may_crash_only_once(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=0, crash_after=1, crashes=1)
    found = deployed(edgegap)
    clock.now += 100

    assert logs(edgegap, found).json()["crash_data"]["restart_count"] == 1


@pytest.mark.parametrize(
    ("policy", "exit_code", "ends"),
    [("never", 137, True), ("on_failure", 0, True), ("on_failure", 1, False), ("always", 0, False)],
)
def test_the_restart_policy_decides_whether_a_crash_is_the_end(
    sandbox: EdgegapSandbox,
    edgegap: httpx.Client,
    clock: Clock,
    policy: str,
    exit_code: int,
    *,
    ends: bool,
) -> None:
    sandbox.add_version(APP, "1.0", restart_policy=policy)
    sandbox.deployments.set_lifecycle(ready_after=0, crash_after=5, exit_code=exit_code)
    found = deployed(edgegap)
    clock.now += 6

    assert (status(edgegap, found)["current_status"] == "Status.TERMINATED") is ends
    assert (logs(edgegap, found).status_code == 400) is ends
    assert listed(edgegap)["total_count"] == int(not ends)


def test_a_crash_before_it_is_ready_counts_from_its_start(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=None, crash_after=5)
    found = deployed(edgegap)
    clock.now += 11

    assert status(edgegap, found)["running"] is False
    assert logs(edgegap, found).json()["crash_data"]["restart_count"] == 2


def test_it_ends_at_its_maximum_duration(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.add_version(APP, "1.0", max_duration=1)
    sandbox.deployments.set_lifecycle(ready_after=0)
    found = deployed(edgegap)
    clock.now += 60

    shown = status(edgegap, found)
    assert (shown["current_status"], shown["max_duration"]) == ("Status.TERMINATED", 1)
    assert shown["removal_time"] > shown["start_time"]


# Stopping


@pytest.mark.parametrize("unknown", [400, 404])
def test_each_answer_of_stop(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock, unknown: int
) -> None:
    sandbox.deployments.quirks = DeploymentQuirks(unknown_status=unknown, remembered_for=60)
    sandbox.deployments.set_lifecycle(ready_after=5)
    found = deployed(edgegap)

    early = stop(edgegap, found)
    assert early.status_code == 202
    assert status(edgegap, found)["running"] is False
    clock.now += 4
    assert len(sandbox.deployments.active("a tag")) == 1
    assert sandbox.deployments.active("a tag", "another") == []
    clock.now += 1  # Ready, and therefore stopped
    assert sandbox.deployments.active() == []
    assert status(edgegap, found)["current_status"] == "Status.TERMINATED"
    assert stop(edgegap, found).status_code == 410
    assert logs(edgegap, found).status_code == unknown
    clock.now += 60
    gone = stop(edgegap, found)
    assert (gone.status_code, gone.json()["message"]) == (unknown, "Bad Request ID provided")
    assert edgegap.get(f"/v1/status/{found}").status_code == unknown


def test_a_ready_deployment_is_stopped_at_once_or_takes_its_time(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=0)
    found = deployed(edgegap)

    stopped = stop(edgegap, found)

    assert stopped.status_code == 200
    assert stopped.json()["deployment_summary"]["current_status"] == "Status.TERMINATED"
    sandbox.deployments.set_lifecycle(ready_after=0, stop_takes=30)
    slow = deployed(edgegap)
    assert stop(edgegap, slow).status_code == 202
    clock.now += 29
    assert stop(edgegap, slow).status_code == 202  # which does not begin the wait again
    assert status(edgegap, slow)["current_status"] == "Status.READY"
    clock.now += 1
    assert stop(edgegap, slow).status_code == 410


def test_a_deployment_that_is_never_ready_can_be_stopped(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=None)
    found = deployed(edgegap)

    assert stop(edgegap, found).status_code == 200
    assert sandbox.deployments.active() == []


def test_a_stop_may_be_forbidden(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    sandbox.deployments.set_lifecycle(stoppable=False)
    found = deployed(edgegap)

    assert stop(edgegap, found).status_code == 403
    assert len(sandbox.deployments.active()) == 1


# Limits


@pytest.mark.parametrize("keeps", [False, True])
def test_without_capacity_a_422_names_an_id(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, *, keeps: bool
) -> None:
    sandbox.deployments.quirks = DeploymentQuirks(capacity=0, keeps_refused=keeps)

    answer = edgegap.post("/v2/deployments", json=body())

    assert answer.status_code == 422
    assert [row["request_id"] for row in listed(edgegap)["data"]] == (
        [answer.json()["request_id"]] if keeps else []
    )
    if keeps:
        assert status(edgegap, answer.json()["request_id"])["error"] is True
        assert stop(edgegap, answer.json()["request_id"]).status_code == 200


@pytest.mark.parametrize("refusal", [400, 402, 403])
def test_a_plan_has_a_number_of_deployments(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, refusal: int
) -> None:
    sandbox.deployments.quirks = DeploymentQuirks(limit=1, limit_status=refusal)
    players = sandbox.deployments.run(APP, "1.0")

    answer = edgegap.post("/v2/deployments", json=body())

    assert answer.status_code == refusal
    assert "Deployment limit of 1" in answer.json()["message"]
    assert stop(edgegap, players).status_code == 200
    deployed(edgegap)


def test_calls_per_second_are_limited_as_documented(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.deployments.quirks = DeploymentQuirks(rates=DOCUMENTED_RATES)

    def counts() -> list[int]:
        calls = [
            [edgegap.post("/v2/deployments", json=body()) for _ in range(41)],
            [edgegap.get(f"/v1/status/{ID(1)}") for _ in range(21)],
            [edgegap.get("/v1/deployments") for _ in range(11)],
        ]
        return [sum(one.status_code != 429 for one in each) for each in calls]

    assert counts() == [40, 20, 10]
    assert counts() == [0, 0, 0]
    clock.now += 1
    assert counts() == [40, 20, 10]


@pytest.mark.parametrize(
    "wrong",
    [
        {"application": "another"},
        {"version": "9.9"},
        {"version": None},
        {"users": []},
        {"users": [{"user_type": "planet", "user_data": {}}]},
        {"users": [{"user_type": "ip_address", "user_data": {"ip_address": "here"}}]},
        {"users": [{"user_type": "geo_coordinates", "user_data": {"latitude": 1}}]},
        {"tags": "a tag"},
        {"env_vars": []},
        {"environment_variables": [{"key": "A", "value": "1"}]},
    ],
    ids=str,
)
def test_what_is_not_documented_is_refused(edgegap: httpx.Client, wrong: dict[str, Any]) -> None:
    assert edgegap.post("/v2/deployments", json=body(**wrong)).status_code == 400


def test_a_version_that_is_not_active_is_not_deployed(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.add_version(APP, "1.0", is_active=False)

    assert edgegap.post("/v2/deployments", json=body()).status_code == 400
    assert edgegap.post("/v2/deployments", json=[]).status_code == 400


# Lists and metrics


def test_the_list_is_filtered_by_each_field_and_paged(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    ours = deployed(edgegap, tags=["receiver-trial", "d1"])
    sandbox.deployments.run(APP, "1.0", "players")
    sandbox.deployments.run("lobby", "2.0")

    def ids(*filters: tuple[str, str, Any]) -> list[str]:
        return [row["request_id"] for row in listed(edgegap, *filters)["data"]]

    assert ids(("tags", "eq", "receiver-trial")) == [ours]
    assert ids(("tags", "in", ["d1", "d2"])) == [ours]
    assert ids(("tags", "neq", "receiver-trial")) == [ID(2), ID(3)]
    assert ids(("request_id", "eq", ID(3))) == [ID(3)]
    assert ids(("status", "eq", "Status.READY")) == [ID(2), ID(3)]
    assert ids(("application", "eq", APP), ("version", "eq", "1.0")) == [ours, ID(2)]
    second = listed(edgegap, page=2, limit=2)
    assert [row["request_id"] for row in second["data"]] == [ID(3)]
    assert second["total_count"] == 3


def test_the_filter_by_tags_may_not_work_and_tags_not_be_shown(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    found = sandbox.deployments.run(APP, "1.0", "players")
    sandbox.deployments.quirks = DeploymentQuirks(ignores_tags_filter=True, shows_tags=False)

    page = listed(edgegap, ("tags", "eq", "receiver-trial"))

    assert [row["request_id"] for row in page["data"]] == [found]
    assert page["message"] == ["The field tags is not supported"]
    assert "tags" not in page["data"][0]
    assert "tags" not in status(edgegap, found)


def test_metrics_grow_with_time(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=0, cpu=80, memory=900)
    found = deployed(edgegap)
    clock.now += 25

    shown = edgegap.get(f"/v1/metrics/deployment/{found}").json()

    assert shown["cpu"]["datasets"] == [80, 80, 80]
    assert shown["mem"]["datasets"] == [900, 900, 900]
    assert len(shown["mem"]["timestamps"]) == 3


# Storage


def test_a_pull_profile_is_linked_to_a_version(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    sandbox.storage.add("bucket", "maps", "mods")
    path = "/v1/storage/endpoint/bucket/pull-profile/maps/app/my-game/version/1.0"

    answer = edgegap.put(path)

    assert answer.status_code == 200
    assert (answer.json()["pull_profile"], answer.json()["app_version"]) == ("maps", "1.0")
    assert sandbox.storage.links == {("bucket", "maps", APP, "1.0")}
    assert edgegap.put(path).status_code == 200
    sandbox.storage.linked_status = 400
    assert edgegap.put(path).status_code == 400


@pytest.mark.parametrize("unknown", [400, 404])
def test_an_unknown_name_is_refused(
    sandbox: EdgegapSandbox, edgegap: httpx.Client, unknown: int
) -> None:
    sandbox.storage.add("bucket", "maps")
    sandbox.storage.unknown_status = unknown
    link = "/v1/storage/endpoint/{}/pull-profile/{}/app/my-game/version/{}".format

    assert edgegap.put(link("another", "maps", "1.0")).status_code == unknown
    assert edgegap.put(link("bucket", "another", "1.0")).status_code == unknown
    assert edgegap.put(link("bucket", "maps", "9.9")).status_code == 404
    assert edgegap.get("/v1/storage/endpoint/another/pull-profiles").status_code == unknown
    assert sandbox.storage.links == set()


def test_endpoints_and_profiles_are_listed(sandbox: EdgegapSandbox, edgegap: httpx.Client) -> None:
    sandbox.storage.add("bucket", "maps")
    sandbox.storage.add("empty")
    sandbox.storage.add("bucket", "mods")

    endpoints = edgegap.get("/v1/storage/endpoints").json()
    profiles = edgegap.get("/v1/storage/endpoint/bucket/pull-profiles").json()

    assert [row["name"] for row in endpoints["endpoints"]] == ["bucket", "empty"]
    assert [row["name"] for row in profiles["pull_profiles"]] == ["maps", "mods"]


def test_their_lives_may_be_changed_at_any_time(
    sandbox: EdgegapSandbox, edgegap: httpx.Client
) -> None:
    deployments = sandbox.deployments
    deployments.set_lifecycle(APP, "1.0", ready_after=10, crash_after=5)
    deployments.quirks = DeploymentQuirks(unknown_status=404)
    deployments.run("lobby", "1.0", "players")
    sandbox.storage.add("bucket", "maps")
    ours = deployed(edgegap)
    deployments.ahead = 16

    assert logs(edgegap, ours).json()["crash_data"]["restart_count"] == 1
    assert edgegap.get("/v1/status/none").status_code == 404
    stop(edgegap, ours)
    edgegap.put("/v1/storage/endpoint/bucket/pull-profile/maps/app/my-game/version/1.0")

    shown = deployments.shown()
    assert [(one["app"], one["tags"], one["active"], one["status"]) for one in shown] == [
        ("lobby", ("players",), True, "Status.READY"),
        (APP, ("a tag",), False, "Status.TERMINATED"),
    ]
    assert sandbox.storage.links == {("bucket", "maps", APP, "1.0")}


def test_nonsense_is_refused(sandbox: EdgegapSandbox) -> None:
    with pytest.raises(ValueError, match="crash_after"):
        sandbox.deployments.set_lifecycle(crash_after=0)
