"""This machine's clock is compared with Docker Hub's, by the function that `doctor` uses too."""

import json
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.upkeep.clock import ClockWatch, difference, seconds_ahead
from tests.conftest import StartReceiver
from tests.support.dockerhub import hub_beside
from tests.support.receiver_process import NO_CATCH_UP, REPOSITORY, RULE, ReceiverProcess, until

NOW = 1_790_000_000
HOUR = 3600


def dated(seconds: float, **headers: str) -> dict[str, str]:
    return {"date": formatdate(NOW + seconds, usegmt=True), **headers}


@given(st.integers(-10 * HOUR, 10 * HOUR), st.integers(0, HOUR))
def test_the_clock_is_ahead_of_what_is_behind_it(ahead: int, age: int) -> None:
    assert seconds_ahead(dated(-ahead), NOW) == ahead
    assert seconds_ahead(dated(-ahead - age, age=str(age)), NOW) == ahead


@pytest.mark.parametrize("headers", [{}, {"date": ""}, {"date": "soon"}, {"age": "5"}])
def test_without_a_date_nothing_is_known(headers: dict[str, str]) -> None:
    assert seconds_ahead(headers, NOW) is None


def test_a_date_counts_whatever_the_age_is_said_to_be() -> None:
    assert seconds_ahead(dated(0, age="-3"), NOW) == 0
    assert seconds_ahead(dated(0, age="old"), NOW) == 0


def test_a_minute_does_no_harm_and_more_is_said_with_its_direction() -> None:
    assert difference(60) is None
    assert difference(-60) is None
    assert difference(7200.4) == "this machine's clock is 7200 s ahead of Docker Hub's"
    assert difference(-61) == "this machine's clock is 61 s behind Docker Hub's"


def test_it_is_warned_of_once_an_hour_and_when_it_agrees_again() -> None:
    elapsed = 0.0
    watch = ClockWatch(clock=lambda: NOW, elapsed=lambda: elapsed)

    def logged(headers: dict[str, str]) -> list[str]:
        with capture_logs() as logs:
            watch.compare(headers)
        return [str(line["event"]) for line in logs]

    assert logged(dated(0)) == []
    assert logged(dated(HOUR)) == ["clock_differs"]
    assert logged(dated(HOUR)) == []
    assert logged({}) == []
    elapsed = HOUR
    assert logged(dated(HOUR)) == ["clock_differs"]
    assert logged(dated(5)) == ["clock_agrees"]
    assert logged(dated(5)) == []
    assert logged(dated(-HOUR)) == ["clock_differs"]


@pytest.mark.parametrize(
    ("clock_ahead", "words"), [(-7200, "s ahead of Docker Hub's"), (7200, "s behind Docker Hub's")]
)
def test_serve_warns_of_it(start: StartReceiver, clock_ahead: int, words: str) -> None:
    hub = DockerHubSandbox(clock_ahead=clock_ahead)
    hub.add_repository(REPOSITORY)
    with hub_beside(hub) as variables:
        receiver = start(environment=variables)
        (answer,) = until(lambda: _warnings(receiver))

    assert answer["level"] == "warning"
    assert words in answer["sentence"]
    assert "NTP" in answer["sentence"]
    assert abs(answer["seconds_ahead"] + clock_ahead) <= 60


def test_serve_asks_for_the_time_if_it_asks_for_nothing_else(start: StartReceiver) -> None:
    """Without preflight and catch-up no answer of Docker Hub ever came, and no warning."""
    hub = DockerHubSandbox(clock_ahead=7200)
    with hub_beside(hub) as variables:
        receiver = start(config=RULE + NO_CATCH_UP, environment=variables)
        (answer,) = until(lambda: _warnings(receiver))

    assert "s behind Docker Hub's" in answer["sentence"]


def test_serve_says_nothing_of_a_clock_that_agrees(start: StartReceiver) -> None:
    hub = DockerHubSandbox(clock_ahead=20)
    hub.add_repository(REPOSITORY)
    with hub_beside(hub) as variables:
        receiver = start(environment=variables)
        until(lambda: "catch_up_completed" in receiver.log.read_text("utf-8"))

    assert _warnings(receiver) == []


def _warnings(receiver: ReceiverProcess) -> list[dict[str, Any]]:
    text = receiver.log.read_text("utf-8")
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [line for line in lines if line["event"] == "clock_differs"]
