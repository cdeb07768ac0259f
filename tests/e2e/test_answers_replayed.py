"""Sequences of answers that Edgegap, or what is in between, may give: what comes of a push."""

import gzip
import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.receiver_here import ReceiverHere, hurried_at
from tests.support.receiver_process import RULE, until
from tests.support.scripted_answers import PAGE, TAG, Replay, Said, listed, made, version

NUMBERS = itertools.count(1000)
COPIED = RULE[: RULE.index("[rule.settings]")]  # settings come from the app's newest version
ONE = "/version/1.0.0"
LOGIN = {"message": "Unable to login with the given credentials"}
PULL = {"message": "Unable to pull image from registry"}
EXISTS = {"message": "This application version already exists"}
DECLINED = {"success": False, "message": "The version could not be created"}
SOURCE = Said("GET", "/versions", 200, listed(version("0.9.0")))
BOMB = gzip.compress(gzip.compress(b'{"name": "' + bytes(2**24) + b'"}'))
ALL_STATUSES = (200, 204, 400, 401, 403, 404, 409, 424, 429, 503)


Pushed = Callable[..., tuple[dict[str, Any], Replay]]
Held = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay()


@pytest.fixture(scope="module")
def receiver(replay: Replay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    folder = tmp_path_factory.mktemp("replayed")
    with serving(replay) as url, hurried_at(folder, url, COPIED) as receiver:
        yield receiver


@pytest.fixture
def begin(receiver: ReceiverHere, replay: Replay) -> Callable[..., str]:
    """Push a tag that these answers are given for; nothing listed before is remembered."""

    async def forget() -> None:
        receiver.service.worker.invalidate_caches()

    def push(*answers: Said) -> str:
        receiver.inside(forget)
        replay.begin(f"1.0.{next(NUMBERS)}", *answers)
        return receiver.push(replay.tag)

    return push


@pytest.fixture
def pushed(receiver: ReceiverHere, replay: Replay, begin: Callable[..., str]) -> Pushed:
    """Push, and return what it ended in."""

    def ended(*answers: Said) -> tuple[dict[str, Any], Replay]:
        return receiver.ended(begin(*answers)), replay

    return ended


@pytest.fixture
def held(receiver: ReceiverHere, replay: Replay, begin: Callable[..., str]) -> Held:
    """Push, and return what it waits for; afterwards it is created."""

    def waits(*answers: Said) -> dict[str, Any]:
        delivery = begin(*answers)
        found = until(lambda: waiting(receiver, delivery))
        replay.begin(replay.tag, *made())
        assert receiver.ended(delivery)["outcome"] == "created"
        return found or {}

    return waits


def waiting(receiver: ReceiverHere, delivery: str) -> dict[str, Any] | None:
    one: dict[str, Any] = receiver.details(delivery)["registrations"][0]
    return one if one["state"] == "waiting" else None


def gates(receiver: ReceiverHere) -> list[tuple[Any, ...]]:
    """When which gate was closed."""
    with closing(sqlite3.connect(receiver.folder / "receiver.db")) as ledger:
        return ledger.execute("SELECT name, since, until FROM gates ORDER BY name").fetchall()


def once(method: str, path: str, status: int, body: Any) -> Said:
    return Said(method, path, status, body, times=1)


# Not Edgegap's own


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_waits_and_names_the_address(held: Held, status: int) -> None:
    redirect = Said(
        "GET", "", status, PAGE.encode(), headers={"location": "https://portal.example/?secret"}
    )

    found = held(redirect)

    assert found["reason"] == "not_edgegap"
    assert f"HTTP {status}: a redirect to portal.example)" in found["sentence"]
    assert "EDGEGAP_BASE_URL" in found["sentence"]


@pytest.mark.parametrize("status", ALL_STATUSES)
@pytest.mark.parametrize(("method", "path"), [("GET", ONE), ("GET", "/versions"), ("POST", "")])
def test_a_page_of_html_changes_nothing_whatever_its_status(
    pushed: Pushed, method: str, path: str, status: int
) -> None:
    """Neither is the token refused by it, nor is anything absent, taken, missing or done."""
    page = b"" if status == 204 else PAGE.encode()  # which has no body in HTTP

    ended, replay = pushed(once(method, path, status, page), *made())

    assert ended["outcome"] == "created", ended["sentence"]
    assert replay.count("POST") == (2 if method == "POST" else 1)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 503])
