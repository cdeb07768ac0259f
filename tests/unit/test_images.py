"""Names of images, held against the registry's grammar (distribution/reference), and sizes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import BadImageReference
from receiver.images import (
    SIZE,
    ImageReference,
    is_digest,
    is_repository,
    is_tag,
    parse_image_reference,
    read_size,
    size_note,
    size_text,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = st.text(LETTERS, min_size=1, max_size=8)
SEPARATORS = st.sampled_from([".", "_", "__", "-", "--", "-----"])


@st.composite
def components(draw: st.DrawFn) -> str:
    words = draw(st.lists(WORDS, min_size=1, max_size=4))
    return words[0] + "".join(draw(SEPARATORS) + word for word in words[1:])


REPOSITORIES = st.builds("{}/{}".format, components(), components())
TAGS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(LETTERS + LETTERS.upper() + "_"),
        st.text(LETTERS + LETTERS.upper() + "_.-", max_size=127),
    ),
)


@given(REPOSITORIES)
def test_whatever_the_grammar_builds_is_a_repository(repository: str) -> None:
    assert is_repository(repository)


@given(REPOSITORIES, st.sampled_from([".", "_", "-", "/"]))
def test_a_separator_at_an_end_makes_it_none(repository: str, separator: str) -> None:
    assert not is_repository(separator + repository)
    assert not is_repository(repository + separator)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "busybox",
        "a/b/c",
        "A/b",
        "a/B",
        "a/b\n",
        " a/b",
        "a/b ",
        "a//b",
        "a..b/c",
        "a___b/c",
        "a._b/c",
        "a-_b/c",
        "a/b:1",
        "a/b@sha256",
        "ä/b",
        "a/\N{FULLWIDTH LATIN SMALL LETTER B}",
        "a/٣",
        "docker.io/a/b",
        "a/" + "b" * 254,
    ],
)
def test_what_the_registry_could_not_hold_is_no_repository(text: str) -> None:
    assert not is_repository(text)


def test_a_repository_has_at_most_255_letters() -> None:
    assert is_repository("a/" + "b" * 253)


@given(TAGS)
def test_whatever_the_grammar_builds_is_a_tag(tag: str) -> None:
    assert is_tag(tag)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-a",
        ".a",
        "a b",
        "a\n",
        "a/b",
        "a:b",
        "a+b",
        "ä",
        "\N{FULLWIDTH DIGIT ONE}",
        "a\x00",
        "t" * 129,
    ],
)
def test_what_the_registry_could_not_hold_is_no_tag(text: str) -> None:
    assert not is_tag(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("sha256:" + "a" * 64, True),
        ("sha256:" + "A" * 64, False),
        ("sha256:" + "a" * 63, False),
        ("sha256:" + "a" * 64 + "\n", False),
        ("sha512:" + "a" * 64, False),
    ],
)
def test_a_digest_is_64_lower_case_hex_digits(text: str, good: bool) -> None:
    assert is_digest(text) is good


@given(REPOSITORIES, TAGS)
def test_a_reference_reads_as_it_is_written(repository: str, tag: str) -> None:
    reference = ImageReference(repository, tag)

    assert parse_image_reference(str(reference)) == reference
    head = repository.partition("/")[0]
    if "." not in head and head != "localhost":
        assert parse_image_reference(f"{repository}:{tag}") == reference


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("busybox:1.36", "library/busybox", "1.36"),
        ("docker.io/busybox:1.36", "library/busybox", "1.36"),
        ("index.docker.io/studio/game:02", "studio/game", "02"),
        ("registry-1.docker.io/studio/game:V1", "studio/game", "V1"),
    ],
)
def test_a_person_may_write_it_short_or_long(text: str, repository: str, tag: str) -> None:
    assert str(parse_image_reference(text)) == f"docker.io/{repository}:{tag}"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("studio/game", "no tag"),
        ("studio/game:", "is not a tag"),
        ("studio/game:a b", "is not a tag"),
        ("studio/game:1@sha256:" + "a" * 64, "digest"),
        ("ghcr.io/studio/game:1", "ghcr.io"),
        ("localhost:5000/studio/game:1", "localhost:5000"),
        ("localhost/game:1", "localhost"),
        ("docker.io/a/b/c:1", "a/b/c"),
        ("studio/Game:1", "lower-case"),
        (":1", "not a Docker Hub repository"),
    ],
)
def test_a_refusal_says_which_part_is_wrong(text: str, named: str) -> None:
    with pytest.raises(BadImageReference, match=named):
        parse_image_reference(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reference = parse_image_reference(text)
    except BadImageReference:
        return
    assert is_repository(reference.repository)
    assert is_tag(reference.tag)


SIZES = st.integers(1, 2**50)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4_000_000_000),
        ("4 GB", 4_000_000_000),
        (" 4GB ", 4_000_000_000),
        ("1.5GB", 1_500_000_000),
        ("0.001MB", 1000),
        ("800MB", 800_000_000),
        ("999999.999GB", 999_999_999_000_000),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "4", "GB", "4gb", "4GiB", "4G", "-4GB", "+4GB", "4,5GB", "4.GB", ".5GB", "1e3MB"),
        *("0GB", "0.000MB", "4.0001GB", "1234567MB", "4  GB", "٤GB", "4GB\nx"),
        *(None, 4, 4.0, True, ["4GB"]),
    ],
)
def test_what_is_no_size_is_none(text: object) -> None:
    assert read_size(text) is None


@given(st.from_regex(SIZE, fullmatch=True))
def test_what_the_schema_admits_is_read_unless_it_is_zero(text: str) -> None:
    is_zero = re.search("[1-9]", text) is None
    assert (read_size(text) is None) == is_zero


@given(st.text() | st.from_regex(SIZE))
def test_no_text_breaks_the_reader(text: str) -> None:
    size = read_size(text)
    assert size is None or size > 0


@given(st.integers(1, 999), st.integers(0, 9), st.sampled_from(["MB", "GB"]))
def test_a_size_that_was_read_is_written_as_it_was(whole: int, tenth: int, unit: str) -> None:
    text = f"{whole}.{tenth} {unit}" if tenth and whole < 100 else f"{whole} {unit}"
    size = read_size(text)
    assert size is not None
    assert size_text(size) == text


@given(SIZES, SIZES)
def test_a_larger_size_is_never_written_as_a_smaller_one(one: int, other: int) -> None:
    def shown(size: int) -> float:
        number, unit = size_text(size).split()
        return float(number) * {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]

    low, high = sorted((one, other))
    assert shown(low) <= shown(high)
    assert abs(shown(low) - low) <= 0.051 * low


@given(SIZES, st.none() | st.tuples(st.just("1.4.1"), st.integers(0, 2**50)))
def test_every_size_has_a_note(size: int, before: tuple[str, int] | None) -> None:
    assert size_text(size) in size_note(size, before)


def test_the_note_compares_with_the_version_before() -> None:
    size = 1_904_000_000
    assert size_note(size, None) == "the image has 1.9 GB, compressed"
    assert size_note(size, ("1.4.1", 1_700_000_000)).endswith(", 12 % more than 1.4.1")
    assert size_note(size, ("1.4.1", 3_808_000_000)).endswith(", 50 % less than 1.4.1")
    assert size_note(size, ("1.4.1", size + 1)).endswith(", as 1.4.1 has")
