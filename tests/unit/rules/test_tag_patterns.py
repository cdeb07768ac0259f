"""Which tags a rule takes."""

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import BadTagPattern
from receiver.rules.tag_patterns import may_overlap, parse_tag_pattern

TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


def takes(pattern: object, tag: str) -> bool:
    return parse_tag_pattern(pattern).takes(tag)


@given(TAGS)
def test_no_pattern_takes_every_tag_but_latest(tag: str) -> None:
    assert takes([], tag) is (tag != "latest")


@pytest.mark.parametrize(
    ("globs", "taken", "left"),
    [
        (["v*"], ["v1", "v"], ["1", "V1", "rv1"]),
        ("v*", ["v1"], ["1"]),
        (["1.?"], ["1.0"], ["1.10", "1."]),
        (["v*", "!*-rc*"], ["v1.0"], ["v1.0-rc1", "1.0"]),
        (["!*-rc*"], ["1.0", "anything"], ["1.0-rc1", "latest"]),
        (["v1", "v2"], ["v1", "v2"], ["v3"]),
        (["!v1", "v1"], [], ["v1"]),
        (["1.0"], ["1.0"], ["1x0", "1.00"]),
        (["*"], ["1.0"], ["latest"]),
        (["latest"], ["latest"], ["1.0", "Latest"]),
        (["latest", "v*"], ["latest", "v1"], ["1"]),
        (["lates?", "l*"], ["later"], ["latest"]),
        (["latest", "!lat*"], [], ["latest"]),
    ],
)
def test_globs(globs: object, taken: list[str], left: list[str]) -> None:
    pattern = parse_tag_pattern(globs)

    assert [tag for tag in [*taken, *left] if pattern.takes(tag)] == taken


@given(st.text("ab.*?-", min_size=1, max_size=12), st.text("ab.-", min_size=1, max_size=12))
def test_a_glob_means_what_a_shell_means(glob: str, tag: str) -> None:
    assert takes([glob], tag) is fnmatchcase(tag, glob)


def test_a_glob_of_many_stars_is_held_against_a_tag_at_once() -> None:
    assert not takes(["*a" * 60], "a" * 59 + "b" * 69)