def test_a_page_of_html_waits_and_names_a_proxy(
    receiver: ReceiverHere, held: Held, status: int
) -> None:
    before = gates(receiver)

    found = held(Said("GET POST", "", status, PAGE.encode()))

    assert found["reason"] == "not_edgegap"
    assert f"HTTP {status}: Access denied)" in found["sentence"]
    for word in ("EDGEGAP_BASE_URL", "proxy", "firewall"):
        assert word in found["sentence"]
    assert gates(receiver) == before


def test_a_page_in_place_of_the_look_after_the_post_is_no_success(pushed: Pushed) -> None:
    source, post, there = made()
    page = Said("GET", ONE, 200, PAGE.encode(), times=2, after=post)

    ended, replay = pushed(source, post, page, there)

    assert ended["outcome"] == "created"
    assert replay.count("POST") == 1


def test_every_call_asks_for_an_unencoded_answer(pushed: Pushed) -> None:
    _, replay = pushed(*made())

    assert {one["accept-encoding"] for one in replay.headers} == {"identity"}
    assert {one["authorization"] for one in replay.headers} == {"token sandbox-token"}


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br"])
def test_an_encoded_answer_is_not_read(pushed: Pushed, encoding: str) -> None:
    bomb = Said("GET", ONE, 200, BOMB, times=1, headers={"content-encoding": encoding})

    ended, _ = pushed(bomb, *made())

    assert ended["outcome"] == "created"


def test_an_answer_that_a_proxy_compressed_is_read(pushed: Pushed) -> None:
    source, post, there = made()
    gzipped = replace(there, headers={"content-encoding": "gzip"})

    ended, replay = pushed(source, post, gzipped)

    assert ended["outcome"] == "created"
    assert replay.count("POST") == 1


# Not done


def test_a_creation_that_edgegap_declines_is_tried_three_more_times_and_parked(
    pushed: Pushed,
) -> None:
    ended, replay = pushed(SOURCE, Said("POST", "", 200, DECLINED))

    assert (ended["state"], ended["reason"]) == ("parked", "declined_by_edgegap")
    assert "success: false: The version could not be created" in ended["sentence"]
    assert replay.count("POST") == 4


def test_a_creation_that_edgegap_declines_once_is_done_later(pushed: Pushed) -> None:
    declined = once("POST", "", 200, {"success": False, "errors": {"ports": "busy"}})

    ended, replay = pushed(declined, *made())

    assert ended["outcome"] == "created"
    assert replay.count("POST") == 2


def test_a_move_that_edgegap_declines_is_parked_with_its_message(tmp_path: Path) -> None:
    config = RULE.replace("preflight", 'channels = ["staging"]\npreflight')
    staging = Said("GET", "/version/staging", 200, version("staging", docker_tag="0.9.0"))
    declined = Said("PATCH", "", 200, {"success": False, "message": "Not now"})
    replay = Replay()
    replay.begin(TAG, staging, declined, *made())
    with serving(replay) as url, hurried_at(tmp_path, url, config) as receiver:
        delivery = receiver.push(TAG)
        receiver.ended(delivery)
        states = {
            one["version"]: (one["state"], one["reason"], one["sentence"])
            for one in receiver.details(delivery)["registrations"]
        }

    state, reason, sentence = states["staging"]
    assert (state, reason) == ("parked", "declined_by_edgegap")
    assert "Not now" in sentence
    assert replay.count("PATCH") == 4


# Texts that mean something


