"""Rules held against pushes: which targets come of one, and under which version names."""

import hashlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dockerhub.webhook import Push
from receiver.errors import BadVersionName
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import (
    Rule,
    channels_of_two_repositories,
    match_of,
    may_collide,
    rule_on,
    shadowed,
    template_fault,
    version_name,
    version_name_fault,
)
from receiver.rules.tag_patterns import parse_tag_pattern

REPOSITORY = "studio/game-server"
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
EDGEGAP_TAKES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def rule(name: str = "a rule", *, app: str = "my-game", tags: object = (), **more: Any) -> Rule:
    repository = more.pop("repository", REPOSITORY)
    return Rule(repository, app, name, tags=parse_tag_pattern(tags), **more)


def push(tag: str | None = "1.4.2", **more: Any) -> Push:
    return Push(REPOSITORY, tag, **more)


def test_a_push_makes_one_registration_for_each_rule_that_takes_it() -> None:
    rules = [
        rule("game"),
        rule("lobby too", app="lobby", version="{project}-{tag}"),
        rule("releases only", app="third", tags=["v*"]),
        rule("another's", repository="studio/lobby"),
    ]

    ruling = rule_on(push(), rules)

    assert ruling.verdict is Verdict.ACCEPTED
    assert [(match.rule, match.app, match.version) for match in ruling.matches] == [
        ("game", "my-game", "1.4.2"),
        ("lobby too", "lobby", "game-server-1.4.2"),
    ]


def test_for_one_target_the_first_rule_in_the_file_wins() -> None:
    first, second = rule("first"), rule("second", copy_from="1.0")

    for rules, winner in (([first, second], "first"), ([second, first], "second")):
        assert [match.rule for match in rule_on(push(), rules).matches] == [winner]


@pytest.mark.parametrize("tag", ["staging", "Staging"])
def test_a_tag_with_the_name_of_a_channel_is_no_version(tag: str) -> None:
    """A channel that was not there yet was created from it, whatever tags it takes."""
    rules = (rule(), rule("moves", repository="studio/other", channels=("staging",)))

    (match,) = rule_on(push(tag), rules).matches

    assert match.invalid is not None
    assert "a channel of the app my-game" in match.invalid
    assert rule_on(push("staging-2"), rules).matches[0].invalid is None
    elsewhere = rule("elsewhere", repository="studio/other", app="other", channels=("staging",))
    assert rule_on(push(tag), (rule(), elsewhere)).matches[0].invalid is None


def test_a_rule_that_moves_the_channel_counts_before_one_that_would_create_it() -> None:
    moves = rule("moves", tags=["staging"], versions=False, channels=("staging",))

    for rules in ((rule(), moves), (moves, rule())):
        (match,) = rule_on(push("staging"), rules).matches
        assert (match.rule, match.invalid) == ("moves", None)


def test_a_first_rule_that_does_not_take_the_tag_takes_nothing_away() -> None:
    rules = [rule("releases", tags=["v*"]), rule("all")]

    assert [match.rule for match in rule_on(push(), rules).matches] == ["all"]


def test_rules_that_name_the_same_target_are_found() -> None:
    rules = [
        rule("one"),
        rule("other app", app="lobby"),
        rule("other name", version="x-{tag}"),
        rule("again", tags=["v*"]),
    ]

    assert [(first.name, later.name) for first, later in shadowed(rules)] == [("one", "again")]


@pytest.mark.parametrize(
    ("pushed", "rules", "reason", "named"),
    [
        (push(None), [rule()], Reason.NO_TAG, ""),
        (push(), [], Reason.NO_RULE, REPOSITORY),
        (push(), [rule(repository="studio/game")], Reason.NO_RULE, REPOSITORY),
        (push(), [rule(tags=["v*"])], Reason.NO_RULE_MATCHES, "1.4.2"),
        (push("latest"), [rule()], Reason.LATEST_NOT_NAMED, "latest"),
        (push("latest"), [rule(tags=["*"])], Reason.LATEST_NOT_NAMED, "caches images by tag"),
        (push("latest"), [rule(tags={"semver": ">=1"})], Reason.LATEST_NOT_NAMED, ""),
        (push("latest"), [], Reason.NO_RULE, ""),
        (push("main-buildcache"), [rule()], Reason.BUILD_CACHE, ""),
        (push(media_type="text/html"), [rule()], Reason.NOT_AN_IMAGE, "text/html"),
    ],
)
def test_what_is_ignored_says_why(
    pushed: Push, rules: list[Rule], reason: Reason, named: str
) -> None:
    ruling = rule_on(pushed, rules)

    assert (ruling.verdict, ruling.reason, ruling.matches) == (Verdict.IGNORED, reason, ())
    assert named in ruling.sentence
    assert "?" not in ruling.sentence  # every fact was filled in


