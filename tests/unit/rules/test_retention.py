"""Which versions may be deleted: a pure decision, tried on whatever a ledger may contain."""

import dataclasses
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.rules.retention import Retention, Target, channel_names, prunable, why_kept
from receiver.rules.rule import Mode, Rule
from receiver.rules.tag_patterns import Globs

TAGS = st.sampled_from([f"{a}.{b}" for a in range(4) for b in range(4)] + ["staging", "prod"])
VERSIONS = st.builds(
    Target,
    version=TAGS,
    mode=st.sampled_from([mode.value for mode in Mode]),
    repository=st.sampled_from(["studio/game", "studio/tools"]),
    tag=TAGS,
    created_here=st.booleans(),
    made_at=st.none() | st.integers(1, 50),
    push_time=st.integers(1, 50).map(lambda second: second * 1000),
    deleted_at=st.sampled_from([None, 1]),
    by_hand=st.booleans(),
)
LEDGERS = st.lists(VERSIONS, max_size=20, unique_by=lambda one: one.version)
RULES = st.lists(
    st.builds(
        Rule,
        repository=st.sampled_from(["studio/game", "studio/tools"]),
        app=st.just("my-game"),
        name=st.uuids().map(str),
        tags=st.builds(Globs, positive=st.sampled_from([(), ("1.*",), ("2.*",)])),
        channels=st.sampled_from([(), ("staging",), ("prod", "staging")]),
        pin=st.sampled_from([(), ("1.*",), ("2.0", "3.?")]),
        keep=st.none() | st.integers(1, 4),
    ),
    max_size=3,
    unique_by=lambda rule: rule.name,
)


def made(tag: str, at: int, *, repository: str = "studio/game", made_at: int = 1) -> Target:
    return Target(
        tag, "create", repository, tag, created_here=True, made_at=made_at, push_time=at * 1000
    )


def going(ledger: Iterable[Target], rules: Sequence[Rule], keep: int | None = None) -> list[Target]:
    return [one.target for one in prunable(ledger, rules, keep)]


def rule(name: str, *globs: str, keep: int | None) -> Rule:
    return Rule("studio/game", "my-game", name, tags=Globs(positive=globs), keep=keep)


@given(LEDGERS, RULES, st.none() | st.integers(1, 6), st.data())
def test_what_goes_by_a_part_of_the_versions_goes_by_all_of_them(
    ledger: list[Target], rules: list[Rule], keep: int | None, data: st.DataObject
) -> None:
    """So a page may plan with the oldest and the newest versions alone, and with all channels."""
    moving = [
        one for one in ledger if one.mode != Mode.CREATE or one.version in channel_names(rules)
    ]
    part = [one for one in ledger if one in moving or data.draw(st.booleans())]

    assert set(going(part, rules, keep)) <= set(going(ledger, rules, keep))


@given(LEDGERS, RULES, st.none() | st.integers(1, 6))
def test_what_goes_was_made_here_by_a_push_and_is_there_still(
    ledger: list[Target], rules: list[Rule], keep: int | None
) -> None:
    for one in going(ledger, rules, keep):
        assert one in ledger
        assert one.created_here
        assert one.made_at is not None
        assert one.mode == "create"
        assert not one.deleted_at is not None
        assert not one.by_hand


@given(LEDGERS, RULES, st.none() | st.integers(1, 6))
def test_no_channel_nothing_a_channel_holds_and_nothing_pinned_goes(
    ledger: list[Target], rules: list[Rule], keep: int | None
) -> None:
    channels = {channel for rule in rules for channel in rule.channels}
    held = {
        (one.repository, one.tag)
        for one in ledger
        if one.deleted_at is None and (one.mode != "create" or one.version in channels)
    }
    pins = [pin for rule in rules for pin in rule.pin]
    for one in going(ledger, rules, keep):
        assert one.version not in channels
        assert (one.repository, one.tag) not in held
        assert not any(fnmatchcase(one.version, pin) for pin in pins)


@given(LEDGERS, RULES, st.integers(1, 6))
def test_as_many_as_are_kept_were_pushed_no_earlier(
    ledger: list[Target], rules: list[Rule], keep: int
) -> None:
    gone = going(ledger, rules, keep)
    own = [
        one
        for one in ledger
        if one.created_here
        and one.made_at
        and one.mode == "create"
        and not one.deleted_at is not None
        and not one.by_hand
    ]
    for one in gone:
        later = [other for other in own if other not in gone and other.push_time >= one.push_time]
        assert len(later) >= keep


@given(LEDGERS, RULES)
def test_without_a_number_only_what_a_rule_that_keeps_makes_goes(
    ledger: list[Target], rules: list[Rule]
) -> None:
    for one in going(ledger, rules):
        own = [r for r in rules if r.repository == one.repository and r.tags.takes(one.tag)]
        assert own[0].keep is not None
        assert one.version == one.tag