@pytest.mark.parametrize("status", [400, 424])
@pytest.mark.parametrize("upper", [False, True], ids=["as met", "in capitals"])
def test_a_refused_login_is_parked_at_once(pushed: Pushed, status: int, *, upper: bool) -> None:
    said = {"message": LOGIN["message"].upper()} if upper else LOGIN

    ended, replay = pushed(SOURCE, Said("POST", "", status, said))

    assert ended["reason"] == "registry_login_refused"
    assert replay.count("POST") == 1


@pytest.mark.parametrize("status", [400, 424])
def test_an_image_that_cannot_be_pulled_yet_waits(held: Held, status: int) -> None:
    found = held(SOURCE, Said("POST", "", status, PULL))

    assert found["reason"] == "image_not_ready"


@pytest.mark.parametrize("status", [400, 409])
@pytest.mark.parametrize(
    ("held_by", "ends"),
    [
        (version(TAG), "unchanged"),
        (version(TAG, docker_tag="other"), "name_taken"),
        (None, "name_conflict"),
    ],
)
def test_a_name_that_exists_is_looked_at(
    pushed: Pushed, status: int, held_by: dict[str, Any] | None, ends: str
) -> None:
    refusal = Said("POST", "", status, EXISTS)
    there = Said("GET", ONE, 200 if held_by else 404, held_by or {"message": "x"}, after=refusal)

    ended, replay = pushed(SOURCE, refusal, there)

    assert (ended["outcome"] or ended["reason"]) == ends
    if held_by is None:
        assert EXISTS["message"] in ended["sentence"]
        assert replay.count("POST") == 2
    else:
        assert replay.count("POST") == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"message": "Unknown Args"}, ["Unknown Args"]),
        (400, {"message": ["no image", "no tag"]}, ["no image", "no tag"]),
        (400, {"message": {"docker_image": "not valid"}}, ["docker_image", "not valid"]),
        (
            400,
            {"errors": {"req_cpu": "under 128"}, "message": "No"},
            ["No", "req_cpu", "under 128"],
        ),
        (400, {"errors": ["under 128"]}, ["under 128"]),
        (422, {"message": "No", "details": {"ports": ["0 is odd"]}}, ["ports", "0 is odd"]),
        (422, {"error": "not valid"}, ["not valid"]),
        (402, {"message": "Payment required"}, ["HTTP 402", "Payment required", "plan"]),
        (400, {"reason": "not valid", "envs": [{"key": "K", "value": "hide"}]}, ["not valid"]),
        (400, ["no image"], ["no image"]),
        (400, {}, ["HTTP 400"]),
    ],
)
def test_a_refusal_is_parked_with_all_that_it_says(
    pushed: Pushed, status: int, body: Any, words: list[str]
) -> None:
    ended, replay = pushed(SOURCE, Said("POST", "", status, body))

    assert ended["reason"] == "refused_by_edgegap"
    for word in words:
        assert word in ended["sentence"]
    assert "hide" not in ended["sentence"]
    assert replay.count("POST") == 1


@pytest.mark.parametrize("status", [400, 402, 422])
def test_the_version_limit_is_known_by_its_text(pushed: Pushed, status: int) -> None:
    limit = {"message": "You have reached you Application Version limit of 2"}

    ended, _ = pushed(SOURCE, Said("POST", "", status, limit))

    assert ended["reason"] == "version_limit"


# Waits


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize("body", [b"", {"message": "Later"}])
def test_an_error_that_passes_is_waited_out(pushed: Pushed, status: int, body: Any) -> None:
    later = Said("GET POST", ONE, status, body, times=2, headers={"retry-after": "0"})

    ended, _ = pushed(later, *made())

    assert ended["outcome"] == "created"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "UNIX time", "date of another clock"])
def test_it_waits_as_long_as_it_is_asked(tmp_path: Path, status: int, form: str) -> None:
    headers = {
        "seconds": {"retry-after": "3600"},
        "UNIX time": {"retry-after": str(int(time.time()) + 3600)},
        "date of another clock": {
            "retry-after": "Thu, 01 Jan 2015 13:00:00 GMT",
            "date": "Thu, 01 Jan 2015 12:00:00 GMT",
        },
    }[form]

    replay = Replay()
    replay.begin(TAG, Said("GET", "", status, {"message": "Later"}, headers=headers))
    with serving(replay) as url, hurried_at(tmp_path, url, COPIED) as receiver:
        delivery = receiver.push(TAG)
        found = until(lambda: waiting(receiver, delivery)) or {}

    due = datetime.fromisoformat(found["due_at"]).timestamp()
    assert 3500 < due - time.time() <= 3600


