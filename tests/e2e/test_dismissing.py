"""Parked registrations that are closed: by a person, or because of a later push."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.cli import output
from receiver.config.settings import LiveSettings, Settings
from receiver.ledger import ids
from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import dismiss_parked, parked_ids, reopen
from receiver.ledger.queries import Filter, delivery_detail, list_deliveries
from receiver.ledger.results import settle
from receiver.reasons import Reason
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.upkeep.purge import Purge
from receiver.web import versions
from tests.support.commands import Commands, commands_beside, commands_in
from tests.support.ledger_work import OWNER, at, finish, one_claim, parked, pushed, settled, write
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, RULE, ReceiverProcess, until
from tests.support.visitor import Visitor, visitor

DAY = 24 * 3_600_000


@pytest.fixture
def person(here: ReceiverHere, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitor]:
    monkeypatch.setattr(versions, "FRESH_SECONDS", 0.0)
    with visitor(here) as one:
        yield one


def taken(here: ReceiverProcess, sandbox: EdgegapSandbox, tag: str) -> str:
    """Push a tag whose version name another image has; return the delivery."""
    sandbox.add_version(APP, tag, docker_image="studio/another")
    delivery = here.push(tag)
    assert here.ended(delivery)["reason"] == "name_taken"
    return delivery


def limited(here: ReceiverProcess, sandbox: EdgegapSandbox, tag: str) -> str:
    """Push a tag that reaches Edgegap's limit: that does not lie in the image."""
    sandbox.version_limit = len(sandbox.versions)
    delivery = here.push(tag)
    assert here.ended(delivery)["reason"] == "version_limit"
    sandbox.version_limit = None
    return delivery


def first(here: ReceiverProcess, delivery: str) -> dict[str, Any]:
    (one,) = here.details(delivery)["registrations"]
    return dict(one)


def outcome(here: ReceiverProcess, delivery: str) -> tuple[str, str | None]:
    one = first(here, delivery)
    return one["state"], one["outcome"]


def states(here: ReceiverProcess, delivery: str) -> dict[str, str]:
    return {one["version"]: one["state"] for one in here.details(delivery)["registrations"]}


