"""Deployments, their logs and their usage, read from whatever a response holds."""

import json
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.deployment_answers import (
    LOG_KEPT,
    Coordinates,
    Crash,
    DeploymentState,
    Series,
    deployment_accepted,
    deployment_body,
    logs_shape,
    metrics_shape,
    read_deployments,
    read_logs,
    read_near,
    read_status,
    read_usage,
    request_id_of,
    status_of,
    stop_shape,
)
from receiver.edgegap.listing import Listing
from receiver.edgegap.responses import Answer
from receiver.secret import Secret

ID = "f68e011bfb01"
STARTING, READY = DeploymentState.STARTING, DeploymentState.READY
ERROR, TERMINATED = DeploymentState.ERROR, DeploymentState.TERMINATED
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
ANY: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner)
)


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields, of these values or any."""
    return st.fixed_dictionaries({}, optional={name: one | ANY for name, one in fields.items()})


def state(**fields: Any) -> DeploymentState:
    return read_status(fields, ()).state


# Where to deploy


def test_a_location_is_coordinates_or_an_address() -> None:
    assert read_near("45.5,-73.6") == Coordinates(45.5, -73.6)
    assert read_near(" -90 , 180 ") == Coordinates(-90, 180)
    assert read_near(" 192.0.2.7 ") == ip_address("192.0.2.7")
    assert read_near("2001:db8::1") == ip_address("2001:db8::1")


@pytest.mark.parametrize("text", ["", "Montreal", "45.5", "91,0", "0,181", "nan,0", "1,2,3", "1,"])
def test_another_location_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither coordinates .* nor an IP address"):
        read_near(text)


@given(st.text(max_size=20))
def test_any_text_is_a_location_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        near = read_near(text)
        assert "NaN" not in json.dumps(deployment_body("a", "1", near, ()))


def test_the_body_names_what_to_deploy_where_and_its_tags() -> None:
    assert deployment_body("my-game", "1.0", Coordinates(45.5, -73.6), ["receiver-trial"]) == {
        "application": "my-game",
        "version": "1.0",
        "users": [
            {
                "user_type": "geo_coordinates",
                "user_data": {"latitude": 45.5, "longitude": -73.6},
            }
        ],
        "tags": ["receiver-trial"],
    }
    by_address = deployment_body("my-game", "1.0", ip_address("192.0.2.7"), [])
    assert by_address["users"] == [
        {"user_type": "ip_address", "user_data": {"ip_address": "192.0.2.7"}}
    ]


# The id


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ID, ID),
        (1234, "1234"),
        ("f68e011bfb01-uuid_1", "f68e011bfb01-uuid_1"),
        ("", None),
        ("../../v1/app/my-game", None),
        ("a b", None),
        (True, None),
        (None, None),
        (1.5, None),
        ("x" * 200, None),
    ],
)
def test_an_id_is_one_that_a_path_can_hold(found: object, expected: str | None) -> None:
    assert request_id_of({"request_id": found}) == expected
    assert (deployment_accepted({"request_id": found}) == "") is (expected is not None)


def test_without_a_body_there_is_no_id() -> None:
    assert request_id_of(None) is None
    assert request_id_of({}) is None


# The status


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"running": True, "error": False, "current_status": "Status.READY"}, READY),
        ({"running": "true", "error": 0, "current_status": "whatever"}, READY),
        ({"running": True}, READY),
        ({"running": True, "error": None, "current_status": None}, READY),
        ({"current_status": "STATUS_READY"}, READY),
        ({"running": True, "current_status": "Status.SEEKING"}, STARTING),  # true is the default
        ({"running": True, "current_status": "Status.INITIALIZING"}, STARTING),
        ({"running": True, "current_status": "Status.DEPLOYING"}, STARTING),
        ({"running": True, "current_status": "NOT_READY"}, STARTING),
        ({"running": True, "current_status": "Status.TERMINATING"}, STARTING),
        ({"running": False, "current_status": "Status.READY"}, STARTING),
        ({"current_status": "Status.DEPLOYING"}, STARTING),
        ({}, STARTING),
        ({"running": True, "error": True, "current_status": "Status.READY"}, ERROR),
        ({"running": True, "error": "True"}, ERROR),
        ({"running": False, "error": False, "current_status": "status_error"}, ERROR),
        ({"running": False, "error": True, "current_status": "Status.TERMINATED"}, TERMINATED),
        ({"running": True, "current_status": "terminated"}, TERMINATED),
    ],
)
def test_the_state_follows_from_running_error_and_a_few_words(
    fields: dict[str, Any], expected: DeploymentState
) -> None:
    assert state(**fields) is expected


def test_a_status_is_read_whole() -> None:
    found = read_status(
        {
            "request_id": ID,
            "current_status": "Status.READY",
            "running": True,
            "error": False,
            "error_detail": None,
            "elapsed_time": "61",
            "tags": ["receiver-trial", 7],
        },
        (),
    )

    assert found.seconds == 61
    assert found.tags == frozenset({"receiver-trial"})
    assert found.error == ""


def test_what_a_status_does_not_show_is_unknown() -> None:
    found = read_status({"running": True}, ())

    assert found.tags is None
    assert found.seconds is None


def test_the_explanation_of_an_error_is_masked() -> None:
    body = {"error": True, "error_detail": "login with canary-token failed"}

    assert read_status(body, [Secret("canary-token")]).error == "login with *** failed"


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"request_id": ID, "running": False}, True),
        ({"current_status": "Status.SEEKING"}, True),
        ({"running": "false"}, True),
        ({"request_id": "another", "running": True}, False),
        ({"request_id": ID}, False),
        ({"message": "Please log in"}, False),
        ({}, False),
    ],
)
def test_a_status_is_that_of_the_deployment(body: dict[str, Any], *, fits: bool) -> None:
    assert (status_of(ID)(body) == "") is fits


def test_other_objects_are_no_logs_metrics_or_stops() -> None:
    for shape in (logs_shape, metrics_shape, stop_shape):
        assert shape({"status": "ok"}) != ""
    assert logs_shape({"crash_data": None}) == ""
    assert metrics_shape({"mem": {}}) == ""
    assert stop_shape({"message": "Stopped"}) == ""


STATUSES = objects(
    running=st.booleans(),
    error=st.booleans(),
    current_status=st.sampled_from(["Status.READY", "Status.ERROR", "TERMINATED", "SEEKING"]),
    error_detail=st.text(),
    ports=st.dictionaries(st.text(max_size=4), objects(link=st.text(), protocol=st.text())),
    location=objects(city=st.text(), country=st.text()),
    tags=st.lists(st.text(max_size=4)),
    elapsed_time=st.integers() | st.floats() | st.text("0123456789.-"),
    request_id=st.just(ID),
)


@given(STATUSES)
def test_any_status_is_read_and_an_error_is_never_ready(body: dict[str, Any]) -> None:
    found = read_status(body, [Secret("canary-token")])

    if body.get("error") is True:
        assert found.state in {ERROR, TERMINATED}
    if body.get("running") is False:
        assert found.state is not READY
    assert found.seconds is None or found.seconds >= 0
    assert isinstance(status_of(ID)(body), str)


# Logs


@pytest.mark.parametrize(
    ("data", "restarts", "crashed"),
    [
        (None, 0, False),
        ({}, 0, False),
        ("crashed", 0, False),
        ({"exit_code": 0, "message": "", "restart_count": 0}, 0, False),
        ({"exit_code": 0, "message": "Completed", "restart_count": 0}, 0, False),
        ({"exit_code": 137, "message": "OOM killed", "restart_count": 2}, 2, True),
        ({"exit_code": "137", "restart_count": "2"}, 2, True),
        ({"exit_code": 137.0, "restart_count": 0}, 0, True),
        ({"exit_code": 1}, 1, True),
        ({"message": "OOM killed", "restart_count": "some"}, 1, True),
        ({"restart_count": 3.0}, 3, True),
    ],
)
def test_a_crash_is_one_that_left_a_trace(data: Any, restarts: int, *, crashed: bool) -> None:
    found = read_logs({"logs": "", "crash_data": data}, ())

    assert (found.restarts, found.crashed) == (restarts, crashed)


def test_the_last_lines_are_those_of_the_process_that_crashed() -> None:
    body = {
        "logs": "started again\n",
        "crash_logs": "\x1b[31mloading\x1b[0m\n\nout of\tmemory\r\n",
        "crash_data": {"exit_code": 137, "message": "OOM killed", "restart_count": 1},
    }

    found = read_logs(body, ())

    assert found.crash == Crash(137, "OOM killed", 1)
    assert found.last() == ("loading", "out of memory")
    assert found.lines == ("started again",)
    assert read_logs({**body, "crash_logs": None}, ()).last() == ("started again",)


def test_at_most_forty_lines_are_the_last() -> None:
    found = read_logs({"logs": "\n".join(map(str, range(100)))}, ())

    assert found.last() == tuple(map(str, range(60, 100)))
    assert found.last(2) == ("98", "99")


def test_logs_are_masked_before_they_are_cut() -> None:
    secret = "canary-" + "s" * 50
    lines = f"token={secret}\n" * 3000
    for extra in range(len(secret) + 10):
        found = read_logs({"logs": lines + "x" * extra}, [Secret(secret)])
        assert not any("canary" in line or "ssss" in line for line in found.lines)
        assert sum(map(len, found.lines)) <= LOG_KEPT


def test_logs_may_be_a_list_of_lines() -> None:
    assert read_logs({"logs": ["one", 2, "three"]}, ()).lines == ("one", "three")


CRASHES = objects(exit_code=st.integers(), message=st.text(), restart_count=st.integers())
LOGS = objects(logs=st.text(), crash_logs=st.text(), crash_data=CRASHES, encoding=st.text())


@given(LOGS)
def test_any_logs_are_read_as_printable_lines(body: dict[str, Any]) -> None:
    found = read_logs(body, [Secret("canary-token")])

    assert all(line.isprintable() and line for line in (*found.lines, *found.crash_lines))
    assert found.crashed >= (found.restarts > 0)
    assert isinstance(logs_shape(body), str)


# Usage


def test_the_usage_is_the_highest_and_the_mean() -> None:
    body = {"cpu": {"datasets": [10, "30", None, 20.0]}, "mem": {"datasets": []}}

    found = read_usage(body)

    assert found.cpu == Series(peak=30, mean=20)
    assert found.memory is None
    assert read_usage({"mem": None, "cpu": {"datasets": "x"}}).cpu is None


@given(objects(cpu=objects(datasets=st.lists(SCALARS)), mem=objects(datasets=st.lists(SCALARS))))
def test_any_metrics_are_read(body: dict[str, Any]) -> None:
    for series in (read_usage(body).cpu, read_usage(body).memory):
        if series is not None:
            json.dumps([series.peak, series.mean], allow_nan=False)


# The list


def listing(*rows: Any, complete: bool = True, **body: Any) -> Listing:
    return Listing(rows, Answer("GET", "/v1/deployments", 200, body), complete)


def test_a_row_is_ours_only_if_it_shows_the_tag_itself() -> None:
    found = read_deployments(
        listing(
            {"request_id": "a1", "ready": True, "tags": ["receiver-trial", "d1"]},
            {"request_id": "a2", "ready": "false", "tags": ["players"]},
            {"request_id": "a3", "tags": None},
            {"request_id": "a4"},
        )
    )

    assert found.complete
    assert found.tagged("receiver-trial") == ("a1",)
    assert found.tagged("receiver") == ()
    assert found.without_tags == ("a3", "a4")


def test_a_list_with_a_message_or_an_unusable_id_is_not_complete() -> None:
    row = {"request_id": "a1"}

    assert not read_deployments(listing(row, message=["Unknown field"])).complete
    assert not read_deployments(listing(row, complete=False)).complete
    assert not read_deployments(listing(row, {"request_id": "../x"})).complete
    assert read_deployments(listing(row, message=[])).complete


@given(st.lists(objects(ready=st.booleans(), tags=st.lists(st.text())), max_size=3), st.text())
def test_any_rows_are_read(rows: list[dict[str, Any]], tag: str) -> None:
    found = read_deployments(listing(*({"request_id": f"a{n}", **r} for n, r in enumerate(rows))))

    assert len(found.rows) == len(rows)
    assert not set(found.tagged(tag)) & set(found.without_tags)
