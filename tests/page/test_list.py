"""The list of deliveries: what is folded, one line for each push, its pages and its counts."""

import re

import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.web.page import deliveries
from tests.support.receiver_here import ReceiverHere
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, webhook_body
from tests.support.visitor import Reading, Visitor

CONFIG = (
    RULE.replace("preflight = false", 'preflight = false\nchannels = ["nightly", "staging"]')
    + NO_CATCH_UP
)


def folded(shown: Reading) -> int:
    """Return how many rows are folded."""
    _, _, rest = shown.html.partition('class="fold"')
    return rest.partition("</details>")[0].count("data-row=")


def test_ignored_pushes_are_folded_also_if_each_is_alone(
    receiver: ReceiverHere, person: Visitor
) -> None:
    """Only runs of them were: the parts of each multi-platform push stood between the pushes."""
    for tag in ("1.0.0", "1.1.0"):
        receiver.ended(receiver.push(tag))
        receiver.post(webhook_body(None))
    receiver.post(webhook_body("latest"))

    shown = person.read("/deliveries")

    assert "3 ignored pushes: 2 no_tag, 1 latest_not_named" in shown.text
    assert folded(shown) == 3
    assert shown.html.count("data-row=") == 5
    for query in ("verdict=ignored", "reason=no_tag", "text=latest"):
        found = person.read(f"/deliveries?{query}")
        assert folded(found) == 0
        assert found.html.count("data-row=") == {"reason=no_tag": 2, "text=latest": 1}.get(query, 3)


def test_one_ignored_push_is_not_folded_if_its_day_has_no_other(
    receiver: ReceiverHere, person: Visitor
) -> None:
    receiver.post(webhook_body("latest"))
    shown = person.read("/deliveries")
    assert (folded(shown), shown.html.count("data-row=")) == (0, 1)

    receiver.ended(receiver.push("1.0.0"))

    shown = person.read("/deliveries")
    assert "1 ignored push: latest_not_named" in shown.text
    assert (folded(shown), shown.html.count("data-row=")) == (1, 2)


def test_a_push_names_one_channel_and_counts_the_others(
    receiver: ReceiverHere, person: Visitor
) -> None:
    identity = receiver.push("1.0.0")
    receiver.ended(identity)

    shown = person.read("/deliveries")

    assert "my-game/1.0.0 nightly created +1 staging created" in shown.text
    whole = next(one["title"] for _, one in shown.elements if one.get("class") == "whole")
    assert whole == ("studio/game-server:1.0.0 → my-game/1.0.0, nightly created, staging created")


def rows(shown: Reading) -> list[str]:
    """Return the tags that are listed."""
    return re.findall(r'data-row=.*?class="tag">([^<]*)<', shown.html, re.DOTALL)


def link(shown: Reading, name: str) -> str:
    """Return the address of the button with this name, empty without one."""
    found = re.search(rf'<a class="button" href="([^"]*)">{name}</a>', shown.html)
    return "" if found is None else found[1].replace("&amp;", "&")


def test_newer_leads_back_page_by_page(
    receiver: ReceiverHere, person: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no way back but to the newest page."""
    monkeypatch.setattr(deliveries, "ROWS", 2)
    for number in range(7):
        receiver.push(f"1.{number}.0")
    path = "/deliveries?verdict=accepted"
    pages = [person.read(path)]
    while older := link(pages[-1], "Older"):
        pages.append(person.read(older))
    assert [len(rows(page)) for page in pages] == [2, 2, 2, 1]
    assert link(pages[0], "Newer") == ""

    back = [pages[-1]]
    while (answer := person.get(link(back[-1], "Newer"))).status_code == 200:
        back.append(Reading(answer.text))

    assert answer.headers["location"] == path
    assert [rows(page) for page in back] == [rows(page) for page in pages[:0:-1]]
    assert [rows(person.read(link(page, "Older"))) for page in back[1:]] == [
        rows(page) for page in pages[:1:-1]
    ]
    assert "live" not in {one.get("class") for _, one in back[1].elements}


def counts(shown: Reading) -> str:
    """Return the statuses with their counts."""
    return shown.text.partition("More filters")[2].partition("any time")[0].partition("all ")[2]


def test_each_status_has_its_count_among_what_is_filtered(
    receiver: ReceiverHere, person: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only open registrations were counted, whatever the other filters were."""
    for tag in ("1.0.0", "1.1.0"):
        receiver.ended(receiver.push(tag))
    for _ in range(3):
        receiver.post(webhook_body("latest"))
    overwritten = "UPDATE registrations SET overwritten = true WHERE version <> '1.0.0'"
    receiver.inside(lambda: receiver.service.ledger.write(lambda tx: tx.run(overwritten).rowcount))

    shown = person.read("/deliveries")

    assert counts(shown).strip() == (
        "5 parked 0 waiting 0 queued 0 done 2 ignored 3 refused 0 overwritten 2"
    )
    one_tag = person.read(f"/deliveries?repository={REPOSITORY}&tag=1.1.0&state=done")
    assert counts(one_tag).strip() == (
        "1 parked 0 waiting 0 queued 0 done 1 ignored 0 refused 0 overwritten 1"
    )
    assert "done refused" in person.read("/deliveries?text=latest").text.replace("ignored ", "")
    monkeypatch.setattr(deliveries, "MAX_COUNTED", 2)
    assert "all 2+ parked 0" in person.read("/deliveries?since=24h").text


def test_overwritten_tags_are_counted_in_the_first_line_and_listed(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    """They were only if all was well, and could not be listed."""
    for tag in ("1.0.0", "1.1.0"):
        receiver.ended(receiver.push(tag))
    overwritten = "UPDATE registrations SET overwritten = true WHERE tag = '1.0.0'"
    receiver.inside(lambda: receiver.service.ledger.write(lambda tx: tx.run(overwritten).rowcount))
    counted = "1 tag was overwritten in the last 24 hours."
    assert counted in person.read("/").text

    sandbox.add_version(APP, "2.0.0", docker_image="studio/another")
    receiver.ended(receiver.push("2.0.0"))

    shown = person.read("/")
    assert f"1 registration is parked. What to do is below; everything else works. {counted}" in (
        shown.text
    )
    (path,) = (one for one in shown.links() if "overwritten" in one)
    assert rows(person.read(path)) == ["1.0.0"]
