"""The metrics, as Prometheus reads them over HTTP after real pushes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.dockerhub.webhook import Push
from receiver.reasons import Outcome
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.upkeep import health
from receiver.version import VERSION
from receiver.web import webhook
from tests.conftest import StartReceiver
from tests.support.dockerhub import hub_beside
from tests.support.metrics import scrape
from tests.support.receiver_here import receiver_here
from tests.support.receiver_process import (
    APP,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    until,
    webhook_body,
)

LOOKING = RULE.replace("preflight = false\n", "")
TWO_RULES = f"""
{RULE}
[[rule]]
name = "parks"
repository = "{REPOSITORY}"
app = "lobby"
preflight = false
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    """One that is pushed to by many tests, each looking at what its own pushes add."""
    with serving(EdgegapSandbox(apps=(APP, "lobby")).app) as edgegap:
        receiver = ReceiverProcess(tmp_path_factory.mktemp("metrics"), edgegap).start()
        yield receiver
        receiver.stop()


def test_a_fresh_receiver_knows_its_series_and_claims_nothing(receiver: ReceiverProcess) -> None:
    answer = scrape(receiver)

    for source in ("webhook", "command", "catch-up"):
        labels = {"source": source, "verdict": "accepted", "reason": "none"}
        assert answer.value("docker_hub_receiver_deliveries_total", **labels) == 0
    for outcome in Outcome:
        labels = {"state": "done", "outcome": outcome.value, "reason": "none"}
        assert answer.value("docker_hub_receiver_registrations_total", **labels) == 0
    for state in ("queued", "waiting", "working", "parked"):
        assert answer.value("docker_hub_receiver_open_registrations", state=state) == 0
    assert answer.value("docker_hub_receiver_oldest_unfinished_seconds") == 0
    assert answer.value("docker_hub_receiver_last_success_timestamp_seconds") == 0
    assert answer.value("docker_hub_receiver_edgegap_token_refused") == 0
    assert answer.value("docker_hub_receiver_ready") == 1
    assert answer.total("docker_hub_receiver_build_info", version=VERSION) == 1
    assert answer.total("docker_hub_receiver_webhook_request_seconds_count") == 0
    assert answer.value("docker_hub_receiver_config_last_reload_successful") == 1
    size = answer.value("docker_hub_receiver_ledger_size_bytes")
    assert size == (receiver.folder / "receiver.db").stat().st_size
    read = answer.value("docker_hub_receiver_config_last_reload_success_timestamp_seconds") or 0
    started = answer.value("process_start_time_seconds") or 0
    assert 0 < started - 1 < read  # the kernel counts the start in hundredths


def test_a_pull_limit_that_docker_hub_never_reported_is_absent_and_not_zero(
    receiver: ReceiverProcess,
) -> None:
    assert scrape(receiver).value("docker_hub_receiver_docker_hub_pulls_left") is None


def test_a_push_counts_from_the_webhook_to_the_version(start: StartReceiver) -> None:
    receiver = start(config=TWO_RULES)

    created = receiver.details(receiver.push("1.0.0"))
    receiver.ended(created["id"])
    answer = scrape(receiver)

    accepted = {"source": "webhook", "verdict": "accepted", "reason": "none"}
    done = {"state": "done", "outcome": "created", "reason": "none"}
    parked = {"state": "parked", "outcome": "none", "reason": "no_settings"}
    assert answer.value("docker_hub_receiver_deliveries_total", **accepted) == 1
    assert answer.value("docker_hub_receiver_registrations_total", **done) == 1
    assert answer.value("docker_hub_receiver_registrations_total", **parked) == 1
    assert answer.value("docker_hub_receiver_open_registrations", state="parked") == 1
    assert answer.value("docker_hub_receiver_push_to_version_seconds_count") == 1
    assert 0 < (answer.value("docker_hub_receiver_push_to_version_seconds_sum") or 0) < 30
    assert (
        answer.value("docker_hub_receiver_edgegap_call_seconds_count", method="POST", status="200")
        == 1
    )
    assert (
        answer.total("docker_hub_receiver_edgegap_call_seconds_count", method="GET", status="404")
        >= 1
    )
    assert answer.value("docker_hub_receiver_oldest_unfinished_seconds") == 0


