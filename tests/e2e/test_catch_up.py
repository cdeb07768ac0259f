"""Catch-up: a push that no webhook reported becomes a version too, and only that."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from receiver.config import checks
from receiver.ledger.comparisons import drifted as drifted_in
from receiver.rules.rule import TargetKey
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.dockerhub_records import timestamp
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.conftest import StartReceiver
from tests.support.dockerhub import DAY, HOUR, ago, came, catch_up, cursor, hub_beside, listings
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, until, webhook_body

BY_HAND = NO_CATCH_UP
LOOKING = RULE.replace("preflight = false\n", "")

Begin = Callable[..., AbstractContextManager[ReceiverHere]]


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_repository(REPOSITORY)
    return hub


@pytest.fixture
def variables(hub: DockerHubSandbox) -> Iterator[dict[str, str]]:
    with hub_beside(hub) as variables:
        yield variables


@pytest.fixture
def begin(edgegap: str, tmp_path: Path, variables: dict[str, str]) -> Begin:
    """Begins a receiver beside Docker Hub, each time over the same ledger."""

    def begin(config: str = RULE, **environment: str) -> AbstractContextManager[ReceiverHere]:
        given = {**variables, **environment}
        return receiver_here(tmp_path, edgegap, config=config, environment=given)

    return begin


@pytest.fixture
def here(begin: Begin) -> Iterator[ReceiverHere]:
    """A receiver that catches up when the test says so."""
    with begin(RULE + BY_HAND) as receiver:
        yield receiver


def push_old(hub: DockerHubSandbox, count: int) -> None:
    for number in range(count):
        hub.push_image(REPOSITORY, f"old-{number}", build="old", pushed_at=ago(DAY + number))


def test_the_first_serve_begins_a_cursor_without_a_call_and_registers_nothing_of_the_past(
    begin: Begin,
    hub: DockerHubSandbox,
    sandbox: EdgegapSandbox,
) -> None:
    hub.push_image(REPOSITORY, "long-ago", pushed_at=ago(DAY))
    hub.push_image(REPOSITORY, "just-now", pushed_at=ago(5))
    hub.misbehave(Fault("status", status=503, times=None))
    began = int(time.time() * 1000)

    with begin() as first:
        until(lambda: cursor(first).problem)
        assert began <= cursor(first).looks_back_to <= time.time() * 1000

    hub.behave()
    with begin() as again:
        until(lambda: not cursor(again).problem)
        assert came(again) == []
    assert sandbox.versions == {}


def test_a_push_of_the_downtime_is_caught_up_at_the_start(
    begin: Begin,
    hub: DockerHubSandbox,
    sandbox: EdgegapSandbox,
) -> None:
    with begin():
        pass
    hub.push_image(REPOSITORY, "1.0.0")

    with begin() as receiver:
        until(lambda: sandbox.versions)
        assert came(receiver) == [("catch-up", "1.0.0")]
    assert list(sandbox.versions) == [("my-game", "1.0.0")]


def test_a_lost_webhook_is_caught_up_when_the_configuration_is_read_again(
    start: StartReceiver,
    hub: DockerHubSandbox,
    variables: dict[str, str],
    sandbox: EdgegapSandbox,
) -> None:
    receiver = start(environment=variables)
    until(lambda: listings(hub))
    hub.push_image(REPOSITORY, "1.0.0")

    assert receiver.process is not None
    receiver.process.send_signal(signal.SIGHUP)

    until(lambda: ("my-game", "1.0.0") in sandbox.versions)
    assert receiver.stop() == 0


def test_the_last_hour_before_the_cursor_is_looked_at_again(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    moved = int((time.time() - 3 * HOUR) * 1000)
    here.inside(
        lambda: here.ledger.write(lambda tx: tx.run("UPDATE cursors SET since = :at", at=moved))
    )
    border = moved / 1000 - HOUR
    hub.push_image(REPOSITORY, "within", pushed_at=border + 2)
    hub.push_image(REPOSITORY, "before", pushed_at=border - 2)

    catch_up(here)

    assert came(here) == [("catch-up", "within")]


@pytest.mark.parametrize("ordering", ["newest", "oldest"])
def test_it_finds_what_is_new_whichever_end_docker_hub_begins_at(
    here: ReceiverHere, hub: DockerHubSandbox, ordering: Any
) -> None:
    hub.last_updated_means = ordering
    push_old(hub, 230)
    hub.push_image(REPOSITORY, "new")

    catch_up(here)

    assert came(here) == [("catch-up", "new")]
    assert len(listings(hub)) == {"newest": 2, "oldest": 3}[ordering]


def test_it_never_stops_at_what_it_knows(begin: Begin, hub: DockerHubSandbox) -> None:
    config = RULE.replace("preflight", 'tags = ["wanted*"]\npreflight') + BY_HAND
    with begin(config) as receiver:
        later = time.time() + 10
        for number in range(120):
            hub.push_image(REPOSITORY, f"known-{number}", build="known", pushed_at=later + number)
        catch_up(receiver)
        hub.push_image(REPOSITORY, "wanted", pushed_at=later - 5)

        catch_up(receiver)

        assert len(came(receiver)) == 121
        assert came(receiver)[-1] == ("catch-up", "wanted")


def test_the_cursor_moves_only_when_the_run_completed(
    here: ReceiverHere,
    hub: DockerHubSandbox,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("receiver.upkeep.catch_up.MAX_WAIT_SECONDS", 10.0)
    here.inside(lambda: here.ledger.write(lambda tx: tx.run("UPDATE cursors SET since = 1")))
    for number in range(101):
        hub.push_image(REPOSITORY, f"buildcache-{number}-buildcache", build="x")
    hub.push_image(REPOSITORY, "first-pushed", pushed_at=ago(HOUR))
    hub.api_limit, hub.api_window = 1, 600

    assert catch_up(here) == 10.0

    assert cursor(here).since == 1
    assert "used up" in cursor(here).problem
    assert ("catch-up", "first-pushed") not in came(here)

    hub.api_limit = None
    here.service.preflight.hub._rest_until = 0.0  # the minutes it asked for are over
    began = int(time.time() * 1000)
    assert catch_up(here) == 0
    assert began <= cursor(here).since <= time.time() * 1000
    assert cursor(here).problem == ""
    assert ("catch-up", "first-pushed") in came(here)
    until(lambda: ("my-game", "first-pushed") in sandbox.versions)


def test_between_pages_it_waits_as_docker_hub_asks_and_goes_on_with_the_next(
    here: ReceiverHere, hub: DockerHubSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began again at the first page, and so never completed a list over the limit."""
    waited = []

    async def rest(seconds: float) -> None:
        waited.append(seconds)
        hub.api_resets_at = here.service.preflight.hub._rest_until = 0.0

    monkeypatch.setattr("receiver.upkeep.catch_up.wait_for", rest)
    for number in range(250):
        hub.push_image(REPOSITORY, f"1.0.{number}", build="x", pushed_at=time.time() + number)
    hub.api_limit, hub.api_window = 1, 50

    assert catch_up(here) == 0

    assert len(waited) == 2
    assert all(1 <= one <= 51 for one in waited)
    assert len(listings(hub)) == 3
    assert cursor(here).problem == ""
    assert len(came(here)) == 250