@given(LEDGERS, RULES, st.none() | st.integers(1, 6))
def test_the_oldest_push_goes_first(
    ledger: list[Target], rules: list[Rule], keep: int | None
) -> None:
    gone = [one.push_time for one in going(ledger, rules, keep)]

    assert gone == sorted(gone)


def test_without_pins_and_channels_all_beyond_the_newest_go() -> None:
    ledger = [made(str(at), at) for at in (3, 1, 4, 2)]

    assert [one.tag for one in going(ledger, [], 2)] == ["1", "2"]


def test_an_older_tag_made_later_does_not_drive_out_the_newest_push() -> None:
    ledger = [made("2.0", 20, made_at=1), made("1.9", 19, made_at=2), made("1.0", 10, made_at=3)]

    assert [one.tag for one in going(ledger, [], 2)] == ["1.0"]


def test_each_rule_counts_its_own() -> None:
    rules = [rule("dev", "dev-*", keep=1), rule("release", "v*", keep=None)]
    ledger = [made(tag, at) for at, tag in enumerate(["v1", "dev-1", "v2", "dev-2", "v3"])]

    assert [one.tag for one in going(ledger, rules)] == ["dev-1"]


def test_of_pushes_in_one_second_the_one_recorded_last_is_the_newest() -> None:
    """Docker Hub gives whole seconds; a tag that was pushed again was created before the others."""
    ledger = [
        replace(made("1", 5, made_at=1), registration="r3"),
        replace(made("2", 5, made_at=2), registration="r1"),
        replace(made("3", 5, made_at=3), registration="r2"),
    ]

    assert [one.tag for one in going(ledger, [], 1)] == ["2", "3"]


def test_one_pushed_by_hand_neither_counts_nor_goes() -> None:
    by_hand = replace(made("0.9", 40), by_hand=True)
    ledger = [made("1", 10), made("2", 20), made("3", 30), by_hand]

    assert [one.tag for one in going(ledger, [], 2)] == ["1"]
    assert [one.tag for one in going([*ledger, made("4", 50)], [], 2)] == ["1", "2"]


def test_it_says_which_keep_it_is_beyond() -> None:
    rules = [rule("dev", "dev-*", keep=1), rule("release", "v*", keep=2)]
    ledger = [made(tag, at) for at, tag in enumerate(["v1", "dev-1", "v2", "dev-2", "v3"])]

    assert [(one.target.tag, one.why) for one in prunable(ledger, rules)] == [
        ("v1", "beyond keep = 2"),
        ("dev-1", "beyond keep = 1"),
    ]


def test_the_one_reported_last_stays_however_old_its_push_is() -> None:
    """A push deleted its own version as soon as it was created: its time was too early."""
    ledger = [
        replace(made(tag, at), registration=f"r{place}")
        for place, (tag, at) in enumerate((("1", 20), ("2", 30), ("3", 10)))
    ]

    assert going(ledger, [], 2) == []
    ledger.append(replace(made("4", 40), registration="r3"))
    assert [one.tag for one in going(ledger, [], 2)] == ["3", "1"]


def test_what_any_rule_copies_from_by_name_stays() -> None:
    """Later pushes parked: the version that their settings are copied from was deleted."""
    other = dataclasses.replace(rule("other", "v*", keep=None), copy_from="1")
    ledger = [made(str(at), at) for at in range(1, 5)]

    assert [one.tag for one in going(ledger, [other], 2)] == ["2"]


@given(LEDGERS, RULES)
def test_what_is_beyond_keep_is_what_would_be_deleted(
    ledger: list[Target], rules: list[Rule]
) -> None:
    found = why_kept(ledger, rules)

    beyond = {version for version, why in found.items() if why is Retention.BEYOND_KEEP}
    assert beyond == {one.version for one in going(ledger, rules)}


def test_each_version_has_the_reason_why_it_is_kept() -> None:
    rules = [
        dataclasses.replace(
            rule("release", "v*", keep=1), pin=("v1",), copy_from="v2", channels=("prod",)
        ),
        rule("dev", "dev-*", keep=None),
    ]
    ledger = [
        *(made(f"v{number}", number) for number in range(1, 6)),
        made("dev-1", 7),
        replace(made("prod", 8), mode="channel", tag="v3"),
        replace(made("v9", 9), by_hand=True),
    ]

    assert why_kept(ledger, rules) == {
        "v1": Retention.PINNED,
        "v2": Retention.NAMED,
        "v3": Retention.CHANNEL,
        "v4": Retention.BEYOND_KEEP,
        "v5": Retention.NEWEST,
        "dev-1": Retention.NO_KEEP,
    }


def test_the_one_reported_last_is_kept_for_that_reason() -> None:
    ledger = [
        replace(made(tag, at), registration=f"r{place}")
        for place, (tag, at) in enumerate((("1", 20), ("2", 30), ("0", 10)))
    ]

    assert why_kept(ledger, [rule("all", "*", keep=1)])["0"] is Retention.REPORTED_LAST
