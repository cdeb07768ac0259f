"""Which push may move a channel, and the order of tags that are version numbers."""

from datetime import date
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.images import ImageReference
from receiver.rules.channel_order import (
    Channel,
    ChannelState,
    Evidence,
    Follow,
    Hold,
    ManualAction,
    Need,
    Pushed,
    Unmet,
    below_what_is_there,
    higher,
    is_ordered,
    lifted_above,
    unmet,
    version_number,
    why_not,
    with_image_at_edgegap,
)
from receiver.rules.tag_patterns import parse_tag_pattern

# Lowest first; the prereleases are semver.org's own example, section 11.
ORDERED = (
    "0.9", "v1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "v1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0-rc.2-9-g3f9c2e1", "1.0.0-rc9", "1.0.0-rc10",
    "1.0", "1.0.1", "1.2", "v1.10", "1.10.0.1", "V2.0.0",
    "2026.01.09", "2026.01.09-2", "2026.01.09-0930", "2026.01.09-1530-rc.1", "2026.01.09-1530",
    "2026.1.10-rc.1", "2026.01.10", "20260111", "20260111-2", "202601110930", "2026-01-11T1530",
    "2026-01-12-rc1", "2026-1-12", "20260112.1", "20260112.10", "2026_01_13", "2026-01-14-0930",
    "20260114-1530", "2026.10.09", "2026-11-20", "v20261121", "2027.01",
)  # fmt: skip
NO_NUMBERS = (
    "latest", "nightly", "v2", "17", "3f9c2e1", "sha-1.2.3", "1.2.3.4.5", "1.", "1..2", "v-1.0",
    "1.2-", "1.2-a..b", "release-1.2", "1.x", "2026", "202601", "2026-13-01", "20261301",
    "2026-01_09", "2026-1", "12345678", "20260109T9", "202601091",
    "1.2.x", "1.2.3a", "2026.01.09b", "1.2.3dirty", "1.2.3arm64", "1.2.3previous",
    "1.2.3.b2f9e10", "1.2.3c0ffee",
)  # fmt: skip
UNHYPHENATED = (
    "1.2rc1", "1.2.0a1", "1.2.0b12", "1.2.0.dev3", "1.2.0.M1", "1.2.0.RC1", "v1.2.0beta",
    "1.2.0.0-rc1", "1.2.0SNAPSHOT", "1.2.0rc1-3-g3f9c2e1", "1.2.0rc.1", "1.2.0pre",
)  # fmt: skip
APP, REPOSITORY = "my-game", "studio/game-server"
NOW = 1_791_000_000_000


@pytest.mark.parametrize(("lower", "higher"), list(pairwise(ORDERED)))
def test_version_numbers_are_ordered(lower: str, higher: str) -> None:
    first, second = version_number(lower), version_number(higher)

    assert first is not None
    assert second is not None
    assert first < second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.2", "v1.2.0"),
        ("1.2.3_build.7", "1.2.3"),
        ("2026.01.09", "2026.1.9"),
        ("01.2", "1.02"),
        ("2026-01-09", "20260109"),
        ("2026-1-9", "2026.01.09"),
        ("20260109-0930", "202601090930"),
        ("1.2.4-9-gabc", "1.2.4-9-gdef"),
        ("1.2.4-3f9c2e1", "1.2.4-0123abc"),
        ("1.2.4rc1", "1.2.4-rc1"),
        ("1.2.4.RC1", "1.2.4-RC1"),
    ],
)
def test_one_version_may_be_written_in_several_ways(one: str, other: str) -> None:
    assert version_number(one) == version_number(other)


@pytest.mark.parametrize("tag", UNHYPHENATED)
def test_a_prerelease_comes_before_its_release_with_or_without_a_hyphen(tag: str) -> None:
    """Without one it was no version number, and moved a channel back by the time of its push."""
    older, found, release = map(version_number, ("1.1.9", tag, "1.2.0"))

    assert older is not None
    assert found is not None
    assert release is not None
    assert older < found < release


@pytest.mark.parametrize("tag", NO_NUMBERS)
def test_any_other_tag_is_no_version_number(tag: str) -> None:
    assert version_number(tag) is None


PARTS = st.lists(st.integers(0, 3000), min_size=2, max_size=4)


@given(PARTS, PARTS)
def test_numbers_are_ordered_as_numbers(one: list[int], other: list[int]) -> None:
    first, second = (version_number(".".join(map(str, parts))) for parts in (one, other))
    padded = [[*parts, 0, 0][:4] for parts in (one, other)]

    assert first is not None
    assert second is not None
    assert (first < second) is (padded[0] < padded[1])


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True))
def test_any_tag_is_ordered_or_not_without_an_error(tag: str) -> None:
    found = version_number(tag)

    assert found is None or len(found.parts) == 4


TEXT = st.text("0123456789abgrcT", min_size=1, max_size=4)
PRERELEASES = st.lists(TEXT, max_size=2).map(".".join)
DATES = st.dates(min_value=date(2025, 12, 30), max_value=date(2026, 1, 3))
TAGS = st.one_of(
    st.builds(
        lambda parts, rest: ".".join(map(str, parts)) + (f"-{rest}" if rest else ""),
        st.lists(st.integers(0, 11), min_size=2, max_size=4),
        PRERELEASES,
    ),
    st.builds(
        lambda day, form, rest: day.strftime(form) + (f"-{rest}" if rest else ""),
        DATES,
        st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y.%m.%d", "%Y_%m_%d", "%Y%m%d0930"]),
        PRERELEASES,
    ),
)


@given(TAGS, TAGS, TAGS)
def test_any_version_numbers_have_one_order(one: str, other: str, third: str) -> None:
    first, second, last = map(version_number, (one, other, third))
    assert first is not None
    assert second is not None
    assert last is not None

    assert [first < second, first == second, first > second].count(True) == 1
    assert (first < second) is (second > first)
    low, middle, high = sorted([first, second, last])
    assert low <= middle <= high
    assert low <= high


@given(DATES, DATES, st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y.%m.%d", "%Y_%m_%d"]))
def test_dates_are_ordered_by_time(one: date, other: date, form: str) -> None:
    first, second = version_number(one.strftime(form)), version_number(other.strftime("%Y%m%d"))

    assert first is not None
    assert second is not None
    assert ((first < second), (first == second)) == ((one < other), (one == other))


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from(["rc{}", "{}-gabc", "b{}.1"]))
def test_numbers_in_an_identifier_are_ordered_as_numbers(one: int, other: int, form: str) -> None:
    first, second = (version_number(f"1.0.0-{form.format(one)}") for one in (one, other))

    assert first is not None
    assert second is not None
    assert (first < second) is (one < other)


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
    has = channel_state("2.0.0", hold=HELD, ordered="r5", action=ManualAction.ROLLBACK)

    assert moves(pushed("1.1.0", registration="r5"), has)
    assert not moves(pushed("1.1.0", registration="r6"), has)


def test_a_restore_counts_while_the_channel_has_the_tag_by_our_doing() -> None:
    has = channel_state("2.0.0", highest="2.0.0", ordered="r5", action=ManualAction.RESTORE)

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

    shown = with_image_at_edgegap(channel(), has_now, REPOSITORY, "2.0.0")

    assert shown.tag == has
    assert shown.highest == has
    assert with_image_at_edgegap(channel(), has_now, REPOSITORY, "1.5.0") is has_now


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