# Lists


def pages(**changes: Any) -> dict[str, Any]:
    return listed(*(version(f"0.{number}.0") for number in range(10)), **changes)


FOR_EVER = {"number": 1, "has_next": True, "next_page_number": 2, "paginator": {"num_pages": 9}}


@pytest.mark.parametrize(
    ("page", "calls", "note"),
    [
        (pages(), 1, False),
        (pages(total_count=10, pagination=FOR_EVER), 2, False),
        (pages(total_count=90, pagination=FOR_EVER), 2, True),
        (pages(total_count=90, pagination={**FOR_EVER, "number": 0}), 2, True),
        (pages(total_count=90, pagination={**FOR_EVER, "number": None}), 2, True),
        (pages(total_count=90, pagination={**FOR_EVER, "number": 7}), 1, True),
        (pages(total_count=90, pagination={}), 2, True),
        (pages(total_count=None, pagination=None), 2, False),
        (pages(total_count="10", pagination={"has_next": None}), 1, False),
        (pages(total_count=3), 1, False),
        (pages(total_count=900), 1, False),
    ],
)
def test_a_list_that_is_not_as_it_says_costs_two_calls(
    pushed: Pushed, page: dict[str, Any], calls: int, *, note: bool
) -> None:
    ended, replay = pushed(Said("GET", "/versions", 200, page), *made())

    assert ended["outcome"] == "created"
    assert replay.count("GET", "/versions") == calls
    assert [call["path"].endswith("/versions") for call in ended["requests"]].count(True) == 1
    assert any("could be listed" in one for one in ended["notes"]) is note


@pytest.mark.parametrize("more", [True, False])
def test_a_list_that_refuses_page_and_limit_is_asked_for_without_them(
    pushed: Pushed, *, more: bool
) -> None:
    """It was asked for with them for 24 hours."""
    refusal = Said("GET", "/versions", 400, {"message": "Unknown Args"}, times=1)
    whole = pages(total_count=90 if more else 10, pagination={**FOR_EVER, "has_next": more})

    ended, replay = pushed(refusal, Said("GET", "/versions", 200, whole), *made())

    assert ended["outcome"] == "created"
    assert (replay.count("GET", "/versions"), replay.count("GET", ONE)) == (2, 2)
    assert any("could be listed" in one for one in ended["notes"]) is more


@pytest.mark.parametrize(
    "body",
    [
        {"total_count": 7, "pagination": FOR_EVER},
        {"total_count": 3, "pagination": None, "versions": None},
        {"total_count": 3, "versions": []},
        {"message": "please sign in"},
        {},
    ],
)
def test_a_list_without_its_rows_is_not_read_as_an_empty_one(held: Held, body: Any) -> None:
    found = held(Said("GET", "/versions", 200, body))

    assert found["reason"] == "not_edgegap"
    assert body.get("message", "") in found["sentence"]


# JSON of another kind


@pytest.mark.parametrize(
    "body", [{}, {"message": "please sign in"}, version("another"), {"name": TAG}]
)
def test_an_object_that_is_no_version_is_not_judged_as_one(pushed: Pushed, body: Any) -> None:
    source, post, there = made()
    before = Said("GET", ONE, 200, body, times=2)
    read_back = Said("GET", ONE, 200, body, times=2, after=post)

    ended, replay = pushed(before, source, post, read_back, there)

    assert ended["outcome"] == "created", ended["sentence"]
    assert replay.count("POST") == 1