@pytest.mark.parametrize(
    ("bounds", "taken", "left"),
    [
        (">=1.2", ["1.2.0", "v1.2.0", "1.10.0", "2.0.0"], ["1.1.9", "1.2", "v2", "latest", "x"]),
        (">1.2", ["1.3.0"], ["1.2.0", "1.2.5"]),
        ("<=1.2", ["1.2.5", "0.1.0"], ["1.3.0"]),
        ("=1.2", ["1.2.0", "1.2.5"], ["1.1.9", "1.3.0"]),
        ("<1.2", ["1.1.9"], ["1.2.0", "1.2.5"]),
        ("!=1.2", ["1.1.9", "1.3.0"], ["1.2.0", "1.2.5"]),
        (">=1.2 , <2", ["1.2.0"], ["1.1.9", "2.0.0"]),
        ("1", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0"]),
        ("1.2", ["1.2.0", "1.2.9"], ["1.1.9", "1.3.0"]),
        ("1.x", ["1.0.0", "1.9.9"], ["2.0.0"]),
        ("1.2.X", ["1.2.9"], ["1.3.0"]),
        ("1.x.3", ["1.0.0"], ["2.0.3"]),
        ("*", ["0.0.1", "9.9.9"], ["nightly", "1.0.0-rc.1"]),
        ("^1.2", ["1.2.0", "1.9.9"], ["1.1.9", "2.0.0"]),
        ("^1.2.3", ["1.2.3", "1.3.0"], ["1.2.2", "2.0.0"]),
        ("^0.2.3", ["0.2.9"], ["0.2.2", "0.3.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^0.0", ["0.0.9"], ["0.1.0"]),
        ("^0", ["0.9.9"], ["1.0.0"]),
        ("~1.2", ["1.2.9"], ["1.1.9", "1.3.0"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
        ("~> 1", ["1.9.9"], ["2.0.0"]),
        ("1.2 - 2.3", ["1.2.0", "2.3.9"], ["1.1.9", "2.4.0"]),
        ("1.2.3 - 2.3.4", ["2.3.4"], ["2.3.5", "1.2.2"]),
        ("^1.2 || ^3", ["1.9.0", "3.0.1"], ["2.0.0"]),
        (">*", [], ["1.0.0"]),
        ("<*", [], ["1.0.0"]),
        ("<2", ["1.99.99", "0.0.1"], ["2.0.0"]),
        ("<=1.2.3", ["1.2.3"], ["1.2.4"]),
        ("=1.2.3", ["1.2.3", "v1.2.3"], ["1.2.4"]),
        ("==v1.2.3", ["1.2.3"], ["1.2.2"]),
        ("!=1.2.3", ["1.2.4"], ["1.2.3"]),
        (">=1.2 <2", ["1.9.0"], ["1.1.0", "2.0.0"]),
        (">= 1.2,  < 2", ["1.9.0"], ["1.1.0", "2.0.0"]),
        (">=1", ["1.0.0"], ["01.0.0", "1.0.0.0", "v-1.0.0", "1.0.0-rc.1", "2.0.0-alpha"]),
    ],
)
def test_ranges_of_semantic_versions(bounds: str, taken: list[str], left: list[str]) -> None:
    pattern = parse_tag_pattern({"semver": bounds})

    assert [tag for tag in [*taken, *left] if pattern.takes(tag)] == taken


@pytest.mark.parametrize(
    ("bounds", "tag", "taken"),
    [
        (">=1.2.0", "1.2.1-rc.1", True),
        (">=1.2.0", "1.2.0-rc.1", False),  # stands before 1.2.0
        (">1.2.0", "1.2.0-rc.1", False),
        ("<2", "1.9.9-rc.1", True),
        ("<2", "2.0.0-rc.1", False),  # it is of version 2, as everybody means it
        ("<=2", "2.0.0-rc.1", True),
        ("=2.0.0", "2.0.0-rc.1", False),
    ],
)
def test_prereleases_only_if_asked_for(bounds: str, tag: str, taken: bool) -> None:
    assert takes({"semver": bounds, "prerelease": True}, tag) is taken
    assert not takes({"semver": bounds}, tag)


@pytest.mark.parametrize(
    ("bounds", "taken", "left"),
    [
        (">=1.2.3-rc.1", ["1.2.3-rc.2", "1.2.3", "1.3.0"], ["1.2.3-beta", "1.2.4-rc.1"]),
        ("=1.2.3-rc.1", ["1.2.3-rc.1"], ["1.2.3-rc.1.1", "1.2.3"]),
        ("<=1.2.3-rc.2", ["1.2.3-rc.2", "1.2.2"], ["1.2.3-rc.10", "1.2.3"]),
        ("<1.2.3-rc.2", ["1.2.3-rc.1"], ["1.2.3-rc.2"]),
        (">1.2.3-rc.2", ["1.2.3-rc.10", "1.2.3"], ["1.2.3-rc.2"]),
        ("^1.2.3-rc.1", ["1.2.3-rc.1", "1.9.0"], ["1.3.0-rc.1", "2.0.0"]),
    ],
)
def test_a_bound_with_a_prerelease_takes_those_of_its_own_version(
    bounds: str, taken: list[str], left: list[str]
) -> None:
    pattern = parse_tag_pattern({"semver": bounds})

    assert [tag for tag in [*taken, *left] if pattern.takes(tag)] == taken


@given(
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
)
def test_versions_are_ordered_as_numbers(
    numbers: tuple[int, int, int], bound: tuple[int, int, int]
) -> None:
    tag, edge = (".".join(map(str, triple)) for triple in (numbers, bound))

    assert takes({"semver": f">={edge}"}, tag) is (numbers >= bound)
    assert takes({"semver": f">{edge}"}, tag) is (numbers > bound)
    assert takes({"semver": f"<{edge}"}, tag) is (numbers < bound)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        (["v["], "v["),
        (["v[0-9]"], "not a glob"),
        (["!"], "not a glob"),
        (["!!v"], "not a glob"),
        ([""], "not a glob"),
        (["a b"], "not a glob"),
        (["^v.*$"], "not a glob"),
        (["é"], "not a glob"),
        (["v" * 129], "not a glob"),
        ([7], "7"),
        ([None], "None"),
        (7, ""),
        (None, ""),
        ({}, "semver"),
        ({"semver": 1.2}, "semver"),
        ({"semver": ""}, "bound"),
        ({"semver": "1.2-rc"}, "three numbers"),
        ({"semver": "one"}, "one"),
        ({"semver": ">=1.2,"}, "bound"),
        ({"semver": "^"}, "bound"),
        ({"semver": "1.2 ||"}, "bound"),
        ({"semver": ">=1.2.3.4"}, "1.2.3.4"),
        ({"semver": ">=1.y"}, "1.y"),
        ({"semver": "1 " * 200}, "256 characters"),
        ({"semver": ">=1", "prerelease": "yes"}, "prerelease"),
        ({"semver": ">=1", "pre": True}, "pre"),
        ({"semver": ">=" + "9" * 5000}, "longer than"),
    ],
)
def test_what_is_no_pattern_is_refused_by_name(pattern: Any, named: str) -> None:
    with pytest.raises(BadTagPattern) as refused:
        parse_tag_pattern(pattern)

    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "tag", "words"),
    [
        (["v*", "beta-?"], "1.0", "it matches none of v*, beta-?"),
        (["v*", "!*-rc*"], "v1.0-rc1", "it is excluded by !*-rc*"),
        (["!1.*", "!*-rc*"], "2.0-rc1", "it is excluded by !*-rc*"),
        (["v*"], "latest", "if it is listed"),
        ({"semver": ">=1.2 <2"}, "nightly", "not a version number"),
        ({"semver": ">=1.2 <2"}, "1.3.0-rc.1", "pre-release"),
        ({"semver": ">=1.2 <2"}, "2.0.0", "outside the range >=1.2 <2"),
        ({"semver": ">=2 <3"}, "1.0.0-rc.1", "outside the range >=2 <3"),
        ({"semver": ">=1.2.0-rc.1"}, "1.2.0-beta", "outside the range >=1.2.0-rc.1"),
        ({"semver": ">=1.2.0-rc.1"}, "1.3.0-beta", "pre-release"),
        ({"semver": "1.x || 3.x"}, "2.1.0-rc.1", "outside the range 1.x || 3.x"),
        ({"semver": "1.x || 3.x"}, "3.1.0-rc.1", "pre-release"),
        ({"semver": ">=1.2 <2", "prerelease": True}, "2.0.0-rc.1", "outside the range"),
    ],
)
def test_a_tag_that_is_not_taken_has_a_reason(pattern: object, tag: str, words: str) -> None:
    assert words in str(parse_tag_pattern(pattern).why_not(tag))