SIGNATURE = f"sha256-{'0' * 64}.sig"


@pytest.mark.parametrize(
    ("tag", "tags"),
    [
        ("cache-fix-42", ["cache-fix-42"]),
        ("cache-fix-42", ["v*", "cache-*"]),
        ("cache-fix-42", ["*42"]),
        ("buildcache", ["build*"]),
        ("main-buildcache", ["main-?*"]),
        (SIGNATURE, ["sha256-*"]),
        (SIGNATURE, ["*.sig"]),
    ],
)
def test_a_tag_that_a_rule_lists_is_not_ignored_for_its_name(tag: str, tags: list[str]) -> None:
    """An image under the tag `cache-fix-42` was ignored, though the rule had `cache-*`."""
    rules = [rule("all"), rule("listed", app="lobby", tags=tags)]

    assert [match.rule for match in rule_on(push(tag), rules).matches] == ["listed"]


@pytest.mark.parametrize(
    "tags",
    [[], ["*"], ["?*"], ["!v*"], ["*", "!x"], {"semver": ">=1", "prerelease": True}],
    ids=str,
)
@pytest.mark.parametrize("tag", ["cache-fix-42", "1.0.0-buildcache", SIGNATURE])
def test_a_tag_that_no_rule_lists_is_ignored_for_its_name(tag: str, tags: object) -> None:
    ruling = rule_on(push(tag), [rule(tags=tags)])

    assert ruling.verdict is Verdict.IGNORED
    assert ruling.reason in {Reason.BUILD_CACHE, Reason.SIGNATURE}
    assert "list the tag in `tags`" in ruling.sentence


def test_a_listed_tag_of_another_media_type_is_ignored() -> None:
    helm = push("cache-1", media_type="application/vnd.cncf.helm.config.v1+json")

    assert rule_on(helm, [rule(tags=["cache-*"])]).reason is Reason.HELM_CHART


def test_a_listed_tag_that_is_excluded_too_is_ignored() -> None:
    assert rule_on(push("cache-1"), [rule(tags=["cache-*", "!cache-1"])]).matches == ()


def test_an_ignored_tag_says_which_filter_of_which_rule_keeps_it_out() -> None:
    rules = [
        rule("releases", tags={"semver": ">=1.2"}),
        rule("builds", tags=["build-*", "!*-rc*"]),
        rule("another's", repository="studio/lobby"),
    ]

    sentence = rule_on(push("1.3.0-rc.1"), rules).sentence

    assert "releases: it is a pre-release, which only prerelease = true includes" in sentence
    assert "builds: it is excluded by !*-rc*" in sentence
    assert "another's" not in sentence


def test_of_many_rules_the_first_five_say_why() -> None:
    rules = [rule(f"rule {number}", tags=["v*"]) for number in range(1, 8)]

    sentence = rule_on(push(), rules).sentence

    assert "rule 5: " in sentence
    assert "rule 6: " not in sentence
    assert "and 2 more" in sentence


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ({}, {}, True),
        ({}, {"app": "lobby"}, False),
        ({}, {"version": "lobby-{tag}"}, False),
        ({"version": "{project}-{tag}"}, {"version": "{project}-{tag}"}, False),
        ({"version": "{group}-{tag}"}, {"version": "studio-{tag}"}, True),
        ({"tags": ["v*"]}, {"tags": ["lobby-*"]}, False),
        ({"tags": ["v*"]}, {"tags": ["v1.*"]}, True),
    ],
)
def test_two_repositories_that_make_one_version_are_found(
    one: dict[str, Any], other: dict[str, Any], collide: bool
) -> None:
    rules = [rule("one", **one), rule("other", repository="studio/lobby", **other)]
    pairs = [(first.name, later.name) for first, later in may_collide(rules)]

    assert pairs == ([("one", "other")] if collide else [])