@pytest.mark.parametrize("header", ["X-Retry-After", "Retry-After"])
def test_where_docker_hub_asks_to_wait_nothing_more_is_asked_of_it(
    begin: Begin,
    hub: DockerHubSandbox,
    header: Any,
) -> None:
    hub.api_limit, hub.api_window, hub.api_retry_after = 0, 90, header
    hub.api_retry_after_as = "unix" if header == "X-Retry-After" else "seconds"
    config = RULE + RULE.replace("game-server", "lobby") + BY_HAND
    with begin(config) as receiver:
        assert 80 < catch_up(receiver) <= 91

    assert len(listings(hub)) == 1


@pytest.mark.parametrize("rule", [RULE, LOOKING], ids=["without preflight", "with preflight"])
@pytest.mark.parametrize("first", ["webhook", "catch-up"])
def test_a_webhook_and_a_catch_up_of_one_push_make_one_version(
    begin: Begin,
    hub: DockerHubSandbox,
    sandbox: EdgegapSandbox,
    rule: str,
    first: str,
) -> None:
    with begin(rule + BY_HAND) as receiver:
        at = time.time() + 1
        hub.push_image(REPOSITORY, "1.0.0", pushed_at=at)
        body = webhook_body("1.0.0", pushed_at=int(at))
        if first == "webhook":
            receiver.ended(receiver.post(body).json()["delivery"])
            catch_up(receiver)
            assert came(receiver) == [("webhook", "1.0.0")]
        else:
            catch_up(receiver)
            assert receiver.ended(receiver.post(body).json()["delivery"])["state"] == "done"
            assert came(receiver) == [("catch-up", "1.0.0"), ("webhook", "1.0.0")]
        catch_up(receiver)
        assert len(came(receiver)) == {"webhook": 1, "catch-up": 2}[first]
    assert sandbox.posts_that_created("my-game", "1.0.0") == 1


