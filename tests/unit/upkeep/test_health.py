"""What is wrong, in one place: the page, the API and /readyz say the same of it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.config.settings import Settings
from receiver.errors import LedgerError
from receiver.ledger.cursors import Cursor, note_problem
from receiver.ledger.gates import BUSY, TOKEN, Gate, close_token_gate, pause, slow_down
from receiver.ledger.links import DeadLink
from receiver.ledger.stats import Waiting
from receiver.ledger.views import RefusedLink
from receiver.pipeline.preflight import Outage
from receiver.reasons import Reason
from receiver.rules.rule import Rule
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.signing import LinkFault
from receiver.timestamps import Time
from receiver.upkeep import health
from receiver.upkeep.health import Code, Condition, Snapshot, conditions_of
from tests.support.dockerhub import hub_beside
from tests.support.ledger_work import MINUTE
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import REPOSITORY, RULE, until
from tests.support.visitor import PAGE, visitor

CONFIG = RULE + '\n[catch_up]\nevery = "off"\n'
LOOKING = CONFIG.replace("preflight = false\n", "")
NOW = 1_790_000_000_000


def found(seen: Snapshot, **given: Any) -> dict[Code, Condition]:
    settings = Settings(rules=(Rule(REPOSITORY, "my-game", "main"),))
    known = {"worker_alive": True, "outage": None, **given}
    return {one.code: one for one in conditions_of(seen, settings, **known)}


def test_a_healthy_receiver_has_no_condition() -> None:
    assert found(Snapshot(NOW, held=3)) == {}


@pytest.mark.parametrize("name", [BUSY, TOKEN])
def test_a_gate_says_since_when_how_many_and_when_next(name: str) -> None:
    gate = Gate(name, until=NOW + MINUTE, probes=0, since=NOW - MINUTE, sentence="Why.")

    (one,) = found(Snapshot(NOW, gates=[gate], held=7)).values()

    assert one == Condition(Code(name), "Why.", Time(NOW - MINUTE), 7, Time(NOW + MINUTE))


def test_a_trial_that_has_waited_long_for_a_server_is_a_problem() -> None:
    def seen(since: int) -> dict[Code, Condition]:
        wait = Waiting(Reason.NO_CAPACITY, held=2, since=since, next_try=NOW + MINUTE)
        return found(Snapshot(NOW, waiting=[wait]))

    assert seen(NOW - 14 * MINUTE) == {}
    one = seen(NOW - 15 * MINUTE)[Code.CAPACITY]
    assert (one.held, one.since_at, one.next_try_at) == (
        2,
        Time(NOW - 15 * MINUTE),
        Time(NOW + MINUTE),
    )


def refused(reason: LinkFault, last_at: int) -> RefusedLink:
    first, last = Time(NOW - 9 * MINUTE), Time(last_at)
    return RefusedLink(reason, REPOSITORY, 2, first, last, "What to do.", actionable=True)


def test_a_replaced_key_and_its_refused_links_are_one_problem() -> None:
    dead = [DeadLink(REPOSITORY, NOW)]
    links = [refused(LinkFault.SIGNATURE, NOW), refused(LinkFault.TRUNCATED, NOW)]

    assert set(found(Snapshot(NOW, refused_links=links[:1]))) == {Code.LINKS}
    assert set(found(Snapshot(NOW, dead_links=dead, refused_links=links[:1]))) == {Code.SECRET_KEY}
    both = found(Snapshot(NOW, dead_links=dead, refused_links=links))
    assert both[Code.LINKS].message.endswith(" UTC. What to do.")


@pytest.mark.parametrize("reason", LinkFault)
def test_a_link_of_another_repository_is_a_problem_for_a_day(reason: LinkFault) -> None:
    link, day = refused(reason, NOW), 24 * 60 * MINUTE

    assert health.counts(link, [REPOSITORY], NOW + day - 1)
    is_other = reason is LinkFault.OTHER_REPOSITORY
    assert health.counts(link, [REPOSITORY], NOW + day) != is_other
    assert not health.counts(link, ["studio/another"], NOW)


def test_a_dead_worker_holds_everything() -> None:
    one = found(Snapshot(NOW, held=7), worker_alive=False)[Code.WORKER]

    assert (one.held, "Restart" in one.message) == (7, True)


def test_what_waits_for_edgegap_is_counted_together() -> None:
    waiting = [
        Waiting(Reason.EDGEGAP_ERROR, 2, NOW - 5 * MINUTE, NOW + 9),
        Waiting(Reason.EDGEGAP_UNREACHABLE, 3, NOW - MINUTE, NOW + 4),
        Waiting(Reason.IMAGE_NOT_READY, 9, NOW, NOW + 1),
    ]

    (one,) = found(Snapshot(NOW, waiting=waiting)).values()

    assert (one.code, one.held) == (Code.EDGEGAP, 5)
    assert (one.since_at, one.next_try_at) == (NOW - 5 * MINUTE, NOW + 4)


@pytest.mark.parametrize("outage", [None, Outage(NOW - MINUTE, "no answer")])
@pytest.mark.parametrize("waits", [True, False])
def test_docker_hub_is_out_for_this_process_or_for_what_waits(
    outage: Outage | None, *, waits: bool
) -> None:
    waiting = [Waiting(Reason.DOCKER_HUB_UNAVAILABLE, 2, NOW - 9, NOW + 9)] if waits else []

    one = found(Snapshot(NOW, waiting=waiting), outage=outage).get(Code.DOCKER_HUB)

    if outage is None and not waits:
        assert one is None
        return
    assert one is not None
    assert one.since_at == (NOW - 9 if outage is None else outage.since)
    assert (one.held, one.next_try_at) == ((2, NOW + 9) if waits else (0, None))


def test_a_pull_limit_that_is_reached_has_a_code_of_its_own() -> None:
    waiting = [Waiting(Reason.DOCKER_HUB_UNAVAILABLE, 2, NOW - 9, NOW + 9)]
    outage = Outage(NOW - MINUTE, "429: too many requests", pull_limit=True)

    (one,) = found(Snapshot(NOW, waiting=waiting), outage=outage).values()

    assert (one.code, one.held, one.next_try_at) == (Code.PULL_LIMIT, 2, NOW + 9)
    assert "(429: too many requests)" in one.message
    assert "a paid Docker Hub plan removes it" in one.message


def test_a_catch_up_that_fails_names_its_repository() -> None:
    cursors = [Cursor(REPOSITORY, NOW, NOW - MINUTE, "it does not answer")]

    one = found(Snapshot(NOW, cursors=cursors))[Code.CATCH_UP]

    assert f"{REPOSITORY} failed: it does not answer" in one.message
    assert one.next_try_at == NOW + 14 * MINUTE


# With a real receiver.


@pytest.fixture
def here(edgegap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReceiverHere]:
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=PAGE) as receiver:
        yield receiver


def get(receiver: ReceiverHere, path: str, *, in_full: bool = True) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"} if in_full else {}
    return httpx.get(f"{receiver.url}{path}", headers=headers, trust_env=False, timeout=20).json()


def first_line(receiver: ReceiverHere) -> str:
    with visitor(receiver) as person:
        return person.read("/").text.partition("Sign out")[2].partition("Overview")[2].strip()


def test_all_is_well_is_said_first(here: ReceiverHere) -> None:
    assert get(here, "/api/overview")["degraded"] == []
    assert first_line(here).startswith("Ready. No push was received yet.")


def test_page_api_and_readyz_say_the_same(here: ReceiverHere) -> None:
    """The page said nothing of an outage that /readyz knew of."""
    write = here.service.ledger.write
    here.inside(lambda: write(lambda tx: pause(tx, REPOSITORY)))
    here.push("1.0.0")
    here.push("1.1.0")
    here.inside(lambda: write(lambda tx: slow_down(tx, tx.now + 9 * MINUTE, "Too many calls.")))
    here.inside(lambda: write(lambda tx: close_token_gate(tx, "The token is refused.")))

    degraded = get(here, "/api/overview")["degraded"]

    assert [one["code"] for one in degraded] == ["token", "busy", "paused"]
    assert [one["held"] for one in degraded] == [2, 2, 2]
    assert degraded[2]["repository"] == REPOSITORY
    assert all(one["since_at"].endswith("Z") for one in degraded)
    assert degraded[0]["next_try_at"] < degraded[1]["next_try_at"]
    assert degraded[2]["next_try_at"] is None
    in_full = get(here, "/readyz")
    assert in_full["degraded"] == [f"{one['code']}: {one['message']}" for one in degraded]
    assert get(here, "/readyz", in_full=False) == {
        "ready": True, "degraded": ["token", "busy", "paused"],
    }  # fmt: skip
    shown = first_line(here)
    assert shown.startswith("Edgegap refuses the API token, and 2 more problems. 2 registrations")
    for words in ("The token is refused.", "Too many calls.", f"{REPOSITORY} is paused"):
        assert words in shown


def test_a_ledger_that_cannot_be_written_is_said_first(here: ReceiverHere) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full")

    here.service.ledger.write = refuse  # type: ignore[method-assign, assignment]
    answer = get(here, "/api/overview")

    assert (answer["ready"], answer["degraded"][0]["code"]) == (False, "ledger")
    assert answer["degraded"][0]["message"] == "the disk is full"
    assert first_line(here).startswith("The ledger cannot be written: pushes are not accepted.")
    answer = get(here, "/readyz")
    assert (answer["ready"], answer["replica"]) == (False, here.service.worker.owner)
    assert (answer["code"], answer["detail"]) == ("ledger_unavailable", "the disk is full")


def test_a_worker_that_stopped_is_said(here: ReceiverHere) -> None:
    async def die() -> None:
        loops = here.service.worker._loops
        loops[0].cancel()
        await asyncio.wait(loops[:1])

    here.inside(die)
    here.push("1.0.0")

    (one,) = get(here, "/api/overview")["degraded"]
    assert (one["code"], one["held"]) == ("worker", 1)
    assert "The worker is not running" in first_line(here)


def test_a_catch_up_that_did_not_complete_is_said(
    edgegap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    with receiver_here(tmp_path, edgegap, config=RULE, environment=PAGE) as receiver:
        write = receiver.service.ledger.write
        receiver.inside(lambda: write(lambda tx: note_problem(tx, REPOSITORY, "it is out")))

        (one,) = get(receiver, "/api/overview")["degraded"]

    assert one["code"] == "catch_up"


def test_edgegaps_own_trouble_is_said_while_something_waits(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", status=503, times=None))
    delivery = here.push("1.0.0")
    (one,) = until(lambda: get(here, "/api/overview")["degraded"])
    assert (one["code"], one["held"]) == ("edgegap", 1)
    assert one["next_try_at"] is not None

    sandbox.behave()
    here.ended(delivery)

    assert get(here, "/api/overview")["degraded"] == []


def test_edgegaps_trouble_is_said_also_while_it_is_asked_again(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """An Edgegap that hangs was well for the 20 seconds of each attempt."""
    sandbox.misbehave(Fault("status", status=503, times=None))
    delivery = here.push("1.0.0")
    until(lambda: get(here, "/api/overview")["degraded"])
    sandbox.behave()
    sandbox.misbehave(Fault("slow", seconds=3600, times=None))
    until(lambda: here.details(delivery)["registrations"][0]["state"] == "working")

    (one,) = get(here, "/api/overview")["degraded"]

    assert (one["code"], one["held"], one["next_try_at"]) == ("edgegap", 1, None)
    sandbox.behave()
    sandbox.proceed()
    here.ended(delivery)
    assert get(here, "/api/overview")["degraded"] == []


@pytest.mark.parametrize(
    ("status", "code", "clause"),
    [
        (503, "docker_hub", "Docker Hub is unavailable"),
        (429, "pull_limit", "Docker Hub's pull limit is reached"),
    ],
)
def test_an_outage_of_docker_hub_is_on_the_page(
    edgegap: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    status: int,
    code: str,
    clause: str,
) -> None:
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    hub = DockerHubSandbox()
    with hub_beside(hub) as environment:
        hub.misbehave(Fault("status", status=status, times=None))
        with receiver_here(
            tmp_path, edgegap, config=LOOKING, environment={**PAGE, **environment}
        ) as receiver:
            receiver.push("1.0.0")
            (one,) = until(lambda: get(receiver, "/api/overview")["degraded"])

            assert one["code"] == code
            assert one["since_at"] is not None
            assert get(receiver, "/readyz", in_full=False)["degraded"] == [code]
            assert clause in first_line(receiver)
