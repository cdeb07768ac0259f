"""What the pages show, and that the API returns the same."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from jinja2 import Template

from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.gates import close_token_gate
from receiver.ledger.transaction import Tx
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import Decision
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.upkeep.health import MAY_LOSE, Code, Condition
from receiver.web import versions
from receiver.web.page import deliveries, rendering
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import (
    APP,
    REPOSITORY,
    RULE,
    TIMEOUT_SECONDS,
    until,
    webhook_body,
)
from tests.support.visitor import PAGE, Visitor, visitor

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]\nkeep = 2')
CONFIG += '\n[catch_up]\nevery = "off"\n'


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    """A receiver that got 120 pushes, of which every tenth was ignored."""
    folder = tmp_path_factory.mktemp("many")
    with serving(EdgegapSandbox().app) as url, receiver_here(folder, url, environment=PAGE) as one:
        one.inside(lambda: one.service.ledger.write(_fill))
        yield one


def _fill(tx: Tx) -> int:
    for n in range(120):
        ignored = n % 10 == 0
        record(
            tx,
            NewDelivery(
                "webhook", f"studio/p{n % 2}", f"1.0.{n}", pusher="Ann%" if n == 7 else "bo"
            ),
            Decision(
                Verdict.IGNORED if ignored else Verdict.REFUSED,
                Reason.NO_RULE if ignored else Reason.BAD_JSON,
                f"sentence {n}",
            ),
        )
    return 120


def api(receiver: ReceiverHere, path: str) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    answer = httpx.get(receiver.url + path, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tags(person: Visitor, query: str) -> list[str]:
    """The tags that a page of deliveries lists, in order."""
    shown = person.read(f"/deliveries?{query}")
    rows = shown.html.split("data-row=")[1:]
    return [row.split('class="tag">')[1].split("<")[0] for row in rows]


def test_the_overview_shows_each_rule_s_newest_push(
    receiver: ReceiverHere, person: Visitor
) -> None:
    assert "none yet" in person.read("/").text
    first = receiver.push("1.0.0")
    receiver.ended(first)
    identity = receiver.push("1.1.0")
    receiver.ended(identity)
    receiver.post(webhook_body("latest"))

    shown = person.read("/")

    assert f"/deliveries/{identity}" in shown.links()
    assert "created my-game/1.1.0" in shown.text
    assert f"/deliveries/{first}" not in shown.links()
    answer = api(receiver, "/api/overview")
    (rule,) = answer["rules"]
    assert rule["newest"]["delivery"] == identity
    assert rule["newest"]["received_at"].endswith("Z")
    assert [one["outcome"] for one in rule["newest"]["registrations"]] == ["created", "updated"]
    assert len(answer["last"]) == 4


def test_the_rules_lead_to_each_repository_s_link_and_show_its_last_use(
    receiver: ReceiverHere, person: Visitor
) -> None:
    shown = person.read("/rules")
    address = f"/rules/link?repository={quote(REPOSITORY, safe='')}"
    assert address in shown.links()
    assert address in person.read("/").links()
    found = person.read(address).elements
    link = next(one["value"] or "" for _, one in found if one.get("id") == "link")

    assert link.startswith("http://hooks.example.com/hooks/dockerhub/")
    assert "/hooks/dockerhub/" not in shown.html + person.read("/").html
    assert "Last push received never" in shown.text
    assert "Catch-up off" in shown.text
    answer = httpx.post(
        link.replace("http://hooks.example.com", receiver.url),
        json=webhook_body("1.0.0"),
        trust_env=False,
    )
    assert answer.status_code == 202
    assert "Last push received never" not in person.read("/rules").text
    assert link not in str(api(receiver, "/api/overview"))
    for other in ("", "?repository=studio/another", "?repository=%00"):
        assert "No rule names the repository." in person.read(f"/rules/link{other}", 404).text


def test_a_rule_shows_what_it_matches_and_what_it_would_do_with_a_tag(
    person: Visitor,
) -> None:
    assert "Tags all tags but latest App my-game Version {tag} Channels staging Keeps 2" in (
        person.read("/rules").text
    )

    shown = person.read("/rules?tag=2.0.0-rc1").text
    assert "studio/game-server:2.0.0-rc1 would be accepted" in shown
    assert "matches: version my-game/2.0.0-rc1, then channel staging." in shown
    shown = person.read("/rules?tag=latest").text
    assert "studio/game-server:latest would be ignored" in shown
    assert "does not match: latest matches only if it is listed." in shown
    assert "this delivery" not in shown  # there is none
    assert person.get("/rules?tag=%00").status_code == 400


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/promote?app=my-game&channel=nightly", 409, "This receiver moves no version nightly"),
        ("/versions/diff?app=my-game&a=1.0.0&b=none", 404, "The app my-game has no version"),
        ("/deliveries?state=none", 400, "State must be one of"),
    ],
)
def test_an_error_is_a_sentence_with_its_commands_as_code(
    person: Visitor, path: str, status: int, sentence: str
) -> None:
    shown = person.read(path, status)

    assert sentence in shown.text
    assert "`" not in shown.text
    assert status == 400 or "<code>receiver " in shown.html


def test_the_overview_shows_what_is_parked_with_what_to_do(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "2.0.0", docker_image="studio/another")
    identity = receiver.push("2.0.0")
    receiver.ended(identity)

    shown = person.read("/")

    assert "Parked 1" in shown.text
    assert "parked name_taken" in shown.text
    assert "Push under a new tag, or delete that version in Edgegap and replay." in shown.text
    assert shown.form("/do/replay", delivery=identity)
    assert api(receiver, "/api/overview")["parked"][0]["reason"] == "name_taken"


def test_the_first_line_of_the_overview_is_the_answer(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    assert "Ready. No push was received yet." in person.read("/").text
    receiver.ended(receiver.push("1.0.0"))
    assert "All is well. The newest version is my-game/1.0.0" in person.read("/").text
    sandbox.add_version(APP, "2.0.0", docker_image="studio/another")
    receiver.ended(receiver.push("2.0.0"))
    shown = person.read("/")
    assert "1 registration is parked. What to do is below; everything else works." in shown.text
    assert "<title>(1) Overview" in shown.html


def test_a_repeated_push_leaves_the_newest_version_in_the_first_line(
    receiver: ReceiverHere, person: Visitor
) -> None:
    """It looked at each rule's newest push only: no version had been created lately."""
    receiver.ended(receiver.push("1.0.0"))
    again = receiver.push("1.0.0")
    assert receiver.ended(again)["outcome"] == "unchanged"

    assert "All is well. The newest version is my-game/1.0.0, created " in person.read("/").text
    newest = api(receiver, "/api/overview")["newest_version"]
    assert (newest["app"], newest["version"]) == (APP, "1.0.0")


