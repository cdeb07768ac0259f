"""Channels compared with Edgegap: a PATCH that is carried out late, and what another hand moved."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver import backoff
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.upkeep import drift
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import RULE, until

APPS = ("late-app", "kept-app", "seen-app", "back-app", "gone-app", "busy-app")
CONFIG = (
    "".join(
        RULE.replace("studio/game-server", f"studio/{app}").replace(
            'app = "my-game"', f'app = "{app}"\nversions = false\nchannels = ["dev"]'
        )
        for app in APPS
    )
    + "".join(
        f'[[channel]]\napp = "{app}"\nname = "dev"\nrestore = true\n'
        for app in ("back-app", "gone-app")
    )
    + '[[notice]]\nurl_env = "TEAM_URL"\non = ["drifted"]\n[catch_up]\nevery = "off"\n'
)
LONG_AGO = 1_780_000_000


@pytest.fixture
def edgegap() -> EdgegapSandbox:
    return EdgegapSandbox(apps=APPS)


@pytest.fixture
def edgegap_url(edgegap: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(backoff, "FIRST_BACKOFF", 20)
    monkeypatch.setattr(backoff, "MAX_BACKOFF", 60)
    monkeypatch.setattr(drift, "LOOK_EVERY_SECONDS", 0.05)
    with serving(edgegap.app) as url:
        yield url


@pytest.fixture
def here(tmp_path: Path, edgegap_url: str) -> Iterator[ReceiverHere]:
    with running(tmp_path, edgegap_url) as receiver:
        yield receiver


def running(folder: Path, url: str) -> Any:
    environment = {"TEAM_URL": "json://127.0.0.1:9"}
    return receiver_here(folder, url, config=CONFIG, environment=environment)


def push(receiver: ReceiverHere, app: str, tag: str, at: int | None = None) -> str:
    times = {} if at is None else {"pushed_at": LONG_AGO + at}
    return receiver.push_to(f"studio/{app}", tag, **times)


def dev(edgegap: EdgegapSandbox, app: str) -> Any:
    return edgegap.versions[app, "dev"]["docker_tag"]


def compare(receiver: ReceiverHere) -> None:
    receiver.inside(lambda: receiver.service.drift.compare(0))


def get(receiver: ReceiverHere, path: str) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    return httpx.get(f"{receiver.url}{path}", headers=headers, trust_env=False).json()


def channel(receiver: ReceiverHere, app: str) -> Any:
    (row,) = get(receiver, f"/api/channels?app={app}")["channels"]
    return row


LATE = Fault("late", method="PATCH", status=504)
NOT_DEFINITE = [
    LATE,
    replace(LATE, status=200, body="<html>busy</html>"),
    replace(LATE, status=202, body='{"success": true}', content_type="application/json"),
    replace(LATE, status=302, headers={"location": "https://example.com/"}),
    replace(LATE, status=403, body="<html>blocked</html>"),
]


def land(receiver: ReceiverHere, edgegap: EdgegapSandbox, app: str) -> None:
    """Let the PATCH be carried out, and the time in which it could be be over."""
    edgegap.proceed()
    until(lambda: dev(edgegap, app) == "1.1")
    over = "UPDATE channels SET check_at = 1 WHERE app = :app AND check_at IS NOT NULL"
    write = receiver.ledger.write
    assert receiver.inside(lambda: write(lambda tx: tx.run(over, app=app).rowcount)) == 1


def moved_late(
    receiver: ReceiverHere, edgegap: EdgegapSandbox, app: str, fault: Fault = LATE
) -> None:
    """Let a PATCH be answered by others, and a newer push move the channel."""
    receiver.ended(push(receiver, app, "1.0"))
    edgegap.misbehave(fault)
    first = push(receiver, app, "1.1")
    until(
        lambda: any(
            (call.method, call.status) == ("PATCH", fault.status) for call in edgegap.calls[2:]
        )
    )
    assert receiver.ended(push(receiver, app, "1.2"))["outcome"] == "updated"
    receiver.ended(first)


@pytest.mark.parametrize("fault", NOT_DEFINITE, ids=lambda fault: str(fault.status))
def test_a_patch_that_lands_late_is_put_right_by_itself(
    here: ReceiverHere, edgegap: EdgegapSandbox, fault: Fault
) -> None:
    """Edgegap had the older image from then on, and the ledger said otherwise."""
    moved_late(here, edgegap, "late-app", fault)
    land(here, edgegap, "late-app")

    until(lambda: channel(here, "late-app")["moves"][0]["action"] == "restore")
    assert dev(edgegap, "late-app") == "1.2"
    last = channel(here, "late-app")
    assert (last["moves"][0]["from_tag"], last["moves"][0]["tag"]) == ("1.1", "1.2")
    assert (last["tag"], last["drift"]) == ("1.2", None)
    assert get(here, "/readyz")["degraded"] == []


@pytest.mark.parametrize("fault", NOT_DEFINITE, ids=lambda fault: str(fault.status))
def test_a_patch_that_was_carried_out_counts_whatever_was_answered(
    here: ReceiverHere, edgegap: EdgegapSandbox, fault: Fault
) -> None:
    here.ended(push(here, "late-app", "1.0"))
    edgegap.misbehave(replace(fault, kind="status", after=True))

    assert here.ended(push(here, "late-app", "1.1"))["outcome"] == "updated"
    assert dev(edgegap, "late-app") == "1.1"


def test_it_is_put_right_after_a_restart(
    tmp_path: Path, edgegap_url: str, edgegap: EdgegapSandbox
) -> None:
    with running(tmp_path, edgegap_url) as receiver:
        moved_late(receiver, edgegap, "kept-app")

    with running(tmp_path, edgegap_url) as receiver:
        land(receiver, edgegap, "kept-app")
        until(lambda: dev(edgegap, "kept-app") == "1.2")


def test_a_patch_that_was_answered_leaves_nothing_to_compare(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    for tag in ("1.0", "1.1"):
        here.ended(push(here, "busy-app", tag))

    due = here.ledger.read_sync(
        lambda tx: tx.run("SELECT check_at FROM channels WHERE check_at IS NOT NULL").all()
    )
    assert due == []


def test_what_another_hand_moved_is_shown_and_notified_and_left(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    here.ended(push(here, "seen-app", "1.0"))
    edgegap.versions["seen-app", "dev"]["docker_tag"] = "0.9"

    compare(here)
    compare(here)

    assert dev(edgegap, "seen-app") == "0.9"
    assert channel(here, "seen-app")["drift"] == "studio/seen-app:0.9"
    (degraded,) = get(here, "/api/overview")["degraded"]
    assert degraded["code"] == "channels"
    assert "seen-app/dev has studio/seen-app:0.9 at Edgegap" in degraded["message"]
    notices = here.ledger.read_sync(lambda tx: tx.run("SELECT text FROM outbox").all())
    (notice,) = [row.text for row in notices]  # once, however often it is found
    assert "`receiver promote seen-app dev --to 1.0` moves it" in notice

    edgegap.versions["seen-app", "dev"]["docker_tag"] = "1.0"
    compare(here)
    assert channel(here, "seen-app")["drift"] is None


def test_readiness_names_what_another_hand_moved(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    here.ended(push(here, "seen-app", "1.0"))
    edgegap.versions["seen-app", "dev"]["docker_tag"] = "0.9"
    compare(here)

    (degraded,) = get(here, "/readyz")["degraded"]

    assert degraded.startswith("channels: The channel seen-app/dev has studio/seen-app:0.9")


def test_a_channel_with_restore_is_put_back(here: ReceiverHere, edgegap: EdgegapSandbox) -> None:
    here.ended(push(here, "back-app", "1.0"))
    edgegap.versions["back-app", "dev"]["docker_tag"] = "0.9"

    compare(here)

    until(lambda: dev(edgegap, "back-app") == "1.0")
    until(lambda: channel(here, "back-app")["drift"] is None)
    move = channel(here, "back-app")["moves"][0]
    assert (move["action"], move["from_tag"], move["tag"]) == ("restore", "0.9", "1.0")


def test_a_channel_with_restore_is_created_again(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    here.ended(push(here, "gone-app", "1.0"))
    del edgegap.versions["gone-app", "dev"]

    compare(here)

    until(lambda: ("gone-app", "dev") in edgegap.versions)
    assert dev(edgegap, "gone-app") == "1.0"


PARKING = {
    "it differs": [],
    "the look is refused": [
        Fault("slow", method="GET", path_contains="/version/dev", seconds=0),
        Fault("status", method="GET", path_contains="/version/dev", status=422, message="no"),
    ],
}


@pytest.mark.parametrize("app", ["back-app", "seen-app"], ids=["restore", "no restore"])
@pytest.mark.parametrize("why", PARKING)
def test_a_move_that_is_parked_after_its_patch_is_a_move(
    here: ReceiverHere, edgegap: EdgegapSandbox, app: str, why: str
) -> None:
    """The compare moved the channel back, as if another hand had moved it."""
    here.ended(push(here, app, "1.0"))
    if not PARKING[why]:
        edgegap.quirks = edgegap.quirks.changed({"stores": {"ports": []}})
    edgegap.misbehave(*PARKING[why])
    ended = here.ended(push(here, app, "1.1"))

    compare(here)

    assert ended["state"] == "parked"
    last = channel(here, app)
    assert (dev(edgegap, app), last["tag"], last["drift"]) == ("1.1", "1.1", None)
    assert (last["moves"][0]["from_tag"], last["moves"][0]["tag"]) == ("1.0", "1.1")
    assert get(here, "/readyz")["degraded"] == []


@pytest.mark.parametrize("app", ["back-app", "seen-app"], ids=["restore", "no restore"])
def test_what_a_parked_move_asked_for_is_ours_when_it_comes_late(
    here: ReceiverHere, edgegap: EdgegapSandbox, app: str
) -> None:
    here.ended(push(here, app, "1.0"))
    edgegap.misbehave(
        Fault("slow", method="GET", path_contains="/version/dev", seconds=0),
        LATE,
        Fault("status", method="GET", path_contains="/version/dev", status=422, message="no"),
    )
    assert here.ended(push(here, app, "1.1"))["state"] == "parked"
    edgegap.proceed()
    until(lambda: dev(edgegap, app) == "1.1")

    compare(here)

    last = channel(here, app)
    assert (dev(edgegap, app), last["tag"], last["drift"]) == ("1.1", "1.1", None)
    assert last["moves"][0]["action"] == "push"
    assert get(here, "/readyz")["degraded"] == []


@pytest.mark.parametrize("app", ["back-app", "seen-app"], ids=["restore", "no restore"])
def test_no_push_moves_it_below_what_a_parked_move_asked_for(
    here: ReceiverHere, edgegap: EdgegapSandbox, app: str
) -> None:
    here.ended(push(here, app, "nightly-1", 100))
    edgegap.misbehave(
        Fault("slow", method="GET", path_contains="/version/dev", seconds=0),
        Fault("status", method="PATCH", status=504, after=True),
        Fault("status", method="GET", path_contains="/version/dev", status=422, message="no"),
    )
    assert here.ended(push(here, app, "nightly-3", 300))["state"] == "parked"

    assert here.ended(push(here, app, "nightly-2", 200))["outcome"] == "superseded"
    assert dev(edgegap, app) == "nightly-3"


def test_a_version_without_an_image_is_no_drift(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    here.ended(push(here, "back-app", "1.0"))
    edgegap.misbehave(Fault("declined", method="GET", path_contains="/version/dev", body="{}"))
    edgegap.calls.clear()

    compare(here)

    assert channel(here, "back-app")["drift"] is None
    assert [call.method for call in edgegap.calls] == ["GET"]


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_refused_read_is_no_drift(
    here: ReceiverHere, edgegap: EdgegapSandbox, status: int
) -> None:
    here.ended(push(here, "seen-app", "1.0"))
    edgegap.misbehave(Fault("status", method="GET", status=status, times=1))

    compare(here)

    assert channel(here, "seen-app")["drift"] is None


def test_a_late_patch_is_put_right_although_what_the_channel_has_is_parked(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    """It stayed, as putting it back would have begun the parked move again."""
    here.ended(push(here, "late-app", "1.0"))
    edgegap.misbehave(LATE)
    first = push(here, "late-app", "1.1")
    until(lambda: any(call.status == LATE.status for call in edgegap.calls))
    edgegap.quirks = edgegap.quirks.changed({"stores": {"ports": []}})
    assert here.ended(push(here, "late-app", "1.2"))["state"] == "parked"
    here.ended(first)
    land(here, edgegap, "late-app")

    def put_back() -> bool:
        bodies = [call.body or {} for call in edgegap.calls if call.method == "PATCH"]
        return [body.get("docker_tag") for body in bodies].count("1.2") > 1

    until(put_back)
    until(lambda: dev(edgegap, "late-app") == "1.2")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("declined", method="GET", path_contains="/dev", body="{}"),
        Fault("status", status=404, method="GET", path_contains="/dev", body="{}"),
        Fault("status", status=404, method="GET", path_contains="/dev", body="<html>"),
    ],
    ids=["200 {}", "404 {}", "404 HTML"],
)
def test_an_answer_that_is_not_edgegaps_is_no_drift(
    here: ReceiverHere, edgegap: EdgegapSandbox, fault: Fault
) -> None:
    here.ended(push(here, "back-app", "1.0"))
    edgegap.calls.clear()
    edgegap.misbehave(fault)

    compare(here)

    assert [call.method for call in edgegap.calls] == ["GET"]
    assert channel(here, "back-app")["drift"] is None


def test_a_channel_that_is_disabled_is_reported_until_it_is_enabled(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    """Only a push said so."""
    here.ended(push(here, "back-app", "1.0"))
    edgegap.versions["back-app", "dev"]["is_active"] = False

    compare(here)

    assert channel(here, "back-app")["drift"] == "a disabled version"
    (problem,) = get(here, "/readyz")["degraded"]
    assert "back-app/dev is disabled at Edgegap" in str(problem)
    edgegap.versions["back-app", "dev"]["is_active"] = True
    compare(here)
    assert channel(here, "back-app")["drift"] is None
    assert [call.method for call in edgegap.calls].count("PATCH") == 0
