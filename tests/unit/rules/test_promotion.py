"""What a channel's move waits for."""

import pytest

from receiver.images import ImageReference
from receiver.rules.channel_order import Channel, Need
from receiver.rules.promotion import Evidence, Unmet, unmet

GAME = ImageReference("studio/game", "1.2")
OLDER = ImageReference("studio/game", "1.1")
BOTH = frozenset(Need)


def prod(*needs: Need, source: str | None = None) -> Channel:
    return Channel("my-game", "prod", source=source, needs=frozenset(needs))


def why(channel: Channel, evidence: Evidence, *, ordered: bool = False) -> Unmet:
    found = unmet(channel, GAME, evidence, ordered=ordered)
    assert found is not None
    return found


def test_a_channel_without_needs_waits_for_nothing() -> None:
    assert unmet(prod(), GAME, Evidence(), ordered=False) is None


@pytest.mark.parametrize("there", [None, OLDER])
def test_it_takes_only_what_its_source_has(there: ImageReference | None) -> None:
    channels = {} if there is None else {"staging": there}

    found = why(prod(source="staging"), Evidence(channels=channels))

    assert found.need is None
    assert ("nothing" if there is None else "1.1") in found.sentence
    has = Evidence(channels={"staging": GAME})
    assert unmet(prod(source="staging"), GAME, has, ordered=False) is None


def test_a_person_may_take_an_image_from_elsewhere() -> None:
    assert unmet(prod(source="staging"), GAME, Evidence(), ordered=True) is None


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("passed", "need"), [(None, Need.TRIAL), (False, None)])
def test_a_trial_is_needed_for_every_kind_of_move(
    passed: bool | None, need: Need | None, ordered: bool
) -> None:
    found = why(prod(*BOTH), Evidence(passed=passed, approved=True), ordered=ordered)

    assert found.need is need
    assert "receiver trial my-game" in found.sentence


def test_an_approval_comes_last_and_an_order_is_one() -> None:
    found = why(prod(*BOTH), Evidence(passed=True))

    assert found.need is Need.APPROVAL
    assert "receiver promote my-game prod --to 1.2" in found.sentence
    assert unmet(prod(*BOTH), GAME, Evidence(passed=True), ordered=True) is None
    assert unmet(prod(*BOTH), GAME, Evidence(passed=True, approved=True), ordered=False) is None
