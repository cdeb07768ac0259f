"""A delivery and its registrations have the same status on each page."""

from pathlib import Path

import pytest

from receiver.ledger.transaction import Tx
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.receiver_here import receiver_here
from tests.support.receiver_process import APP, RULE, until
from tests.support.visitor import PAGE, visitor

OFF = '\n[catch_up]\nevery = "off"\n'


def _overwrite(tx: Tx) -> int:
    return tx.run("UPDATE registrations SET overwritten = TRUE").rowcount


@pytest.mark.parametrize("path", ["/", "/deliveries", "/deliveries/{}"])
def test_an_overwritten_tag_is_nowhere_a_success(edgegap: str, tmp_path: Path, path: str) -> None:
    """The badges of the delivery's page were green, in an amber card."""
    with receiver_here(tmp_path, edgegap, config=RULE + OFF, environment=PAGE) as here:
        identity = here.push("1.0.0")
        here.ended(identity)
        here.inside(lambda: here.service.ledger.write(_overwrite))
        with visitor(here) as person:
            shown = person.read(path.format(identity))

    statuses = [
        one["class"]
        for tag, one in shown.elements
        if (tag == "li" or "badge" in (one.get("class") or "")) and one.get("class")
    ]
    assert "tag overwritten" in shown.text
    if path.endswith("{}"):
        assert statuses.count("badge wait") == 3
        assert "badge good" not in statuses


@pytest.mark.parametrize("path", ["/", "/deliveries/{}"])
def test_what_is_held_back_does_not_look_as_if_it_moves(
    edgegap: str, tmp_path: Path, path: str
) -> None:
    """It was blue and pulsed, as what is worked on, while a pause or a refused token held it."""
    with (
        receiver_here(tmp_path, edgegap, config=RULE + OFF, environment=PAGE) as here,
        visitor(here) as person,
    ):
        person.do("pause", repository="*", back="/")
        identity = here.push("1.0.0")
        until(lambda: here.details(identity)["registrations"][0]["state"] == "queued")
        shown = person.read(path.format(identity))
        row = person.read("/deliveries").html

    assert "queued my-game/1.0.0 held back" in shown.text
    assert '<li class="wait"' in shown.html
    assert "badge busy" not in shown.html
    assert '<span class="state wait"' in row


def test_the_first_line_also_counts_what_is_parked_while_something_else_is_wrong(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    """During a pause it was red, and did not say why."""
    sandbox.add_version(APP, "1.0.0", docker_image="studio/another")
    with (
        receiver_here(tmp_path, edgegap, config=RULE + OFF, environment=PAGE) as here,
        visitor(here) as person,
    ):
        here.ended(here.push("1.0.0"))
        person.do("pause", repository="*", back="/")
        shown = person.read("/").text

    assert "Registrations are paused. 1 is parked. No push is lost." in shown


def test_a_channel_says_what_moves_it(edgegap: str, tmp_path: Path) -> None:
    """One that only gets what another channel has "follows pushes", it said."""
    prod = f'\n[[channel]]\napp = "{APP}"\nname = "prod"\nfrom = "staging"\nneeds = ["approval"]\n'
    config = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]') + prod
    with (
        receiver_here(tmp_path, edgegap, config=config + OFF, environment=PAGE) as here,
        visitor(here) as person,
    ):
        delivery = here.push("1.0.0")
        until(lambda: "needs_approval" in str(here.details(delivery)))
        person.do("promote", app=APP, channel="prod", **{"from": "staging"})
        until(
            lambda: all(one["state"] == "done" for one in here.details(delivery)["registrations"])
        )
        until(lambda: "Held at 1.0.0" in person.read("/channels").text)
        held = person.read("/channels").form("/do/release", channel="prod")
        person.confirm("/do/release", held)
        shown = person.read("/channels").text

    assert "Channel stagingfollows pushes" in shown
    assert "Channel prodfollows staging, after approval" in shown
