"""The list of deliveries: what is folded, and one line for each push."""

from tests.support.receiver_here import ReceiverHere
from tests.support.receiver_process import RULE, webhook_body
from tests.support.visitor import Reading, Visitor

CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["nightly", "staging"]')


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
