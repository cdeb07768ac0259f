"""Which push may move a channel: the decision alone."""

from typing import Any

import pytest
from msgspec.structs import replace

from receiver.images import ImageReference
from receiver.rules.channel_order import (
    ByHand,
    Channel,
    ChannelState,
    Evidence,
    Follow,
    Hold,
    Need,
    Pushed,
    Unmet,
    as_shown,
    below_what_is_there,
    higher,
    is_ordered,
    lifted_above,
    unmet,
    why_not,
)
from receiver.rules.tag_patterns import parse_tag_pattern

APP, REPOSITORY = "my-game", "studio/game-server"
NOW = 1_791_000_000_000


def channel(follow: str = "auto", tags: object = None) -> Channel:
    pattern = None if tags is None else parse_tag_pattern(tags)
    return Channel(APP, "staging", Follow(follow), pattern)


def pushed(tag: str, at: int = 50, registration: str = "r5", **more: Any) -> Pushed:
    return Pushed(REPOSITORY, tag, at, registration, **{"reported_at": NOW, **more})


def channel_state(tag: str, at: int = 40, **more: Any) -> ChannelState:
    return ChannelState(REPOSITORY, tag, at, "r4", **more)


def moves(push: Pushed, has: ChannelState, follow: str = "auto", tags: object = None) -> bool:
    return why_not(channel(follow, tags), push, has) is None


@pytest.mark.parametrize(
    ("has", "highest", "tag", "at", "moved"),
    [
        ("2.0.0", "2.0.0", "2.0.1", 50, (True, True, True)),
        ("2.0.0", "2.0.0", "1.0.1", 50, (False, False, True)),  # a hotfix
        ("2.0.0", "2.0.0", "2.1.0", 30, (True, True, False)),  # reported late
        ("2.0.0", "2.0.0", "v2.0", 50, (True, True, True)),  # the same number, pushed later
        ("2.0.0", "2.0.0", "v2.0", 30, (False, False, False)),
        ("2.0.0", "2.0.0", "nightly", 50, (True, False, True)),
        ("2.0.0", "2.0.0", "nightly", 30, (False, False, False)),
        ("nightly", "2.0.0", "1.0.1", 50, (False, False, True)),
        ("nightly", "2.0.0", "2.0.1", 50, (True, True, True)),
        ("nightly", "2.0.0", "2.0.1", 30, (False, True, False)),
        ("nightly", None, "nightly-2", 50, (True, False, True)),
        ("nightly", None, "nightly-2", 30, (False, False, False)),
        ("nightly", None, "0.1", 50, (True, True, True)),
        ("2026.01.09-1530", "2026.01.09-1530", "2026.01.09-0930", 50, (False, False, True)),
        ("2026.01.09-1530", "2026.01.09-1530", "2026.01.10", 50, (True, True, True)),
        ("1.10", "1.10", "1.9", 50, (False, False, True)),
        ("1.0.0", "1.0.0", "1.0.0-rc.1", 50, (False, False, True)),
    ],
)
def test_order(
    has: str, highest: str | None, tag: str, at: int, moved: tuple[bool, bool, bool]
) -> None:
    """Whether it moves a channel that follows by "auto", by "highest", by "newest"."""
    state, push = channel_state(has, highest=highest), pushed(tag, at)

    found = [moves(push, state, follow) for follow in ("auto", "highest", "newest")]

    assert tuple(found) == moved


def test_of_one_moment_the_later_registration_moves_it() -> None:
    has = channel_state("nightly", at=50)

    assert moves(pushed("other", 50, "r5"), has)
    assert not moves(pushed("other", 50, "r3"), has)


@pytest.mark.parametrize("tag", ["1.0", "nightly"])
def test_the_first_push_moves_a_channel_that_has_nothing(tag: str) -> None:
    assert moves(pushed(tag), ChannelState())


def test_what_the_channel_does_not_take_never_moves_it() -> None:
    why = why_not(channel(tags={"semver": "1.x"}), pushed("2.0.0"), ChannelState())

    assert why is not None
    assert "does not take 2.0.0" in why
    assert moves(pushed("1.9.0"), ChannelState(), tags={"semver": "1.x"})


def test_a_report_of_what_the_channel_has_passes_there_is_nothing_to_move() -> None:
    assert moves(pushed("1.0.0", at=1), channel_state("1.0.0", highest="2.0.0"))


HELD = Hold(since=NOW - 1, tag="1.1.0", action="rollback", lifted_above="2.0.0")