def ask(here: ReceiverHere, path: str, body: Any) -> Any:
    answer = httpx.post(
        f"{here.url}/api/{path}",
        json=body,
        headers={"Authorization": f"Bearer {here.api_token()}"},
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_command_dismisses_by_id_and_undoes_it(
    here: ReceiverHere,
    sandbox: EdgegapSandbox,
    beside: Commands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delivery = taken(here, sandbox, "1.0")
    registration = first(here, delivery)["id"]

    done = beside.run("dismiss", delivery)
    beside.run("dismiss", "--undo", delivery)
    with monkeypatch.context() as patch:
        patch.setattr(output, "on_terminal", lambda: True)
        table = beside.run("dismiss", delivery)

    assert done.stdout == f"dismissed  {registration}  {APP}/1.0  name_taken\n"
    assert table.stdout.splitlines()[0].split() == ["RESULT", "ID", "TARGET", "REASON"]
    one = first(here, delivery)
    assert (one["state"], one["outcome"], one["reason"]) == ("done", "dismissed", "name_taken")
    assert one["dismissed_at"] is not None
    assert one["dismissed_by"].startswith("command")
    shown = beside.run("show", delivery).stdout
    assert "state     done dismissed" in shown
    assert f"`receiver dismiss --undo {registration}`" in shown
    assert 'state="parked"} 0.0' in httpx.get(f"{here.url}/metrics", trust_env=False).text

    undone = beside.run("dismiss", "--undo", registration)

    assert undone.stdout == f"parked  {registration}  {APP}/1.0  name_taken\n"
    one = first(here, delivery)
    assert (one["state"], one["outcome"], one["dismissed_by"]) == ("parked", None, None)
    assert "delete that version in Edgegap and replay" in one["sentence"]


def test_all_of_one_reason_are_dismissed_and_no_other(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    same = [taken(here, sandbox, tag) for tag in ("1.0", "1.1")]
    other = limited(here, sandbox, "2.0")

    done = beside.json_of("dismiss", "--all", "--reason", "name_taken", "--json")

    assert {one["version"] for one in done["registrations"]} == {"1.0", "1.1"}
    assert {outcome(here, one) for one in same} == {("done", "dismissed")}
    assert outcome(here, other) == ("parked", None)
    beside.run("dismiss", "--all")
    assert outcome(here, other) == ("done", "dismissed")
    assert beside.run("dismiss", "--all").stderr == "Nothing is parked.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "name registrations by ID, or use --all"),
        (["r1", "--all"], 2, "name registrations by ID, or use --all"),
        (["r1", "--reason", "gave_up"], 2, "--reason requires --all"),
        (["--all", "--undo"], 2, "--undo requires IDs"),
        (["--all", "--reason", "whatever"], 2, "whatever"),
        (["r1"], 5, "there is no registration r1"),
    ],
)
def test_what_cannot_be_dismissed_is_said(
    beside: Commands, arguments: list[str], code: int, words: str
) -> None:
    done = beside.run("dismiss", *arguments)

    assert done.exit_code == code
    assert words in done.stderr


def test_what_is_not_parked_is_not_dismissed(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    delivery = here.push("1.0")
    here.ended(delivery)

    done = beside.run("dismiss", delivery)

    assert done.exit_code == 1
    assert f"{delivery} is not parked" in done.stderr
    assert outcome(here, delivery) == ("done", "created")


def test_without_a_server_the_command_writes_the_ledger(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    with receiver_here(tmp_path, edgegap) as receiver:
        delivery = taken(receiver, sandbox, "1.0")
        registration = first(receiver, delivery)["id"]
    commands = commands_in(tmp_path, edgegap)

    assert commands.run("dismiss", registration).exit_code == 0
    assert commands.rows("deliveries", "--json")[0]["registrations"][0]["outcome"] == "dismissed"
    assert commands.run("dismiss", "--undo", registration).exit_code == 0
    assert commands.rows("deliveries", "--json")[0]["registrations"][0]["state"] == "parked"


def test_the_api_records_who_asked(here: ReceiverHere, sandbox: EdgegapSandbox) -> None:
    delivery = taken(here, sandbox, "1.0")

    changed = ask(here, "dismiss", {"ids": [delivery, "d0"], "name": "anna"})

    assert [one["version"] for one in changed["registrations"]] == ["1.0"]
    assert changed["missing"] == ["d0"]
    assert first(here, delivery)["dismissed_by"] == "api (anna)"
    assert ask(here, "dismiss", {"ids": [delivery]})["unchanged"] == [delivery]
    assert ask(here, "dismiss/undo", {"ids": [delivery]})["registrations"] != []
    assert outcome(here, delivery) == ("parked", None)


def test_the_page_dismisses_one_and_undoes_it(
    here: ReceiverHere, sandbox: EdgegapSandbox, person: Visitor
) -> None:
    delivery = taken(here, sandbox, "1.0")
    path = f"/deliveries/{delivery}"

    answer = person.post("/do/dismiss", data=person.read(path).form("/do/dismiss"))

    assert answer.headers["location"] == path
    shown = person.read(path)
    assert "my-game/1.0 was dismissed." in shown.text
    assert "by page" in shown.text
    person.post("/do/undo-dismissal", data=shown.form("/do/undo-dismissal"))
    assert "It is parked again." in person.read(path).text
    assert outcome(here, delivery) == ("parked", None)
    assert person.do("dismiss", registration="r0").status_code == 400


def test_the_overview_dismisses_one_and_all_of_a_reason(
    here: ReceiverHere, sandbox: EdgegapSandbox, person: Visitor
) -> None:
    deliveries = [taken(here, sandbox, tag) for tag in ("1.0", "1.1", "1.2")]
    registration = first(here, deliveries[2])["id"]

    form = person.read("/").form("/do/dismiss", registration=registration)
    assert person.post("/do/dismiss", data=form).headers["location"] == "/"
    assert [outcome(here, one)[1] for one in deliveries] == [None, None, "dismissed"]
    answer = person.confirm("/do/dismiss-reason", person.read("/").form("/do/dismiss-reason"))

    assert answer.headers["location"] == "/"
    assert "2 parked for name_taken were dismissed." in person.read("/").text
    assert {outcome(here, one)[1] for one in deliveries} == {"dismissed"}


def test_a_dismissed_push_is_replayed_as_any_other(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    delivery = taken(here, sandbox, "1.0")
    registration = first(here, delivery)["id"]
    beside.run("dismiss", delivery)
    sandbox.delete_version(APP, "1.0")

    beside.run("replay", delivery)

    until(lambda: (APP, "1.0") in sandbox.versions)
    here.ended(delivery)
    answer = {one["id"]: one["outcome"] for one in here.details(delivery)["registrations"]}
    assert sorted(answer.values()) == ["created", "dismissed"]
    assert answer[registration] == "dismissed"


def test_undoing_is_refused_while_a_newer_registration_of_the_image_is_open(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    delivery = taken(here, sandbox, "1.0")
    registration = first(here, delivery)["id"]
    beside.run("dismiss", registration)
    again = here.push("1.0")
    assert here.ended(again)["state"] == "parked"

    done = beside.run("dismiss", "--undo", registration)

    assert done.exit_code == 1
    assert "a newer registration is open" in done.stderr


def test_a_later_success_under_the_rule_closes_what_lay_in_the_tag(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """The advice was followed, and it stayed parked for ever."""
    in_the_tag = taken(here, sandbox, "1.2.0")
    elsewhere = limited(here, sandbox, "1.2.x")

    here.ended(here.push("1.2.1"))

    one = first(here, in_the_tag)
    assert (one["state"], one["outcome"]) == ("done", "superseded")
    assert "followed by 1.2.1" in one["sentence"]
    assert outcome(here, elsewhere) == ("parked", None)


def test_what_parks_after_a_later_success_is_closed_at_once(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """The order in which pushes ended decided whether the older one stayed parked for ever."""
    now = int(time.time())
    here.ended(here.push("1.2.1", pushed_at=now))
    sandbox.add_version(APP, "1.2.0", docker_image="studio/another")

    older = here.push("1.2.0", pushed_at=now - 60)

    here.ended(older)
    one = first(here, older)
    assert (one["state"], one["outcome"]) == ("done", "superseded")
    assert "followed by 1.2.1" in one["sentence"]


def test_what_a_person_asked_for_stays_parked_beside_a_later_success(
    here: ReceiverHere, sandbox: EdgegapSandbox, beside: Commands
) -> None:
    now = int(time.time())
    older = taken(here, sandbox, "1.2.0")
    here.ended(here.push("1.2.1", pushed_at=now + 60))
    until(lambda: outcome(here, older) == ("done", "superseded"))

    beside.run("replay", older)

    until(lambda: "parked" in states(here, older).values())


def test_a_later_success_of_a_channel_closes_what_was_parked_for_it(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    config = RULE.replace("preflight", 'channels = ["staging"]\npreflight')
    with receiver_here(tmp_path, edgegap, config=config) as receiver:
        sandbox.version_limit = 1
        moved = receiver.push("1.0")
        until(lambda: states(receiver, moved) == {"1.0": "done", "staging": "parked"})
        sandbox.version_limit = None

        receiver.ended(receiver.push("1.1"))

        until(lambda: states(receiver, moved) == {"1.0": "done", "staging": "done"})
        (closed,) = (one for one in receiver.details(moved)["registrations"] if one["reason"])
    assert (closed["version"], closed["outcome"]) == ("staging", "superseded")
    assert "followed by 1.1" in closed["sentence"]


def test_a_rollback_of_a_channel_closes_nothing_that_lies_in_a_tag(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    """A channel's registration is recorded after its version's, so it looked like a later push."""
    config = RULE.replace("preflight", 'channels = ["staging"]\npreflight')
    with receiver_here(tmp_path, edgegap, config=config) as receiver:
        for tag in ("1.0", "1.1"):
            receiver.ended(receiver.push(tag))
        parked_one = taken(receiver, sandbox, "1.2")
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]

        answer = commands_beside(receiver).json_of("rollback", APP, "staging", "--json")
        assert receiver.ended(answer["delivery"])["outcome"] == "updated"

        assert states(receiver, parked_one) == {"1.2": "parked"}


def test_a_dismissed_digest_is_not_treated_as_the_one_the_tag_had(ledger: Ledger) -> None:
    """Else the next push of that tag would be called overwritten."""
    write(ledger, lambda tx: pushed(tx, "1.0"))
    settled(ledger, one_claim(ledger), parked(Reason.NOT_AMD64, digest="sha256:" + "a" * 64))
    write(ledger, lambda tx: dismiss_parked(tx, parked_ids(tx, None), "command"))
    write(ledger, lambda tx: pushed(tx, "1.0"))

    assert one_claim(ledger).known_digest is None


def test_on_both_engines_it_is_closed_and_opened_again(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    settled(ledger, one_claim(ledger), parked(Reason.APP_MISSING))
    write(ledger, lambda tx: pushed(tx, "1.1"))
    finish(ledger)

    for reason, many in (("not_amd64", 0), ("app_missing", 1), (None, 1)):
        assert len(ledger.read_sync(partial(parked_ids, reason=reason))) == many
    changed = write(ledger, lambda tx: dismiss_parked(tx, [delivery, "d0", delivery], "page"))

    assert [one.version for one in changed.registrations] == ["1.0"]
    assert (changed.missing, changed.unchanged) == (("d0",), ())
    found = ledger.read_sync(lambda tx: delivery_detail(tx, delivery))
    assert found is not None
    assert found.registrations[0].dismissed_by == "page"
    again = write(ledger, lambda tx: reopen(tx, [delivery]))
    assert [one.reason for one in again.registrations] == ["app_missing"]


@pytest.mark.parametrize(
    ("tag", "reason", "open_again"),
    [
        ("1.0", Reason.APP_MISSING, False),
        ("1.1", Reason.NOT_AMD64, False),
        ("1.1", Reason.APP_MISSING, True),
    ],
    ids=["same target", "reason in the image", "reason elsewhere"],
)
def test_what_a_later_push_made_needless_is_not_parked_again(
    ledger: Ledger, tag: str, reason: Reason, *, open_again: bool
) -> None:
    """It was parked beside the version that the later push had created, for good."""
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    settled(ledger, one_claim(ledger), parked(reason))
    write(ledger, lambda tx: dismiss_parked(tx, [delivery], "page"))
    write(ledger, lambda tx: pushed(tx, tag))
    finish(ledger)

    changed = write(ledger, lambda tx: reopen(tx, [delivery]))

    assert (len(changed.registrations), len(changed.superseded)) == (open_again, not open_again)
    found = ledger.read_sync(lambda tx: delivery_detail(tx, delivery))
    assert found is not None
    one = found.registrations[0]
    assert one.outcome == (None if open_again else "superseded")
    assert one.dismissed_by is None
    assert open_again or one.sentence == f"Closed: followed by {tag}."


@pytest.mark.parametrize(
    "body",
    [
        {"ids": ["r0"], "reason": "not_amd64"},
        {"ids": ["r0"], "after": "r0"},
        {"reason": "not_amd64"},
        {"ids": ["r0"], "all": True},
        {},
    ],
)
def test_the_api_takes_ids_or_all_and_a_reason_only_with_all(
    here: ReceiverHere, sandbox: EdgegapSandbox, body: Any
) -> None:
    """Ids with a reason dismissed everything that was parked for that reason."""
    delivery = taken(here, sandbox, "1.0")

    answer = httpx.post(
        f"{here.url}/api/dismiss",
        json=body,
        headers={"Authorization": f"Bearer {here.api_token()}"},
        trust_env=False,
    )

    assert answer.status_code == 400
    assert outcome(here, delivery) == ("parked", None)


def test_a_closed_one_is_purged_when_it_was_closed_long_enough_ago(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parked one stayed for ever."""
    monkeypatch.setattr(ids, "_last", 0)
    now = write(ledger, lambda tx: tx.now)
    old = now - 100 * DAY
    tags = ("closed-long-ago", "closed-today", "open")
    for tag in tags:
        write(ledger, at(old, lambda tx, tag=tag: pushed(tx, tag)))  # type: ignore[misc]
    settlement = parked(Reason.NOT_AMD64)
    for _ in tags:
        claimed = one_claim(ledger)
        settling = partial(settle, claimed=claimed, owner=OWNER, result=settlement)
        write(ledger, at(old, settling))
    deliveries = ledger.read_sync(lambda tx: list_deliveries(tx, Filter()))
    named = {one.tag: one.id for one in deliveries}
    write(ledger, at(old, lambda tx: dismiss_parked(tx, [named["closed-long-ago"]], "page")))
    write(ledger, lambda tx: dismiss_parked(tx, [named["closed-today"]], "page"))
    write(ledger, lambda tx: pushed(tx, "young"))

    asyncio.run(Purge(ledger, LiveSettings(Settings())).run())

    left = ledger.read_sync(lambda tx: list_deliveries(tx, Filter()))
    assert [one.tag for one in left] == ["young", "open", "closed-today"]