def test_a_tag_pushed_over_without_a_webhook_is_caught_up_and_shown(
    begin: Begin, hub: DockerHubSandbox
) -> None:
    with begin(LOOKING + BY_HAND) as receiver:
        at = int(time.time()) + 1
        hub.push_image(REPOSITORY, "1.0.0", pushed_at=at + 0.1)
        receiver.ended(receiver.push("1.0.0", pushed_at=at))
        hub.push_image(REPOSITORY, "1.0.0", pushed_at=at + 0.8)  # webhooks have whole seconds

        catch_up(receiver)

        assert came(receiver) == [("webhook", "1.0.0"), ("catch-up", "1.0.0")]
        found = receiver.inside(
            lambda: receiver.ledger.read(
                lambda tx: tx.run("SELECT max(id) FROM deliveries").scalar_one()
            )
        )
        assert receiver.ended(found)["overwritten"] is True


def test_a_tag_without_a_time_is_left_for_it_may_be_of_the_past(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    hub.push_image(REPOSITORY, "1.0.0")
    hub.alter_record(
        REPOSITORY, "1.0.0", digest=None, tag_last_pushed=None, last_updated=None, images=None
    )

    catch_up(here)

    assert came(here) == []


@pytest.mark.parametrize("answer", ["0001-01-01T00:00:00Z", None, "", "soon", 0, "missing"])
def test_a_tag_without_a_push_time_is_as_new_as_its_last_update(
    here: ReceiverHere, hub: DockerHubSandbox, answer: Any
) -> None:
    """The zero time of Go was read as a push in the year 1."""
    hub.push_image(REPOSITORY, "1.0.0")
    hub.alter_record(REPOSITORY, "1.0.0", tag_last_pushed=answer)

    catch_up(here)

    assert came(here) == [("catch-up", "1.0.0")]


def test_an_old_tag_whose_record_was_updated_is_not_a_new_push(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    later = "2099-01-01T00:00:00Z"
    for tag, pushed in (("known-time", "2024-05-01T00:00:00Z"), ("no-time", None)):
        hub.push_image(REPOSITORY, tag, pushed_at=ago(DAY))
        hub.alter_record(REPOSITORY, tag, tag_last_pushed=pushed, last_updated=later)

    catch_up(here)

    assert came(here) == []


def test_a_page_of_old_tags_with_new_updates_does_not_end_the_search(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    now = time.time()
    for number in range(100):
        hub.push_image(REPOSITORY, f"old-{number}", build="old", pushed_at=now + 500 - number)
        pushed, updated = timestamp(now - DAY - number), timestamp(now + 500 - number)
        hub.alter_record(REPOSITORY, f"old-{number}", tag_last_pushed=pushed, last_updated=updated)
    hub.push_image(REPOSITORY, "1.0.0", pushed_at=now + 5)

    catch_up(here)

    assert came(here) == [("catch-up", "1.0.0")]


def test_pushes_are_taken_oldest_first(here: ReceiverHere, hub: DockerHubSandbox) -> None:
    for number in (3, 1, 2):
        hub.push_image(REPOSITORY, f"{number}.0", pushed_at=time.time() + number)

    catch_up(here)

    assert [tag for _, tag in came(here)] == ["1.0", "2.0", "3.0"]


def test_a_repository_that_is_gone_does_not_hold_up_the_others(
    begin: Begin, hub: DockerHubSandbox
) -> None:
    config = RULE.replace("studio/game-server", "a/gone") + RULE + BY_HAND
    with begin(config) as receiver:
        hub.push_image(REPOSITORY, "1.0.0")

        assert catch_up(receiver) == 0

        assert came(receiver) == [("catch-up", "1.0.0")]


@pytest.mark.parametrize("level", ["personal", "organization"])
def test_a_private_repository_is_listed_with_its_login(
    begin: Begin, hub: DockerHubSandbox, level: str
) -> None:
    hub.add_repository(REPOSITORY, private=True)
    if level == "personal":
        hub.add_login("builder", "dckr_pat_1", namespaces=["studio"])
        name, secret = "builder", "dckr_pat_1"
    else:
        hub.add_organization_token("studio", "dckr_oat_1", {REPOSITORY: ["pull"]})
        name, secret = "studio", "dckr_oat_1"
    login = {"DOCKERHUB_USERNAME": name, "DOCKERHUB_TOKEN": secret}
    with begin(RULE + BY_HAND, **login) as receiver:
        hub.push_image(REPOSITORY, "1.0.0")

        catch_up(receiver)

        assert came(receiver) == [("catch-up", "1.0.0")]
    assert not [call for call in hub.calls if call.path.startswith("/v2/repositories/")]


def test_after_the_wait_docker_hub_asked_for_it_goes_on_long_before_the_next_run(
    begin: Begin, hub: DockerHubSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.upkeep.catch_up.MIN_WAIT_SECONDS", 0.05)
    hub.api_limit, hub.api_window = 0, 0.2
    with begin(RULE + '\n[catch_up]\nevery = "1h"\n') as receiver:
        until(lambda: cursor(receiver).problem)
        hub.push_image(REPOSITORY, "1.0.0")
        hub.api_limit = None

        until(lambda: came(receiver) == [("catch-up", "1.0.0")])


def test_it_goes_on_by_itself_period_after_period(
    begin: Begin, hub: DockerHubSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody wants to wait a minute here.
    monkeypatch.setattr(checks, "CATCH_UP_BOUNDS", (1000, checks.CATCH_UP_BOUNDS[1]))
    with begin(RULE + '\n[catch_up]\nevery = "1s"\n') as receiver:
        until(lambda: len(listings(hub)) >= 2)
        hub.push_image(REPOSITORY, "1.0.0")

        until(lambda: came(receiver) == [("catch-up", "1.0.0")])


def test_an_answer_without_a_list_is_no_completed_run(begin: Begin, hub: DockerHubSandbox) -> None:
    """It counted as an empty one: the cursor moved, and what had been missed stayed so."""
    with begin() as receiver:
        until(lambda: cursor(receiver).ran_at)
        hub.misbehave(Fault("garbage", path_contains="/tags", body='{"results": null}'))

        catch_up(receiver)

        assert "returned no list of the tags" in cursor(receiver).problem


def test_it_looks_back_no_farther_than_the_ledger_remembers(
    begin: Begin, hub: DockerHubSandbox
) -> None:
    """What was purged was treated as missed, and its version made again."""
    hub.push_image(REPOSITORY, "purged", pushed_at=ago(26 * HOUR))
    hub.push_image(REPOSITORY, "missed", pushed_at=ago(23 * HOUR))
    with begin(RULE + '[ledger]\nkeep = "1d"\n') as receiver:
        until(lambda: cursor(receiver).ran_at)
        long_off = "UPDATE cursors SET since = 1"
        receiver.inside(lambda: receiver.ledger.write(lambda tx: tx.run(long_off).rowcount))

        catch_up(receiver)

        assert came(receiver) == [("catch-up", "missed")]


@pytest.mark.parametrize("tags", ["1.0 1.1 1.2", "a-1 a-2 a-3"])
def test_a_restored_ledger_moves_no_channel_back_before_it_knows_what_it_lost(
    begin: Begin,
    hub: DockerHubSandbox,
    sandbox: EdgegapSandbox,
    tmp_path: Path,
    tags: str,
) -> None:
    """The channel was moved back to what the ledger had, and forward again a moment later."""
    config = RULE.replace("preflight", 'channels = ["staging"]\npreflight')
    config += f'[[channel]]\napp = "{APP}"\nname = "staging"\nrestore = true\n'
    ledger, saved = tmp_path / "receiver.db", tmp_path / "saved.db"

    def staging() -> Any:
        return sandbox.versions.get((APP, "staging"), {}).get("docker_tag")

    for number, tag in enumerate(tags.split(), start=1):
        with begin(config) as receiver:
            hub.push_image(REPOSITORY, tag, pushed_at=ago(-number))
            receiver.push(tag, pushed_at=int(ago(-number)))
            until(lambda tag=tag: staging() == tag)  # type: ignore[misc]
            until(lambda: not open_registrations(receiver))
        if number == 1:
            shutil.copy(ledger, saved)
    shutil.copy(saved, ledger)
    sandbox.calls.clear()

    with begin(config) as receiver:
        until(lambda: [tag for _, tag in came(receiver)] == tags.split())
        until(lambda: not open_registrations(receiver))
        receiver.inside(lambda: receiver.service.drift.compare(0))
        drifted = receiver.ledger.read_sync(lambda tx: drifted_in(tx, [TargetKey(APP, "staging")]))

    assert [call.path for call in sandbox.calls if call.method == "PATCH"] == []
    assert staging() == tags.rpartition(" ")[2]
    assert drifted == []


def open_registrations(receiver: ReceiverHere) -> bool:
    count = "SELECT count(*) FROM registrations WHERE state <> 'done'"
    return bool(receiver.ledger.read_sync(lambda tx: tx.run(count).scalar()))