def test_two_repositories_that_move_one_channel_are_found() -> None:
    rules = [
        rule("one", channels=("staging", "dev")),
        rule("same repository", channels=("staging",)),
        rule("other", repository="studio/lobby", channels=("prod", "staging")),
        rule("other app", app="lobby", repository="studio/lobby", channels=("staging",)),
    ]

    found = [
        (first.name, later.name, name) for first, later, name in channels_of_two_repositories(rules)
    ]

    assert found == [("one", "other", "staging"), ("same repository", "other", "staging")]


@given(st.text(max_size=70))
def test_a_version_name_is_one_that_edgegap_takes_or_has_a_fault(name: str) -> None:
    assert (version_name_fault(name) is None) is (EDGEGAP_TAKES.fullmatch(name) is not None)


def test_latest_is_taken_where_a_rule_writes_it_out() -> None:
    matches = rule_on(push("latest"), [rule("a"), rule("b", app="lobby", tags=["latest"])]).matches

    assert [(match.rule, match.version) for match in matches] == [("b", "latest")]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{tag}", "1.4.2"),
        ("{project}-{tag}", "game-server-1.4.2"),
        ("{group}.{project}_{tag}", "studio.game-server_1.4.2"),
        ("dev", "dev"),
    ],
)
def test_a_version_name_is_rule_and_tag(template: str, name: str) -> None:
    assert template_fault(template) is None
    assert version_name(rule(version=template), "1.4.2") == name


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{}",
        "{0}",
        "{Tag}",
        "{version}",
        "{tag.upper}",
        "{tag.__class__}",
        "{tag[0]}",
        "{tag!r}",
        "{tag!s}",
        "{tag:>99}",
        "{tag:{group}}",
        "{tag",
        "tag}",
        "{{tag}}",
        "{ tag }",
        "a b",
        "a/{tag}",
        "v+{tag}",
        "é-{tag}",
        "{tag}\n",
    ],
)
def test_a_template_knows_three_plain_fields_and_nothing_else(template: str) -> None:
    assert template_fault(template)


@given(st.text("{}tagroupjec!:.[]_0-", max_size=20), TAGS)
def test_any_template_is_refused_or_gives_each_tag_its_name(template: str, tag: str) -> None:
    if template_fault(template) is not None:
        return
    match = match_of(rule(version=template), tag)

    assert match.invalid is not None or EDGEGAP_TAKES.fullmatch(match.version)


@given(TAGS)
def test_every_tag_has_a_name_edgegap_takes_unless_it_begins_with_an_underscore(tag: str) -> None:
    if tag.startswith("_"):
        with pytest.raises(BadVersionName, match="version name"):
            version_name(rule(), tag)
        return
    name = version_name(rule(), tag)

    assert EDGEGAP_TAKES.fullmatch(name)
    assert name == tag or len(tag) > 64


def test_a_name_of_64_letters_is_left_alone() -> None:
    assert version_name(rule(), "v" * 64) == "v" * 64


def test_a_longer_name_keeps_55_letters_a_dash_and_8_digits_of_its_hash() -> None:
    tag = "release-" + "x" * 60
    digits = hashlib.sha256(tag.encode()).hexdigest()[:8]

    assert version_name(rule(), tag) == f"{tag[:55]}-{digits}"


def test_the_hash_is_of_the_whole_name_not_of_the_tag() -> None:
    tag = "t" * 64
    name = f"game-server-{tag}"

    shortened = version_name(rule(version="{project}-{tag}"), tag)

    assert shortened == f"{name[:55]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@given(st.lists(TAGS.filter(lambda tag: tag[0] != "_"), unique=True, min_size=2, max_size=5))
def test_different_long_tags_keep_different_names(tags: list[str]) -> None:
    long = [f"{'a' * 70}{tag}"[:128] for tag in tags]

    assert len({version_name(rule(), tag) for tag in long}) == len(set(long))


def test_a_name_edgegap_does_not_take_is_a_match_that_says_so() -> None:
    ruling = rule_on(push("_1"), [rule("a rule")])

    assert ruling.verdict is Verdict.ACCEPTED
    assert ruling.matches[0].version == "_1"
    assert "a rule" in str(ruling.matches[0].invalid)
    assert "'_1'" in str(ruling.matches[0].invalid)