def channel_with_a_variable() -> tuple[EdgegapSandbox, str]:
    """An account with a channel that has a variable, and a rule that gives another."""
    config = COPIED.replace("preflight", 'versions = false\nchannels = ["dev"]\npreflight')
    config += '[rule.settings]\nenvs = [{ key = "NEW", value = "1" }]\n'
    sandbox = EdgegapSandbox(apps=("my-game",))
    sandbox.add_version(
        app="my-game",
        name="dev",
        docker_image="studio/game-server",
        docker_tag="0.9.0",
        envs=[{"key": "KEEP", "value": "me"}],
    )
    return sandbox, config


def keys_of(sandbox: EdgegapSandbox) -> list[str]:
    return [env["key"] for env in sandbox.versions["my-game", "dev"]["envs"]]


@pytest.mark.parametrize(
    "body", [{}, {"success": "false", "message": "Not now"}, {"message": "Not now"}]
)
def test_an_answer_that_is_no_version_erases_no_variable(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    sandbox, config = channel_with_a_variable()
    sandbox.misbehave(
        Fault("declined", method="GET", path_contains="/dev", body=json.dumps(body), times=2)
    )
    with serving(sandbox.app) as url, hurried_at(tmp_path, url, config) as receiver:
        ended = receiver.ended(receiver.push("1.0.0"))

    assert ended["outcome"] == "updated"
    assert keys_of(sandbox) == ["KEEP", "NEW"]


def test_variables_that_no_answer_shows_are_not_erased(tmp_path: Path) -> None:
    sandbox, config = channel_with_a_variable()
    sandbox.quirks = sandbox.quirks.changed({"leaves_out": ["envs"]})
    with serving(sandbox.app) as url, hurried_at(tmp_path, url, config) as receiver:
        ended = receiver.ended(receiver.push("1.0.0"))

    assert ended["reason"] == "settings_not_copied"
    assert keys_of(sandbox) == ["KEEP"]


@pytest.mark.parametrize("body", [{"success": "false"}, {"success": 0}, {}])
def test_a_write_whose_success_is_not_true_is_parked_with_its_message(
    pushed: Pushed, body: dict[str, Any]
) -> None:
    ended, replay = pushed(SOURCE, Said("POST", "", 200, {**body, "message": "quota used up"}))

    assert (ended["state"], ended["reason"]) == ("parked", "declined_by_edgegap")
    assert "quota used up" in ended["sentence"]
    assert replay.count("POST") == 4


# What an answer leaves out


def without(name: str, *fields: str) -> dict[str, Any]:
    return {field: value for field, value in version(name).items() if field not in fields}


def test_a_row_of_a_list_that_holds_less_than_its_version_is_read_again(pushed: Pushed) -> None:
    """The push was parked: the row had no ports and no variables."""
    _, *rest = made()
    short = Said("GET", "/versions", 200, listed(without("0.9.0", "ports", "envs")))

    ended, replay = pushed(short, Said("GET", "/version/0.9.0", 200, version("0.9.0")), *rest)

    assert ended["outcome"] == "created", ended["sentence"]
    assert replay.count("GET", "/version/0.9.0") == 1


def test_a_row_that_cannot_be_read_again_now_is_read_later(pushed: Pushed) -> None:
    _, *rest = made()
    short = Said("GET", "/versions", 200, listed(without("0.9.0", "envs")))
    later, whole = (
        once("GET", "/version/0.9.0", 503, {"message": "Later"}),
        Said("GET", "/version/0.9.0", 200, version("0.9.0")),
    )

    ended, replay = pushed(short, later, whole, *rest)

    assert ended["outcome"] == "created", ended["sentence"]
    assert replay.count("POST") == 1


@pytest.mark.parametrize("status", [200, 404])
def test_what_no_answer_names_parks_with_the_line_that_accepts_it(
    pushed: Pushed, status: int
) -> None:
    short = without("0.9.0", "envs")
    again = Said("GET", "/version/0.9.0", status, short if status == 200 else {"message": "None"})

    ended, _ = pushed(Said("GET", "/versions", 200, listed(short)), again)

    assert ended["reason"] == "settings_not_copied"
    assert 'leave_out = ["envs"]' in ended["sentence"]