@pytest.mark.parametrize("follow", list(Follow))
@pytest.mark.parametrize(
    ("tag", "above", "free"),
    [
        ("1.2.0", "2.0.0", False),
        ("2.0.0", "2.0.0", False),
        ("2.0.1", "2.0.0", True),
        ("nightly", "2.0.0", False),
        ("9.0.0", None, False),
        ("nightly", None, False),
    ],
)
def test_a_hold_is_lifted_by_a_higher_version_number_alone(
    follow: Follow, tag: str, above: str | None, free: bool
) -> None:
    has = channel_state("1.1.0", highest="1.1.0", hold=replace(HELD, lifted_above=above))

    assert moves(pushed(tag), has, follow) is free


def test_what_was_reported_before_the_hold_does_not_lift_it() -> None:
    has = channel_state("1.1.0", hold=HELD, ordered="r6")

    assert not moves(pushed("2.0.1", reported_at=HELD.since), has)
    assert moves(pushed("2.0.1", reported_at=HELD.since + 1), has)


def test_a_held_channel_says_since_when_and_what_lifts_it() -> None:
    why = why_not(channel(), pushed("1.2.0"), channel_state("1.1.0", hold=HELD))

    assert why == (
        "The channel is held at 1.1.0 since 2026-10-03 03:59 UTC (rollback); "
        "`receiver release my-game staging` lifts that, and so does a new push above 2.0.0."
    )


def test_what_a_person_ordered_last_moves_a_held_channel_back() -> None:
    has = channel_state("2.0.0", hold=HELD, ordered="r5", action=ByHand.ROLLBACK)

    assert moves(pushed("1.1.0", registration="r5"), has)
    assert not moves(pushed("1.1.0", registration="r6"), has)


def test_a_restore_counts_while_the_channel_has_the_tag_by_our_doing() -> None:
    has = channel_state("2.0.0", highest="2.0.0", ordered="r5", action=ByHand.RESTORE)

    assert is_ordered(pushed("2.0.0"), has)
    assert not is_ordered(pushed("1.0.0"), has)
    why = why_not(channel("newest"), pushed("1.0.0"), has)
    assert why is not None
    assert "moved to 2.0.0 meanwhile" in why


@pytest.mark.parametrize(
    ("has", "to", "above"),
    [
        (channel_state("2.0.0", highest="2.0.0"), "1.1.0", "2.0.0"),
        (channel_state("1.0.0", highest="1.0.0"), "3.0.0", "3.0.0"),  # promoted
        (channel_state("1.0.0", highest="2.0.0"), "1.0.0", "2.0.0"),
        (channel_state("nightly", highest="2.0.0"), "2.0.0", None),
        (channel_state("1.2.0", highest="1.2.0", hold=HELD), "1.1.0", "2.0.0"),  # rolled back twice
        (channel_state("1.2.0", hold=replace(HELD, lifted_above=None)), "1.1.0", None),
        (ChannelState(), "1.0.0", "1.0.0"),
    ],
)
def test_the_version_that_lifts_a_hold_is_the_highest_it_was_moved_away_from(
    has: ChannelState, to: str, above: str | None
) -> None:
    assert lifted_above(has, to) == above


def test_a_tag_that_another_hand_put_there_is_not_replaced_by_a_lower_one() -> None:
    assert below_what_is_there(channel(), "1.0.1", "2.0.0") is not None
    assert below_what_is_there(channel(), "2.0.1", "2.0.0") is None
    assert below_what_is_there(channel(), "1.0.1", "nightly") is None
    assert below_what_is_there(channel("newest"), "1.0.1", "2.0.0") is None


def test_the_higher_of_two() -> None:
    assert higher("1.9", "1.10") == higher("1.10", "1.9") == "1.10"
    assert higher(None, "1.0") == higher("1.0", "nightly") == "1.0"
    assert higher(None, "nightly") is None


ASKED = Pushed(REPOSITORY, "2.0.0", 20, "r6", 20)


@pytest.mark.parametrize(
    ("tag", "more", "has"),
    [
        ("1.0.0", {}, "2.0.0"),
        ("3.0.0", {}, "3.0.0"),
        ("1.0.0", {"hold": Hold(15, "1.0.0", "rollback", "2.0.0")}, "1.0.0"),
        ("1.0.0", {"hold": Hold(15, "1.0.0", "rollback", "1.1.0")}, "2.0.0"),
        ("1.0.0", {"hold": Hold(25, "1.0.0", "rollback", "1.1.0")}, "1.0.0"),
        ("3.0.0", {"ordered": "r6", "action": "rollback"}, "2.0.0"),
    ],
)
def test_what_a_request_asked_for_is_what_it_has_unless_another_overtook_it(
    tag: str, more: dict[str, Any], has: str
) -> None:
    has_now = channel_state(tag, 10, highest=tag, asked=(ASKED,), **more)

    shown = as_shown(channel(), has_now, REPOSITORY, "2.0.0")

    assert shown.tag == has
    assert shown.highest == has
    assert as_shown(channel(), has_now, REPOSITORY, "1.5.0") is has_now


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
