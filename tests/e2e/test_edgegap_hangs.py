"""While Edgegap does not answer, no page and no reading operation of the API waits for it."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from receiver.edgegap import in_time
from receiver.ledger.approvals import approvable, waiting_moves
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.signing import ApprovalToken
from receiver.upkeep import promotion
from tests.support.approvals import registration_of
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, RULE, TIMEOUT_SECONDS, until
from tests.support.visitor import PAGE, Visitor, visitor

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
CONFIG += f"""
[[channel]]
app = "{APP}"
name = "prod"
from = "staging"
needs = ["approval"]
{NO_CATCH_UP}"""
LATE = "Edgegap did not answer within 3 seconds"
PROD = f"app={APP}&channel=prod&to=1.0"
QUERIES = {
    "/rules/link": "repository=studio/game-server",
    "/versions/diff": f"app={APP}&a=1.0&b=0.9",
    "/promote": PROD,
    "/api/check": "image=studio/game-server:1.0",
    "/api/versions": f"app={APP}",
    "/api/diff": f"app={APP}&a=1.0&b=0.9",
    "/api/export": f"app={APP}&version=0.9",
    "/api/promotion": PROD,
    "/api/rollback": f"app={APP}&channel=staging&to=1.0",
}

PATHS = {"/moves/{id}": "/moves/{id of a move}"}


@pytest.fixture
def here(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReceiverHere]:
    """A receiver with a channel that waits for an approval, beside an Edgegap that hangs."""
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=PAGE) as one:
        sandbox.add_version(APP, "0.9")
        delivery = one.push("1.0")
        until(lambda: registration_of(one, delivery, "prod")["state"] == "waiting")
        monkeypatch.setattr(in_time, "LIMIT_SECONDS", 0.05)
        sandbox.misbehave(Fault("slow", method="GET", seconds=3600, times=None))
        yield one
        sandbox.behave()
        sandbox.proceed()


@pytest.fixture
def person(here: ReceiverHere) -> Iterator[Visitor]:
    with visitor(here) as one:
        one.headers["Authorization"] = f"Bearer {here.api_token()}"
        yield one


def approval_link(here: ReceiverHere) -> str:
    (waits,) = here.ledger.read_sync(waiting_moves)
    move = here.ledger.read_sync(lambda tx: approvable(tx, waits.registration_id, waits=False))
    assert move is not None
    return here.service.approvals.link("", ApprovalToken(move, int(time.time()) + 3600))


def test_no_page_and_no_reading_operation_waits_for_an_edgegap_that_hangs(
    here: ReceiverHere, person: Visitor
) -> None:
    """`/promote` waited for 25 s, the comparison of versions and its operation for 20 s."""
    named = {"id": here.push("1.1"), "name": "page.css", "token": approval_link(here)[9:]}
    (move,) = here.ledger.read_sync(waiting_moves)
    named["id of a move"] = move.registration_id
    paths = [
        f"{PATHS.get(route.path, route.path).format(**named)}?{QUERIES.get(route.path, '')}"
        for route in here.app.routes
        if isinstance(route, Route) and "GET" in (route.methods or ())
    ]

    answers = {path: person.get(path, timeout=10).status_code for path in paths}

    assert set(QUERIES) <= {path.partition("?")[0] for path in paths}
    assert {path: status for path, status in answers.items() if status >= 400} == {
        "/api/diff?" + QUERIES["/api/diff"]: 502,
        "/api/export?" + QUERIES["/api/export"]: 502,
        "/again?": 400,  # no form was kept
    }


@pytest.mark.parametrize("path", ["/versions/diff", "/promote"])
def test_a_page_says_that_edgegap_is_late_and_links_to_itself(person: Visitor, path: str) -> None:
    shown = person.read(f"{path}?{QUERIES[path]}")

    assert LATE in shown.text
    again = [link for link in shown.links() if link.startswith(f"{path}?")]
    assert len(again) == 1
    assert person.read(again[0]).text == shown.text


def test_the_page_of_an_approval_asks_again_for_what_came_too_late(
    here: ReceiverHere, sandbox: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It showed for half a minute that Edgegap had not answered."""
    url = here.url + approval_link(here)
    late = httpx.get(url, trust_env=False)
    sandbox.behave()
    sandbox.proceed()
    sandbox.deployments.run(APP, "prod")
    monkeypatch.setattr(in_time, "LIMIT_SECONDS", TIMEOUT_SECONDS)

    found = httpx.get(url, trust_env=False)

    assert LATE in late.text
    assert 'href="?"' in late.text
    assert (LATE in found.text, "Look again" in found.text) == (False, False)


def test_the_api_reports_that_edgegap_is_late(person: Visitor) -> None:
    versions, diff, shown, back = (
        person.get(f"{path}?{QUERIES[path]}")
        for path in ("/api/versions", "/api/diff", "/api/promotion", "/api/rollback")
    )

    assert versions.json()["problem"].startswith(LATE)
    assert (diff.json()["code"], LATE in diff.json()["detail"]) == ("edgegap_failed", True)
    for one in (shown, back):
        assert one.json()["running"] is None
        assert one.json()["notes"] == [promotion.NOT_IN_TIME]