def test_the_last_success_is_when_a_version_was_made_not_when_it_was_pushed_again(
    start: StartReceiver,
) -> None:
    receiver = start()
    first = receiver.ended(receiver.push("1.0.0"))
    made = scrape(receiver).value("docker_hub_receiver_last_success_timestamp_seconds")

    again = receiver.ended(receiver.push("1.0.0"))

    assert (first["outcome"], again["outcome"]) == ("created", "unchanged")
    assert made
    assert scrape(receiver).value("docker_hub_receiver_last_success_timestamp_seconds") == made


@pytest.mark.parametrize(
    ("body", "verdict", "reason"),
    [
        (webhook_body(None), "ignored", "no_tag"),
        (webhook_body("latest"), "ignored", "latest_not_named"),
        (b"no json", "refused", "bad_json"),
        (webhook_body("no tag at all"), "refused", "bad_tag"),
    ],
)
def test_what_was_not_accepted_is_counted_by_its_reason(
    one: ReceiverProcess, body: Any, verdict: str, reason: str
) -> None:
    labels = {"source": "webhook", "verdict": verdict, "reason": reason}
    before = scrape(one).value("docker_hub_receiver_deliveries_total", **labels) or 0

    one.post(body)

    assert scrape(one).value("docker_hub_receiver_deliveries_total", **labels) == before + 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (webhook_body("5.0.0"), "202"),
        (webhook_body(None), "200"),
        (b"no json", "400"),
        (webhook_body("5.0.0", "studio/other"), "404"),
        (b" " * 1_100_000, "413"),
    ],
)
def test_each_response_of_the_webhook_endpoint_is_timed_by_its_status(
    one: ReceiverProcess, body: Any, status: str
) -> None:
    name = "docker_hub_receiver_webhook_request_seconds"
    before = scrape(one)

    assert one.post(body).status_code == int(status)
    httpx.get(f"{one.url}/hooks/dockerhub/greeting", trust_env=False)  # a person's: not counted
    after = scrape(one)

    count = before.value(f"{name}_count", status=status)
    assert count is not None  # known from the start, so that its growth is seen
    assert after.value(f"{name}_count", status=status) == count + 1
    assert after.value(f"{name}_bucket", status=status, le="+Inf") == count + 1
    assert after.total(f"{name}_count") == before.total(f"{name}_count") + 1
    assert after.total(f"{name}_sum") > before.total(f"{name}_sum")