@pytest.mark.parametrize("code", Code)
def test_each_problem_of_the_health_check_is_the_first_line(
    receiver: ReceiverHere, person: Visitor, code: Code
) -> None:
    receiver.service.health.note(Condition(code, "What is wrong.", held=3, repository="*"))

    shown = person.read("/")

    held = f"{code.clause}. 3 registrations are held back."
    assert held in shown.text
    assert (f"{held} No push is lost." in shown.text) == (code not in MAY_LOSE)
    assert "What is wrong." in shown.text


def test_the_overview_shows_what_is_degraded(receiver: ReceiverHere, person: Visitor) -> None:
    address = "app.edgegap.com/user-settings?tab=tokens"
    sentence = f"Edgegap refuses the API token (because). Create one at {address}, then wait."
    receiver.inside(
        lambda: receiver.service.ledger.write(lambda tx: close_token_gate(tx, sentence))
    )

    shown = person.read("/")
    assert sentence in shown.text
    assert f"https://{address}" in shown.links()
    assert api(receiver, "/api/overview")["degraded"][0]["code"] == "token"


def test_the_list_pages_through_all_deliveries_and_shows_each_once(many: ReceiverHere) -> None:
    with visitor(many) as person:
        seen, query = [], ""
        while True:
            shown = person.read(f"/deliveries?{query}")
            seen += tags(person, query)
            older = [link for link in shown.links() if "before=" in link]
            if not older:
                break
            query = older[0].partition("?")[2]

    assert len(seen) == 120  # the ignored ones first, as each page has them folded
    assert set(seen) == {f"1.0.{n}" for n in range(120)}
    assert [one for one in seen if not one.endswith("0")] == [
        f"1.0.{n}" for n in range(119, -1, -1) if n % 10
    ]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("repository=studio/p1&verdict=refused", 50),
        ("verdict=ignored", 12),
        ("tag=1.0.77", 1),
        ("text=sentence+119", 1),
        ("text=ann%25", 1),
        ("text=%25%25", 0),
        ("text=NO_RULE&repository=studio/p0", 12),
        ("state=parked", 0),
    ],
)
def test_the_list_is_filtered(many: ReceiverHere, query: str, wanted: int) -> None:
    with visitor(many) as person:
        assert len(tags(person, query)) == min(wanted, deliveries.ROWS)
    assert len(api(many, f"/api/deliveries?{query}")["deliveries"]) >= wanted


