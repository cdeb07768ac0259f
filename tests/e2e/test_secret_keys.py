"""A start with a secret key that the ledger does not know says that existing links are dead."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.ledger.ledger import Ledger
from receiver.ledger.links import adopt_keys, dead_links, known_keys, use_links
from receiver.secret import Secret
from receiver.signing import LinkSigner
from receiver.upkeep.links import fingerprints_of
from tests.conftest import StartReceiver
from tests.crash.asking import logged
from tests.support.ledger_work import MINUTE, at, write
from tests.support.receiver_process import (
    KEY,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    until,
    webhook_body,
)
from tests.support.visitor import PAGE, Visitor, visitor

NEW = "new-key-0123456789-0123456789-0123456789"
OTHER = "other-key-0123456789-0123456789-01234567"
QUIET = RULE + '\n[catch_up]\nevery = "off"\n'
NOW = 1_790_000_000_000
SALT = "a-salt"
LOBBY = "studio/lobby"


def key(name: str) -> dict[str, str]:
    """A key as the ledger is given it: its hash by salt."""
    return {SALT: f"hash of {name}"}


def adopted(ledger: Ledger, now: int, *names: str) -> bool:
    return write(ledger, at(now, lambda tx: adopt_keys(tx, [key(name) for name in names])))


def test_the_first_keys_are_stored_without_a_word(ledger: Ledger) -> None:
    assert adopted(ledger, NOW, "one")

    assert [one.fingerprint for one in ledger.read_sync(known_keys)] == ["hash of one"]


@pytest.mark.parametrize(
    "starts",
    [
        [("one",), ("one",)],
        [("one",), ("two", "one"), ("two",)],
        [("one",), ("two", "one"), ("two",), ("three", "two")],
        [("one", "two"), ("two",), ("two", "three")],
    ],
)
def test_a_change_in_steps_is_no_surprise(ledger: Ledger, starts: list[tuple[str, ...]]) -> None:
    for number, names in enumerate(starts):
        assert adopted(ledger, NOW + number, *names)


def used(ledger: Ledger, now: int, repository: str, name: str) -> None:
    write(ledger, at(now, lambda tx: use_links(tx, [(repository, f"hash of {name}")])))


def dead(ledger: Ledger, *names: str) -> list[tuple[str, int | None]]:
    """The dead links of two repositories, to a receiver with these keys or those in use."""
    keys = [key(name) for name in names] or None
    found = ledger.read_sync(lambda tx: dead_links(tx, [LOBBY, REPOSITORY], keys))
    return [(one.repository, one.since) for one in found]


def test_keys_of_which_none_is_known_are_said_and_adopted(ledger: Ledger) -> None:
    adopted(ledger, NOW, "one")
    used(ledger, NOW + 1, REPOSITORY, "one")

    assert not adopted(ledger, NOW + 5, "two")
    assert dead(ledger) == [(REPOSITORY, NOW + 5)]
    assert adopted(ledger, NOW + 9, "two")  # the next start
    assert dead(ledger) == [(REPOSITORY, NOW + 5)]
    adopted(ledger, NOW + 10, "one")
    assert dead(ledger) == []


def test_a_change_in_steps_leaves_the_links_dead_that_were_not_pasted_again(
    ledger: Ledger,
) -> None:
    """The only link in use was of the key that went in the last step, and nothing said so."""
    adopted(ledger, NOW, "one")
    used(ledger, NOW + 1, REPOSITORY, "one")
    used(ledger, NOW + 1, LOBBY, "one")
    adopted(ledger, NOW + 2, "one", "two")
    assert dead(ledger) == []
    assert dead(ledger, "two") == [(REPOSITORY, None), (LOBBY, None)]  # what doctor asks before

    used(ledger, NOW + 10 * MINUTE, REPOSITORY, "two")
    adopted(ledger, NOW + 11 * MINUTE, "two")

    assert dead(ledger) == [(LOBBY, NOW + 11 * MINUTE)]


@pytest.mark.parametrize(("later", "is_dead"), [(MINUTE, False), (5 * MINUTE, True)])
def test_of_two_links_the_one_that_was_used_last_counts(
    ledger: Ledger, later: int, is_dead: bool
) -> None:
    """If both are on Docker Hub, each push comes by both."""
    adopted(ledger, NOW, "one", "two")
    used(ledger, NOW, REPOSITORY, "two")
    used(ledger, NOW + later, REPOSITORY, "one")

    adopted(ledger, NOW + 10 * MINUTE, "two")

    assert (dead(ledger) != []) == is_dead


def test_a_fingerprint_is_slow_to_make_and_another_in_another_ledger() -> None:
    """A backup lets anybody try guesses: each must cost them time and memory."""
    (made,) = fingerprints_of([Secret(KEY)], ["one", "two"])

    assert made["one"] != made["two"]
    assert all(KEY not in one and len(one) == 32 for one in made.values())
    assert fingerprints_of([Secret(KEY)], ["one"]) == [{"one": made["one"]}]
    # Of https://www.rfc-editor.org/rfc/rfc7914, section 2, for logins: N = 2^14 and r = 8 at least.
    from receiver.upkeep.links import BLOCK, COST  # noqa: PLC0415

    assert (COST >= 2**14, BLOCK) == (True, 8)


# With real processes.


@pytest.fixture
def receiver(start: StartReceiver) -> ReceiverProcess:
    return start(config=QUIET, environment=PAGE)


@pytest.fixture
def person(receiver: ReceiverProcess) -> Iterator[Visitor]:
    with visitor(receiver) as one:
        yield one


def restarted(receiver: ReceiverProcess, keys: str) -> list[dict[str, Any]]:
    """Restart it with these keys; return what its log warns of the keys since."""
    receiver.stop()
    before = len(list(logged(receiver.log)))
    receiver.environment["RECEIVER_SECRET_KEY"] = keys
    receiver.start()
    lines = list(logged(receiver.log))[before:]
    return [
        line for line in lines if line["event"] in {"secret_key_unknown", "secret_key_links_dead"}
    ]


def degraded(receiver: ReceiverProcess, secret: str) -> list[Any]:
    from receiver.signing import ApiToken, ApiTokenSigner  # noqa: PLC0415

    token = ApiToken("0" * 16, 2**40)
    headers = {"Authorization": f"Bearer {ApiTokenSigner([secret]).sign(token)}"}
    answer = httpx.get(f"{receiver.url}/api/overview", headers=headers, trust_env=False)
    found: list[Any] = answer.json()["degraded"]
    return found


def doctor(receiver: ReceiverProcess, **environment: str) -> Any:
    answer = receiver.run("doctor", "--json", **environment).stdout.splitlines()
    (found,) = [one for one in map(json.loads, answer) if one["what"] == "secret key"]
    return found


def test_another_key_is_warned_of_in_the_log_the_overview_and_doctor(
    receiver: ReceiverProcess,
) -> None:
    """Every push was lost from that start on, and nothing said why."""
    receiver.ended(receiver.push("1.0.0"))
    assert doctor(receiver)["health"] == "pass"
    assert doctor(receiver, RECEIVER_SECRET_KEY=OTHER)["health"] == "warn"

    warned, named = restarted(receiver, NEW)

    assert (named["event"], named["repositories"]) == ("secret_key_links_dead", [REPOSITORY])
    assert warned["level"] == "warning"
    assert "NEW,OLD" in warned["message"]
    (one,) = degraded(receiver, NEW)
    assert one["code"] == "secret_key"
    assert REPOSITORY in one["message"]
    ready = httpx.get(f"{receiver.url}/readyz", trust_env=False).json()
    assert ready == {"ready": True, "degraded": ["secret_key"]}
    with Visitor(receiver) as person:
        person.sign_in()
        assert "The secret key was replaced" in person.read("/").text
    found = doctor(receiver)
    assert (found["health"], REPOSITORY in found["found"]) == ("warn", True)

    link = LinkSigner([NEW], {}).link(receiver.url, REPOSITORY)
    assert httpx.post(link, json=webhook_body("1.1.0"), trust_env=False).status_code == 202

    until(lambda: degraded(receiver, NEW) == [])
    assert doctor(receiver)["health"] == "pass"


def test_a_change_in_steps_warns_of_what_was_not_pasted_again(receiver: ReceiverProcess) -> None:
    receiver.ended(receiver.push("1.0.0"))
    assert restarted(receiver, f"{NEW},{KEY}") == []
    assert degraded(receiver, NEW) == []
    assert doctor(receiver, RECEIVER_SECRET_KEY=NEW)["health"] == "warn"

    (warned,) = restarted(receiver, NEW)

    assert (warned["event"], warned["repositories"]) == ("secret_key_links_dead", [REPOSITORY])
    (one,) = degraded(receiver, NEW)
    assert (one["code"], REPOSITORY in one["message"]) == ("secret_key", True)
    assert doctor(receiver)["health"] == "warn"
    link = LinkSigner([NEW], {}).link(receiver.url, REPOSITORY)
    assert httpx.post(link, json=webhook_body("1.1.0"), trust_env=False).status_code == 202
    until(lambda: degraded(receiver, NEW) == [])
    assert restarted(receiver, f"{OTHER},{NEW}") == []


def test_the_key_set_back_ends_the_warning(receiver: ReceiverProcess) -> None:
    receiver.ended(receiver.push("1.0.0"))
    assert len(restarted(receiver, NEW)) == 2

    assert restarted(receiver, KEY) == []

    assert degraded(receiver, KEY) == []
    receiver.ended(receiver.push("1.1.0"))


def test_neither_key_is_in_the_ledger(receiver: ReceiverProcess, tmp_path: Path) -> None:
    restarted(receiver, f"{NEW},{KEY}")
    receiver.stop()

    written = receiver.everything_written()

    assert KEY not in written
    assert NEW not in written