@given(
    st.sampled_from(["*", "v*", "latest", "!*-rc*", "1.?"]).map(lambda glob: [glob])
    | st.sampled_from([">=1.2", "<2", "=1.2.3"]).map(lambda bound: {"semver": bound}),
    TAGS | st.sampled_from(["latest", "1.2.3", "1.2.3-rc.1", "v2.0.0"]),
)
def test_there_is_a_reason_exactly_if_a_tag_is_not_taken(pattern: object, tag: str) -> None:
    read = parse_tag_pattern(pattern)

    assert (read.why_not(tag) is None) is read.takes(tag)


@given(
    bounds=st.lists(
        st.from_regex(
            r"(>=|<=|<|>|\^|~|!=)[0-2]\.[0-2]\.[0-2](-(rc|beta)\.[0-2])?", fullmatch=True
        ),
        min_size=1,
        max_size=3,
    ).map(" ".join),
    tag=st.from_regex(r"[0-2]\.[0-2]\.[0-2](-(rc|beta)\.[0-2])?", fullmatch=True),
)
def test_the_reason_names_the_setting_exactly_if_it_would_help(bounds: str, tag: str) -> None:
    why = parse_tag_pattern({"semver": bounds}).why_not(tag)

    with_it = parse_tag_pattern({"semver": bounds, "prerelease": True})
    assert (why is not None and "prerelease = true" in why) is (
        why is not None and with_it.takes(tag)
    )


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ([], [], True),
        ([], ["v*"], True),
        ({"semver": ">=1"}, ["v*"], True),
        (["v*"], ["v1*"], True),
        (["v*"], ["lobby-*"], False),
        (["1.0"], ["1.?"], True),
        (["1.0"], ["2.?"], False),
        (["1.0"], ["1.0"], True),
        (["1.0"], ["1.00"], False),
        (["a*", "b*"], ["c*", "b?"], True),
    ],
)
def test_whether_two_patterns_may_take_one_tag(one: object, other: object, may: bool) -> None:
    pair = parse_tag_pattern(one), parse_tag_pattern(other)

    assert may_overlap(*pair) is may
    assert may_overlap(*reversed(pair)) is may


@given(st.text(max_size=30) | st.lists(st.text(max_size=10)), TAGS)
def test_any_text_is_a_pattern_or_refused(pattern: Any, tag: str) -> None:
    for value in (pattern, {"semver": pattern}):
        try:
            read = parse_tag_pattern(value)
        except BadTagPattern:
            continue
        assert read.takes(tag) in {True, False}