def test_empty_filters_are_left_out_of_the_address(many: ReceiverHere) -> None:
    with visitor(many) as person:
        answer = person.get("/deliveries?repository=studio%2Fp1&tag=&text=&state=")

        assert answer.headers["location"] == "/deliveries?repository=studio%2Fp1"
        assert person.get("/deliveries?tag=").headers["location"] == "/deliveries"
        assert len(tags(person, "since=24h")) == 50
        assert len(tags(person, "source=webhook&reason=no_rule")) == 12


def test_the_list_is_filtered_by_the_result_of_pushes(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "2.0.0", docker_image="studio/another")
    for tag in ("1.0.0", "2.0.0"):
        receiver.ended(receiver.push(tag))

    assert tags(person, "state=parked") == ["2.0.0"]
    assert tags(person, "state=done") == ["1.0.0"]
    assert tags(person, "state=working") == []
    assert tags(person, "text=NAME_taken") == ["2.0.0"]


def test_a_rare_text_is_looked_for_a_stretch_at_a_time(
    many: ReceiverHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.ledger.queries.DEPTH", 25)
    with visitor(many) as person:
        query, looks = "text=sentence+3", 0
        found: list[str] = []
        while True:
            looks += 1
            found += tags(person, query)
            further = [
                link for link in person.read(f"/deliveries?{query}").links() if "before=" in link
            ]
            if not further:
                break
            query = further[0].partition("?")[2]

    assert looks == 5
    assert sorted(found) == sorted(f"1.0.{n}" for n in (*range(30, 40), 3))


@pytest.mark.parametrize(
    "query",
    [
        *("state=gone", "verdict=x", "tag=%00", "text=" + "x" * 201),
        *("before=zzz", "after=zzz", "overwritten=yes"),
    ],
)
def test_an_invalid_filter_is_answered_400_with_a_message(many: ReceiverHere, query: str) -> None:
    with visitor(many) as person:
        assert "The request failed." in person.read(f"/deliveries?{query}", 400).text


def unchanged(person: Visitor, path: str) -> bool:
    tag = {"If-None-Match": person.get(path).headers["etag"]}
    return person.get(path, headers=tag).status_code == 304


def test_what_moves_is_sent_again_only_when_it_moved(
    receiver: ReceiverHere, person: Visitor
) -> None:
    receiver.ended(receiver.push("1.0.0"))
    for path in ("/?live=1", "/deliveries?live=1", "/versions?live=1"):
        first = person.get(path)
        assert "data-live" in first.text
        assert "<header" not in first.text
        until(partial(unchanged, person, path))  # Edgegap's list may arrive meanwhile

    tag = {"If-None-Match": person.get("/deliveries?live=1").headers["etag"]}
    receiver.push("1.1.0")
    assert person.get("/deliveries?live=1", headers=tag).status_code == 200


def test_all_tabs_of_a_person_get_what_was_rendered_once(
    receiver: ReceiverHere, person: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.ended(receiver.push("1.0.0"))
    rendered: list[str] = []
    really = rendering._environment.get_template

    def get_template(name: str, *more: Any) -> Template:
        rendered.append(name)
        return really(name, *more)

    monkeypatch.setattr(rendering._environment, "get_template", get_template)
    tabs = [person.get("/deliveries?live=1") for _ in range(5)]

    assert len({tab.text for tab in tabs}) == 1
    assert {tab.headers["content-security-policy"] for tab in tabs} == {
        rendering.HEADERS["Content-Security-Policy"]
    }
    states = {tab.headers["etag"] for tab in tabs}
    assert len(states) <= 2  # the last write may come between two tabs
    assert rendered.count("deliveries.html") == len(states)


def test_a_delivery_s_page_shows_its_rule_and_its_calls(
    receiver: ReceiverHere, person: Visitor
) -> None:
    identity = receiver.push("1.0.0", pusher="ann")
    receiver.ended(identity)

    shown = person.read(f"/deliveries/{identity}")

    for words in (
        "Pushed by ann",
        f"Matched by the rule {REPOSITORY} → {APP}",
        "matches this tag",
        "GET /v1/app/my-game/version/1.0.0 404",
        "POST /v1/app/my-game/version 200",
    ):
        assert words in shown.text
    dashboard = "https://app.edgegap.com/application-management/applications/my-game/versions/1.0.0"
    assert dashboard in shown.links()


def test_an_ignored_push_shows_which_rules_did_not_match(
    receiver: ReceiverHere, person: Visitor
) -> None:
    identity = receiver.post(webhook_body("latest")).json()["delivery"]

    shown = person.read(f"/deliveries/{identity}")

    assert "ignored latest_not_named" in shown.text
    assert "does not match this tag" in shown.text
    assert shown.form("/do/replay", delivery=identity)


@pytest.mark.parametrize("identity", ["d0", "%00", "d" * 300, "%E2%80%AE", "..%2f"])
def test_an_unknown_delivery_is_answered_400_or_404(person: Visitor, identity: str) -> None:
    assert person.get(f"/deliveries/{identity}").status_code in {400, 404}


def test_the_versions_page_lists_edgegap_s_versions_and_their_deliveries(
    receiver: ReceiverHere,
    person: Visitor,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(versions, "PAGE_WAITS_SECONDS", TIMEOUT_SECONDS)
    sandbox.add_version(APP, "0.9.0", private_username="u", private_token="canary-private-token")
    pushes = [receiver.push(f"1.{n}.0") for n in range(4)]
    for identity in pushes:
        receiver.ended(identity)

    shown = person.read("/versions")
    answer = api(receiver, f"/api/versions?app={APP}")

    by_name = {one["version"]: one for one in answer["versions"]}
    assert by_name["1.3.0"]["delivery"] == pushes[3]
    assert by_name["0.9.0"]["delivery"] is None
    assert "studio/game-server:0.9.0 not created here" in shown.text
    assert [one["channel"] for one in answer["channels"]] == ["staging"]
    assert "Channel staging" in person.read("/channels").text
    assert "canary-private-token" not in shown.html + str(answer)


def test_a_channel_changed_by_somebody_else_is_shown_with_its_image_at_edgegap(
    receiver: ReceiverHere,
    person: Visitor,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the ledger is an older one, restored: the page showed what it held as a fact."""
    monkeypatch.setattr(versions, "FRESH_SECONDS", 0.0)
    receiver.ended(receiver.push("1.0.0"))
    until(lambda: (APP, "staging") in sandbox.versions)
    assert "was changed outside this receiver" not in person.read("/channels").text

    sandbox.versions[APP, "staging"]["docker_tag"] = "by-hand"

    until(lambda: f"Edgegap has {REPOSITORY}:by-hand in this" in person.read("/channels").text)
    answer = api(receiver, f"/api/versions?app={APP}")["channels"][0]
    assert (answer["tag"], answer["at_edgegap"]) == ("1.0.0", f"{REPOSITORY}:by-hand")


def test_a_channel_that_a_push_moved_since_edgegap_was_asked_is_no_ones_doing(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    """What Edgegap had is remembered for a while: the page said that another hand was at work."""
    receiver.ended(receiver.push("1.0.0"))
    until(lambda: (APP, "staging") in sandbox.versions)
    person.read("/versions")
    receiver.ended(receiver.push("1.1.0"))
    until(lambda: sandbox.versions[APP, "staging"]["docker_tag"] == "1.1.0")
    until(lambda: "has studio/game-server:1.1.0" in person.read("/channels").text)

    assert "was changed outside this receiver" not in person.read("/channels").text


def test_edgegap_away_leaves_the_versions_page_standing(
    receiver: ReceiverHere,
    person: Visitor,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(versions, "FRESH_SECONDS", 0.0)
    receiver.ended(receiver.push("1.0.0"))
    sandbox.misbehave(
        Fault("status", method="GET", status=503, times=None, message="<b>gone fishing</b>")
    )

    until(lambda: "list of versions is unavailable" in person.read("/versions").text)
    shown = person.read("/versions")

    assert "at Edgegap, as listed" not in shown.text
    assert "HTTP 503: <b>gone fishing</b>" in shown.text
    assert "Channel staging" in person.read("/channels").text


def test_the_versions_page_does_not_wait_for_edgegap(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    receiver.ended(receiver.push("1.0.0"))
    until(lambda: (APP, "staging") in sandbox.versions)
    sandbox.misbehave(Fault("timeout", method="GET", path_contains="/versions", seconds=60))

    shown = person.read("/versions")

    assert "Edgegap has not answered yet" in shown.text
    shown = person.read("/channels")
    assert "has studio/game-server:1.0.0" in shown.text


@pytest.mark.parametrize("path", ["/versions", "/channels"])
def test_a_page_waits_once_for_edgegaps_lists(
    person: Visitor, sandbox: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The page's revision waited, and then the page again."""
    waits: list[float] = []
    really = asyncio.wait

    async def wait(tasks: Any, *, timeout: float, **more: Any) -> Any:  # noqa: ASYNC109 - as asyncio has it
        waits.append(timeout)
        return await really(tasks, timeout=timeout, **more)

    sandbox.misbehave(Fault("timeout", method="GET", path_contains="/versions", seconds=60))
    monkeypatch.setattr("receiver.web.versions.asyncio.wait", wait)

    person.read(path)

    assert waits.count(versions.PAGE_WAITS_SECONDS) == 1


def test_what_edgegap_listed_before_stays_with_its_age(
    receiver: ReceiverHere,
    person: Visitor,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(versions, "FRESH_SECONDS", 0.0)
    receiver.ended(receiver.push("1.0.0"))
    until(lambda: "1 version at Edgegap, as listed" in person.read("/versions").text)
    listed = api(receiver, f"/api/versions?app={APP}")["listed_at"]
    sandbox.misbehave(Fault("status", method="GET", status=503, times=None))

    until(lambda: "list of versions is unavailable" in person.read("/versions").text)

    answer = api(receiver, f"/api/versions?app={APP}")
    assert answer["listed_at"] >= listed
    assert {one["version"] for one in answer["versions"]} == {"1.0.0", "staging"}
    assert answer["problem"]


def test_edgegap_is_asked_once_however_many_look(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    before = len(sandbox.calls)
    for _ in range(5):
        person.read("/versions")
    api(receiver, f"/api/versions?app={APP}")

    assert len(sandbox.calls) == before + 1


@pytest.mark.parametrize("path", ["/api/overview", f"/api/versions?app={APP}"])
def test_the_api_is_401_without_a_token(receiver: ReceiverHere, path: str) -> None:
    assert httpx.get(receiver.url + path, trust_env=False).status_code == 401


def test_the_api_is_404_for_an_app_that_no_rule_names(receiver: ReceiverHere) -> None:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    url = f"{receiver.url}/api/versions?app=another"
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 404
