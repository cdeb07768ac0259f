"""The [[channel]] tables: which rules move which channel, and how."""

from typing import Any

import pytest

from receiver.config.model import ChannelTable
from receiver.config.tables import keys_of
from receiver.errors import ConfigIssue
from receiver.rules.channel_order import Channel, Follow, Need
from receiver.rules.rule import Rule
from receiver.rules.tag_patterns import parse_tag_pattern
from tests.support.tables import read_rules


def rule(**more: Any) -> dict[str, Any]:
    return {"repository": "studio/game", "app": "my-game", **more}


def table(**more: Any) -> dict[str, Any]:
    return {"app": "my-game", "name": "staging", **more}


def read(rules: Any, *channels: Any) -> tuple[tuple[Rule, ...], list[ConfigIssue]]:
    return read_rules(rules, {}, None, list(channels))


def test_every_key_is_read() -> None:
    whole = table(follow="newest", tags={"semver": "1.x"}, restore=True)
    whole |= {"from": "dev", "needs": ["trial", "approval"]}

    (found,), faults = read([rule(channels=["dev", "staging"], trial={"at": "1,2"})], whole)

    assert set(whole) == set(keys_of(ChannelTable))
    assert faults == []
    assert found.channels == ("dev", "staging")
    assert found.channel("staging") == Channel(
        "my-game",
        "staging",
        Follow.NEWEST,
        parse_tag_pattern({"semver": "1.x"}),
        restore=True,
        source="dev",
        needs=frozenset(Need),
    )


def test_a_rule_alone_names_a_channel_with_defaults() -> None:
    (found,), _ = read([rule(channels=["staging"])])

    assert found.channel("staging") == Channel("my-game", "staging", Follow.AUTO, None)
    assert found.channel("staging").takes("latest")


def test_a_channel_is_moved_by_the_rules_that_list_it_else_by_all_of_its_app() -> None:
    rules = [
        rule(name="a", channels=["staging"]),
        rule(name="b", repository="studio/other"),
        rule(name="c", app="lobby"),
    ]

    found, faults = read(rules, table(), table(name="dev"), table(app="lobby"))

    assert faults == []
    assert [one.channels for one in found] == [("staging", "dev"), ("dev",), ("staging",)]


def test_a_rule_without_versions_may_be_given_its_channel_by_a_table() -> None:
    (found,), faults = read([rule(versions=False)], table())

    assert faults == []
    assert found.channels == ("staging",)


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"app": None}, "channel 1 (staging), app", "it is missing"),
        ({"app": "lobby"}, "channel 1 (staging), app", 'Write app = "my-game"'),
        ({"name": "two words"}, "channel 1 (two words), name", "'two words'"),
        ({"name": "x" * 65}, f"channel 1 ({'x' * 65}), name", "1 to 64"),
        ({"name": 7}, "channel 1, name", "7"),
        ({"follow": "latest"}, "channel 1 (staging), follow", '"auto" or "highest" or "newest"'),
        ({"tags": {"semver": "one"}}, "channel 1 (staging), tags", "'one' is not a bound"),
        ({"restore": "yes"}, "channel 1 (staging), restore", "restore = true"),
        ({"source": "dev"}, "channel 1 (staging), source", "tags, restore, from, needs"),
        ({"from": "dev"}, "channel staging, from", "no rule moves the channel 'dev'"),
        ({"from": "staging"}, "channel staging, from", "Write from = another channel of the app"),
        ({"needs": ["luck"]}, "channel 1 (staging), needs", 'Write needs = ["approval"]'),
        ({"needs": ["trial"]}, "channel staging, needs", "has no [rule.trial]"),
    ],
)
def test_a_fault_names_the_channel_and_the_key(
    more: dict[str, Any], place: str, words: str
) -> None:
    _, faults = read([rule(channels=["staging"])], table(**more))

    assert [fault.where for fault in faults] == [place]
    assert words in str(faults[0])


def test_two_tables_for_one_channel_are_a_fault() -> None:
    _, faults = read([rule()], table(), table())

    assert [fault.where for fault in faults] == ["channel 2"]


@pytest.mark.parametrize("tables", [7, "channel", {"name": "staging"}])
def test_channels_that_are_no_list_of_tables_are_a_fault(tables: object) -> None:
    _, faults = read_rules([rule()], {}, None, tables)

    assert [fault.where for fault in faults] == ["channel"]


@pytest.mark.parametrize(
    ("rules", "channels", "names"),
    [
        ([rule(channels=["staging"])], [table(name="Staging")], ("staging", "Staging")),
        ([rule(channels=["dev", "Dev"])], [], ("dev", "Dev")),
        ([rule()], [table(), table(name="STAGING")], ("staging", "STAGING")),
        (
            [rule(name="a", channels=["dev"]), rule(name="b", version="Dev", channels=[])],
            [],
            ("dev", "Dev"),
        ),
        ([rule(name="a", channels=["dev"]), rule(name="b", version="dev")], [], ("dev", "dev")),
        (
            [rule(name="a", version="{project}"), rule(name="b", version="GAME")],
            [],
            ("game", "GAME"),
        ),
    ],
)
def test_names_of_one_app_that_differ_in_case_only_are_a_fault(
    rules: Any, channels: Any, names: tuple[str, str]
) -> None:
    _, (fault,) = read(rules, *channels)

    assert fault.where == "app my-game"
    assert all(repr(name) in fault.what for name in names)


def test_equal_names_and_those_of_other_apps_collide_with_none() -> None:
    rules = [
        rule(name="a", channels=["dev"]),
        rule(name="b", repository="studio/other", channels=["dev"]),
        rule(name="c", app="lobby", channels=["Dev"]),
        rule(name="d", version="DEV", versions=False, channels=["dev"]),
        rule(name="e", version="DEV-{tag}"),
    ]

    assert read(rules)[1] == []


def test_channels_do_not_take_images_of_each_other_in_a_circle() -> None:
    tables = [
        {"app": "my-game", "name": name, "from": source}
        for name, source in (("dev", "prod"), ("staging", "dev"), ("prod", "staging"))
    ]

    _, faults = read([rule(channels=["dev", "staging", "prod"])], *tables)

    assert [fault.where for fault in faults] == [
        f"channel {name}, from" for name in ("dev", "staging", "prod")
    ]
    assert "Remove one of the two" in str(faults[0])
