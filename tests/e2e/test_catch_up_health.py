"""A failing catch-up shows, and so do webhooks that do not arrive."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.ledger.cursors import Cursor, read_cursors
from receiver.ledger.outbox import lease_due
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.timestamps import format_time
from receiver.upkeep import health
from tests.support.dockerhub import came, catch_up, cursor, hub_beside
from tests.support.metrics import scrape
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import NO_CATCH_UP, REPOSITORY, RULE, until, webhook_body
from tests.support.visitor import PAGE, visitor

SUCCESS = "docker_hub_receiver_catch_up_last_success_timestamp_seconds"
INTERVAL = "docker_hub_receiver_catch_up_interval_seconds"
NOTICE = '\n[[notice]]\nname = "team"\nurl_env = "TEAM"\n'
SELDOM = '\n[catch_up]\nevery = "6h"\n'

Begin = Callable[..., AbstractContextManager[ReceiverHere]]


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_repository(REPOSITORY)
    return hub


@pytest.fixture
def begin(
    edgegap: str, tmp_path: Path, hub: DockerHubSandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Begin]:
    """Begins a receiver beside Docker Hub, each time over the same ledger."""
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr("receiver.upkeep.notify.GROUP_SECONDS", 3600.0)
    with hub_beside(hub) as variables:

        def begin(config: str = RULE) -> AbstractContextManager[ReceiverHere]:
            given = {**variables, **PAGE, "TEAM": "json://127.0.0.1:9/notify"}
            return receiver_here(tmp_path, edgegap, config=config, environment=given)

        yield begin


def asked(receiver: ReceiverHere, path: str) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    return httpx.get(f"{receiver.url}{path}", headers=headers, trust_env=False).json()


def repository_of(receiver: ReceiverHere) -> Any:
    (row,) = asked(receiver, "/api/overview")["repositories"]
    return row


def test_a_failing_catch_up_is_degraded_until_it_succeeds(
    begin: Begin, hub: DockerHubSandbox
) -> None:
    """It failed for a year while all was green, and the page said: caught up just now."""
    hub.misbehave(Fault("status", path_contains="/tags", status=401, times=None))
    with begin() as receiver, visitor(receiver) as person:
        until(lambda: cursor(receiver).problem)

        stranger = httpx.get(f"{receiver.url}/readyz", trust_env=False).json()
        assert stranger == {"ready": True, "degraded": ["catch_up"]}
        (answer,) = asked(receiver, "/readyz")["degraded"]
        assert answer.startswith(f"catch_up: Catch-up with {REPOSITORY} failed: ")
        assert "receiver doctor" in answer
        (degraded,) = asked(receiver, "/api/overview")["degraded"]
        assert degraded["code"] == "catch_up"
        assert "HTTP 401" in degraded["message"]
        assert repository_of(receiver)["caught_up_at"] is None
        page = person.read("/").text
        assert "Catch-up is failing" in page
        assert "Catch-up never last run failed" in person.read("/rules").text

        hub.behave()
        catch_up(receiver)
        assert asked(receiver, "/readyz")["degraded"] == []
        assert asked(receiver, "/api/overview")["degraded"] == []
        succeeded = repository_of(receiver)["caught_up_at"]
        assert succeeded is not None

        hub.misbehave(Fault("status", path_contains="/tags", status=503, times=None))
        catch_up(receiver)
        assert repository_of(receiver)["caught_up_at"] == succeeded
        assert "HTTP 503" in repository_of(receiver)["catch_up_problem"]
        (degraded,) = asked(receiver, "/api/overview")["degraded"]
        assert degraded["since_at"] == succeeded


def test_a_catch_up_that_is_off_does_not_fail(begin: Begin, hub: DockerHubSandbox) -> None:
    hub.misbehave(Fault("status", path_contains="/tags", status=401, times=None))
    with begin() as receiver:
        until(lambda: cursor(receiver).problem)

    with begin(RULE + NO_CATCH_UP) as receiver:
        assert cursor(receiver).problem
        assert asked(receiver, "/readyz")["degraded"] == []
        assert asked(receiver, "/api/overview")["degraded"] == []
        answer = scrape(receiver)
        assert answer.total(SUCCESS) == 0
        assert answer.value(INTERVAL) == 0


def test_the_gauge_of_a_repository_begins_when_it_is_first_known(
    begin: Begin, hub: DockerHubSandbox
) -> None:
    hub.misbehave(Fault("status", path_contains="/tags", status=401, times=None))
    began = time.time()
    lobby = RULE.replace("game-server", "lobby")
    with begin(RULE + lobby + SELDOM) as receiver:
        until(lambda: "HTTP 401" in str(asked(receiver, "/api/overview")["degraded"]))

        answer = scrape(receiver)
        for repository in (REPOSITORY, "studio/lobby"):
            known = answer.value(SUCCESS, repository=repository)
            assert known is not None
            assert began - 1 <= known <= time.time()
        assert answer.value(INTERVAL) == 6 * 3600

    hub.behave()
    with begin(RULE + SELDOM) as receiver:
        until(lambda: cursor_of(receiver, REPOSITORY).succeeded_at)
        answer = scrape(receiver)
        succeeded = answer.value(SUCCESS, repository=REPOSITORY)
        assert succeeded == (cursor_of(receiver, REPOSITORY).succeeded_at or 0) / 1000
        assert answer.value(SUCCESS, repository="studio/lobby") is None

        hub.misbehave(Fault("status", path_contains="/tags", status=401, times=None))
        catch_up(receiver)
        assert scrape(receiver).value(SUCCESS, repository=REPOSITORY) == succeeded


def cursor_of(receiver: ReceiverHere, repository: str) -> Cursor:
    cursors = receiver.ledger.read_sync(read_cursors)
    return next(one for one in cursors if one.repository == repository)


def silent(receiver: ReceiverHere) -> list[str]:
    """The notifications of silent webhooks since the last time this was asked."""
    due = receiver.inside(lambda: receiver.ledger.write(lease_due))
    return [one.text for one in due if one.event == "webhook_silent"]


def push(hub: DockerHubSandbox, tag: str, **more: Any) -> None:
    hub.push_image(REPOSITORY, tag, pushed_at=time.time() + 1, **more)


def test_two_pushes_that_no_webhook_reported_are_announced_once(
    begin: Begin, hub: DockerHubSandbox
) -> None:
    with begin(RULE + NOTICE + NO_CATCH_UP) as receiver:
        push(hub, "1.0.0")
        catch_up(receiver)
        assert silent(receiver) == []
        push(hub, "1.1.0")
        catch_up(receiver)
        (text,) = silent(receiver)
        assert text.startswith(f"{REPOSITORY}: ")
        assert f"receiver link {REPOSITORY}" in text
        assert receiver.link() not in text
        push(hub, "1.2.0")
        catch_up(receiver)
        assert silent(receiver) == []

        receiver.ended(receiver.push("1.3.0"))
        push(hub, "1.4.0")
        catch_up(receiver)
        assert silent(receiver) == []
        push(hub, "1.5.0")
        catch_up(receiver)
        assert len(silent(receiver)) == 1
        assert [source for source, _ in came(receiver)].count("catch-up") == 5


def test_several_tags_of_one_image_are_one_push(begin: Begin, hub: DockerHubSandbox) -> None:
    with begin(RULE + NOTICE + NO_CATCH_UP) as receiver:
        for tag in ("1.0.0", "1.0", "latest"):
            push(hub, tag, build="one")
        catch_up(receiver)

        assert silent(receiver) == []
        assert len(came(receiver)) == 3


def test_pushes_while_no_receiver_ran_say_nothing_of_the_webhook(
    begin: Begin, hub: DockerHubSandbox
) -> None:
    with begin(RULE + NOTICE + NO_CATCH_UP) as receiver:
        pass
    for tag in ("1.0.0", "1.1.0", "1.2.0"):
        hub.push_image(REPOSITORY, tag, pushed_at=time.time())
    with begin(RULE + NOTICE + NO_CATCH_UP) as receiver:
        catch_up(receiver)

        assert silent(receiver) == []
        assert len(came(receiver)) == 3


@pytest.mark.parametrize(("after", "announced"), [(1000, 1), (-3_600_000, 0), (None, 0)])
def test_pushes_caught_up_by_command_count_as_any_that_no_webhook_reported(
    begin: Begin, after: int | None, announced: int
) -> None:
    """Not those of before the start, and not those whose time is not known."""
    with begin(RULE + NOTICE + NO_CATCH_UP) as receiver:
        at = None if after is None else format_time(int(time.time() * 1000) + after)
        missed = [{"repository": REPOSITORY, "tag": f"1.{n}.0", "pushed_at": at} for n in range(3)]
        headers = {"Authorization": f"Bearer {receiver.api_token()}"}
        url = f"{receiver.url}/api/catch-up"
        httpx.post(url, json={"missed": missed}, headers=headers, trust_env=False)

        assert len(silent(receiver)) == announced
        assert len(came(receiver)) == 3


def test_only_who_listens_to_the_repository_hears_of_it(
    begin: Begin, hub: DockerHubSandbox
) -> None:
    rule = RULE.replace("[[rule]]", '[[rule]]\nname = "game"')
    lobby = rule.replace("game-server", "lobby").replace('"game"', '"lobby"')
    listening = NOTICE + 'rules = ["lobby"]\n'
    with begin(rule + lobby + listening + NO_CATCH_UP) as receiver:
        for tag in ("1.0.0", "1.1.0"):
            push(hub, tag)
        catch_up(receiver)

        assert silent(receiver) == []
        assert receiver.post(webhook_body("1.2.0")).status_code == 202