def test_an_error_in_the_receiver_is_a_500_that_is_counted(
    tmp_path: Path, edgegap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Push:
        raise RuntimeError

    name = "docker_hub_receiver_webhook_request_seconds_count"
    with receiver_here(tmp_path, edgegap) as receiver:
        before = scrape(receiver).value(name, status="500")
        assert before is not None
        monkeypatch.setattr(webhook, "read_push", fail)

        assert receiver.post(webhook_body("1.0.0")).status_code == 500
        assert scrape(receiver).value(name, status="500") == before + 1


@pytest.mark.parametrize("place", ["read_push", "take"])
def test_without_memory_a_push_is_not_accepted_and_may_be_sent_again(
    tmp_path: Path, edgegap: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with receiver_here(tmp_path, edgegap) as receiver:
        monkeypatch.setattr(webhook, place, fail)

        answer = receiver.post(webhook_body("1.0.0"))

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert answer.json()["code"] == "ledger_unavailable"


def test_a_reload_shows_whether_it_succeeded_and_when(receiver: ReceiverProcess) -> None:
    name = "docker_hub_receiver_config_last_reload"

    def state() -> tuple[float | None, float]:
        answer = scrape(receiver)
        when = answer.value(f"{name}_success_timestamp_seconds")
        assert when is not None
        return answer.value(f"{name}_successful"), when

    def reload(config: str) -> None:
        receiver.config.write_text(config, "utf-8")
        assert receiver.process is not None
        os.kill(receiver.process.pid, signal.SIGHUP)

    _, began = state()
    reload("[[rule]]")
    until(lambda: state() == (0, began))
    reload(RULE)
    until(lambda: state()[0] == 1)
    assert state()[1] > began


def test_a_wrong_token_is_counted_as_a_link_refused(one: ReceiverProcess) -> None:
    before = scrape(one).value("docker_hub_receiver_links_refused_total", reason="malformed")
    assert before is not None  # known from the start, so that its growth is seen

    httpx.post(f"{one.url}/hooks/dockerhub/wrong", json={}, trust_env=False)

    assert (
        scrape(one).value("docker_hub_receiver_links_refused_total", reason="malformed")
        == before + 1
    )


def test_pushes_by_command_and_by_catch_up_count_as_deliveries_too(
    one: ReceiverProcess,
) -> None:
    def count(source: str) -> float:
        return scrape(one).total(
            "docker_hub_receiver_deliveries_total", source=source, verdict="accepted"
        )

    before = {source: count(source) for source in ("command", "catch-up")}
    answer = {"missed": [{"repository": REPOSITORY, "tag": "7.0.0"}]}
    with httpx.Client(
        base_url=one.url, headers={"Authorization": f"Bearer {one.api_token()}"}, trust_env=False
    ) as api:
        assert api.post("/api/deliveries", json={"image": f"{REPOSITORY}:7.0.1"}).is_success
        assert api.post("/api/catch-up", json=answer).is_success

    assert count("command") == before["command"] + 1
    assert count("catch-up") == before["catch-up"] + 1
    assert scrape(one).value("docker_hub_receiver_catch_up_found_total") == 1


def test_a_rollback_counts_as_a_delivery_by_a_person(start: StartReceiver) -> None:
    moving = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
    receiver = start(config=moving)
    for tag in ("1.0.0", "2.0.0"):
        delivery = receiver.push(tag)
        until(lambda result=delivery: _all_done(receiver, result, 2))  # type: ignore[misc]

    answer = httpx.post(
        f"{receiver.url}/api/rollback",
        json={"app": APP, "channel": "staging"},
        headers={"Authorization": f"Bearer {receiver.api_token()}"},
        trust_env=False,
    )

    assert answer.status_code == 202, answer.text
    labels = {"source": "command", "verdict": "accepted", "reason": "none"}
    assert scrape(receiver).value("docker_hub_receiver_deliveries_total", **labels) == 1


def test_a_refused_token_shows_while_it_is_refused_and_what_waits_grows_old(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.token_state = "refused"
    delivery = receiver.push("1.0.0")
    until(lambda: scrape(receiver).value("docker_hub_receiver_edgegap_token_refused"))

    answer = scrape(receiver)
    older = until(
        lambda: (
            (scrape(receiver).value("docker_hub_receiver_oldest_unfinished_seconds") or 0) > 0.01
        )
    )

    assert answer.value("docker_hub_receiver_open_registrations", state="waiting") == 1
    assert answer.total("docker_hub_receiver_edgegap_call_seconds_count", status="401") >= 1
    assert older
    assert receiver.details(delivery)["registrations"][0]["state"] == "waiting"


def test_the_pull_limit_is_the_last_that_docker_hub_reported(
    start: StartReceiver, edgegap: str
) -> None:
    hub = DockerHubSandbox(anonymous_pull_limit=40)
    hub.push_image(REPOSITORY, "1.0.0")
    with hub_beside(hub) as variables:
        receiver = start(config=LOOKING, environment=variables)

        receiver.ended(receiver.push("1.0.0"))
        answer = scrape(receiver)

    left = answer.value("docker_hub_receiver_docker_hub_pulls_left")
    assert left is not None
    assert 30 <= left <= 40
    assert answer.value("docker_hub_receiver_docker_hub_pull_limit") == 40
    assert (
        answer.total(
            "docker_hub_receiver_docker_hub_call_seconds_count", method="HEAD", status="200"
        )
        >= 1
    )


def test_it_is_not_ready_while_the_ledger_cannot_be_written(
    tmp_path: Path, edgegap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    with receiver_here(tmp_path, edgegap) as receiver:
        assert scrape(receiver).value("docker_hub_receiver_ready") == 1

        (tmp_path / "receiver.db").rename(tmp_path / "elsewhere")
        assert scrape(receiver).value("docker_hub_receiver_ready") == 0

        (tmp_path / "elsewhere").rename(tmp_path / "receiver.db")
        assert until(lambda: scrape(receiver).value("docker_hub_receiver_ready")) == 1


def _all_done(receiver: ReceiverProcess, delivery: str, many: int) -> bool:
    registrations = receiver.details(delivery)["registrations"]
    return [one["state"] for one in registrations] == ["done"] * many
