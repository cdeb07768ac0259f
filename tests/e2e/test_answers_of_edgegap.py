"""What is done on each answer of Edgegap, end to end: waits, gates and parkings."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from receiver.pipeline import retry
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox, TokenState
from tests.support.receiver_here import ReceiverHere, hurried
from tests.support.receiver_process import RULE, until

CONFIG = (
    RULE
    + RULE.replace("studio/game-server", "studio/lost").replace("my-game", "no-such-app")
    + """
[[rule]]
repository = "studio/bare"
app = "bare"
preflight = false

[[rule]]
repository = "studio/secret"
app = "secret"
preflight = false
"""
)


@pytest.fixture(scope="module")
def edgegap() -> EdgegapSandbox:
    return EdgegapSandbox(apps=("my-game", "bare", "secret"))


@pytest.fixture(scope="module")
def running(
    edgegap: EdgegapSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverHere]:
    with hurried(tmp_path_factory.mktemp("answers"), edgegap, CONFIG) as receiver:
        yield receiver


@pytest.fixture
def here(running: ReceiverHere, edgegap: EdgegapSandbox) -> Iterator[ReceiverHere]:
    edgegap.calls.clear()
    yield running
    edgegap.behave()
    edgegap.token_state = "good"
    edgegap.pullable = edgegap.registry_login = edgegap.version_limit = None


def said(sandbox: EdgegapSandbox, method: str) -> list[Any]:
    return [call for call in list(sandbox.calls) if call.method == method]


def waiting(receiver: ReceiverHere, delivery: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        one: dict[str, Any] = receiver.details(delivery)["registrations"][0]
        return one if one["state"] == "waiting" else None

    found = until(look)
    assert found is not None
    return found


def token_gates(receiver: ReceiverHere) -> list[tuple[int]]:
    """When the gate for the token was last closed, if it ever was."""
    with closing(sqlite3.connect(receiver.folder / "receiver.db")) as ledger:
        return ledger.execute("SELECT since FROM gates WHERE name = 'token'").fetchall()


def busy_until(receiver: ReceiverHere) -> int:
    """Until when Edgegap asked all to wait last (epoch ms)."""
    with closing(sqlite3.connect(receiver.folder / "receiver.db")) as ledger:
        rows = ledger.execute("SELECT until FROM gates WHERE name = 'busy'").fetchall()
    return int(rows[0][0]) if rows else 0


def replay(receiver: ReceiverHere, delivery: str) -> None:
    url = f"{receiver.url}/api/deliveries/{delivery}/replay"
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    assert httpx.post(url, headers=headers, trust_env=False).status_code == 202


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_429_holds_everything_back_as_long_as_it_says(
    here: ReceiverHere, edgegap: EdgegapSandbox, method: str, *, as_date: bool
) -> None:
    moment = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    retry_after = format_datetime(moment, usegmt=True) if as_date else 1
    edgegap.misbehave(Fault("status", method=method, status=429, retry_after=retry_after))
    first = here.push(f"busy-{method}-{as_date}".lower())
    held = waiting(here, first)
    second = here.push(f"behind-{method}-{as_date}".lower())

    ended = here.ended(second)

    assert held["reason"] == "edgegap_busy"
    due = datetime.fromisoformat(held["due_at"])
    if as_date:
        assert due >= moment - timedelta(milliseconds=50)  # two clocks, read in milliseconds
    tried = [datetime.fromisoformat(call["at"]) for call in ended["requests"]]
    assert min(tried) >= due
    assert (ended["outcome"], here.ended(first)["outcome"]) == ("created", "created")


def test_an_image_that_cannot_be_pulled_yet_is_tried_again(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.pullable = lambda _, __: False
    delivery = here.push("settling")
    assert waiting(here, delivery)["reason"] == "image_not_ready"

    edgegap.pullable = None

    assert here.ended(delivery)["outcome"] == "created"


def test_an_image_that_can_never_be_pulled_is_parked(
    here: ReceiverHere, edgegap: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "IMAGE_WAITED_LONG", 150)
    edgegap.pullable = lambda _, __: False

    ended = here.ended(here.push("unpullable"))

    assert ended["reason"] == "image_not_pullable"
    assert "linux/amd64" in ended["sentence"]
    assert len(said(edgegap, "POST")) > 1


def test_trouble_of_24_hours_is_given_up(
    here: ReceiverHere, edgegap: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "GIVE_UP_AFTER", 100)
    edgegap.misbehave(Fault("status", status=500, times=None))

    ended = here.ended(here.push("hopeless"))

    assert (ended["reason"], "HTTP 500" in ended["sentence"]) == ("gave_up", True)


def test_refused_credentials_are_parked(here: ReceiverHere, edgegap: EdgegapSandbox) -> None:
    edgegap.registry_login = ("somebody", "else")

    assert here.ended(here.push("login"))["reason"] == "registry_login_refused"
    assert len(said(edgegap, "POST")) == 1


def test_the_version_limit_is_parked_and_a_replay_goes_on_when_there_is_room(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.version_limit = 0
    delivery = here.push("limit")

    ended = here.ended(delivery)

    assert ended["reason"] == "version_limit"
    assert "limit of 0" in ended["sentence"]
    edgegap.version_limit = None
    replay(here, delivery)
    until(lambda: here.ended(delivery)["outcome"] == "created")


def test_any_other_400_is_parked_with_its_words(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.misbehave(Fault("status", method="POST", status=400, message="Unknown Args"))

    ended = here.ended(here.push("unknown-args"))

    assert ended["reason"] == "refused_by_edgegap"
    assert "Unknown Args" in ended["sentence"]


def test_a_missing_app_is_parked(here: ReceiverHere) -> None:
    assert here.ended(here.push_to("studio/lost", "1.0.0"))["reason"] == "app_missing"


def test_an_app_that_the_token_may_not_touch_stops_no_other(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    """The token is tried before the gate closes: each such push held all back five times."""
    before = token_gates(here)
    edgegap.misbehave(Fault("status", path_contains="/app/bare", status=403, times=None))
    forbidden = [here.push_to("studio/bare", f"1.0.{number}") for number in range(3)]

    ended = [here.ended(delivery) for delivery in forbidden]

    assert {one["reason"] for one in ended} == {"forbidden_by_edgegap"}
    assert {one["state"] for one in ended} == {"parked"}
    assert "HTTP 403" in ended[0]["sentence"]
    assert "EDGEGAP_TOKEN" in ended[0]["sentence"]
    assert [call["path"] for call in ended[0]["requests"]][:2] == [
        "/v1/app/bare/version/1.0.0",
        "/v1/apps",
    ]
    assert token_gates(here) == before


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path_contains="/v1/apps", status=503),
        Fault("status", path_contains="/v1/apps", status=429, retry_after=1),
        Fault("status", path_contains="/v1/apps", status=404),
        Fault("reset", path_contains="/v1/apps"),
    ],
    ids=["an error", "too often", "nonsense", "no answer"],
)
def test_what_the_trial_of_the_token_meets_is_no_refusal_of_the_token(
    here: ReceiverHere, edgegap: EdgegapSandbox, fault: Fault
) -> None:
    """It closed the gate for all, with a notice that the token is refused."""
    before = token_gates(here)
    edgegap.misbehave(fault, Fault("status", path_contains="/app/bare", status=403, times=None))
    tag = f"tried-{fault.kind}-{fault.status}"

    ended = here.ended(here.push_to("studio/bare", tag))

    assert ended["reason"] == "forbidden_by_edgegap"
    assert token_gates(here) == before
    if fault.status == 429:
        tried = [datetime.fromisoformat(call["at"]) for call in ended["requests"]]
        statuses = [call["status"] for call in ended["requests"]]
        assert statuses[:2] == [403, 429]
        assert tried[2] - tried[1] >= timedelta(seconds=1)


def test_a_probe_that_is_asked_to_wait_slows_all_down(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.token_state = "refused"
    busy = Fault("status", path_contains="/v1/apps", status=429, retry_after=2)
    edgegap.misbehave(busy)
    delivery = here.push("probed-busy")

    until(lambda: busy_until(here) > time.time() * 1000 + 1000)

    edgegap.token_state = "good"
    ended = here.ended(delivery)
    assert ended["outcome"] == "created"
    made = datetime.fromisoformat(ended["requests"][-1]["at"])
    assert made.timestamp() * 1000 >= busy_until(here)


def test_a_probe_with_too_large_a_logo_in_its_answer_finds_the_token_good(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.token_state = "refused"
    edgegap.apps["my-game"]["image"] = "x" * 3_000_000
    delivery = here.push("large-logo")
    until(lambda: waiting(here, delivery)["reason"] == "edgegap_token_refused")

    edgegap.token_state = "good"

    assert here.ended(delivery)["outcome"] == "created"
    edgegap.apps["my-game"]["image"] = ""


@pytest.mark.parametrize("state", ["refused", "deleted"])
def test_a_refused_token_holds_everything_back_until_a_probe_finds_it_good(
    here: ReceiverHere, edgegap: EdgegapSandbox, state: TokenState
) -> None:
    edgegap.token_state = state
    first = here.push(f"{state}-1")
    assert waiting(here, first)["reason"] == "edgegap_token_refused"
    second = here.push(f"{state}-2")
    until(lambda: any(call.path == "/v1/apps" for call in list(edgegap.calls)))
    assert not any(f"{state}-2" in call.path for call in list(edgegap.calls))

    edgegap.token_state = "good"

    assert here.ended(first)["outcome"] == "created"
    assert here.ended(second)["outcome"] == "created"


def test_with_nothing_to_copy_and_no_resources_it_parks_with_the_lines_to_add(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    delivery = here.push_to("studio/bare", "1.0.0")

    ended = here.ended(delivery)

    assert ended["reason"] == "no_settings"
    assert "[rule.settings]\nreq_cpu = 1024" in ended["sentence"]
    edgegap.add_version("bare", "by-hand", docker_image="studio/bare", req_cpu=1200)
    replay(here, delivery)
    until(lambda: here.ended(delivery)["outcome"] == "created")
    assert edgegap.versions["bare", "1.0.0"]["req_cpu"] == 1200


def test_hidden_values_cannot_be_copied_so_it_parks_with_the_lines_to_add(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    hidden = {"key": "DB_PASSWORD", "value": "unseen", "is_hidden": True}
    edgegap.add_version("secret", "0.9", envs=[hidden, {"key": "MAP", "value": "moon"}])

    ended = here.ended(here.push_to("studio/secret", "1.0.0"))

    assert ended["reason"] == "hidden_env"
    assert '{ key = "DB_PASSWORD", value_from = "DB_PASSWORD"' in ended["sentence"]
    assert "MAP" not in ended["sentence"]
    assert said(edgegap, "POST") == []


def test_a_rule_that_goes_parks_its_work_and_takes_it_up_when_it_is_back(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    def reload(config: str) -> bool:
        here.config.write_text(config, "utf-8")
        return not here.inside(lambda: here.service.reload(here.environment)).faults

    edgegap.misbehave(Fault("status", status=503, times=None))
    delivery = here.push("orphan")
    waiting(here, delivery)
    assert reload(CONFIG.replace(RULE, "", 1))
    assert here.ended(delivery)["reason"] == "rule_gone"
    edgegap.behave()
    assert not reload("[[rule]")  # it keeps what it had
    assert here.ended(delivery)["reason"] == "rule_gone"

    assert reload(CONFIG)

    until(lambda: here.ended(delivery)["outcome"] == "created")
