"""Docker Hub's bodies, old and new, whole and broken: each is read as what it is."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dockerhub.webhook import TEST_TAG, Push, body_of_test_push, read_push
from receiver.errors import BadBody
from receiver.images import is_repository, is_tag
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import Rule, rule_on
from receiver.rules.tag_patterns import parse_tag_pattern

PAYLOADS = Path(__file__).parent.parent.parent / "payloads"
with (PAYLOADS / "INDEX.tsv").open(encoding="utf-8") as index:
    EXPECTED = list(csv.DictReader(index, delimiter="\t"))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def body(repository: Any = None, **push_data: Any) -> bytes:
    names = {"repo_name": "studio/game"} if repository is None else repository
    return json.dumps({"push_data": {"tag": "1.0", **push_data}, "repository": names}).encode()


def reason_of(raw: bytes) -> str:
    with pytest.raises(BadBody) as refused:
        read_push(raw)
    return refused.value.reason


def test_a_test_push_registers_nothing_whatever_a_rule_takes() -> None:
    push = read_push(json.dumps(body_of_test_push("studio/game", 1_780_000_000)).encode())
    rules = [
        Rule("studio/game", "my-game", "one", tags=parse_tag_pattern(tags))
        for tags in ([], ["*"], [TEST_TAG])
    ]

    ruling = rule_on(push, rules)

    assert (push.repository, push.pushed_at) == ("studio/game", 1_780_000_000_000)
    assert (ruling.verdict, ruling.reason) == (Verdict.IGNORED, Reason.TEST_PUSH)
    assert ruling.matches == ()
    assert rule_on(push, []).reason is Reason.TEST_PUSH


def test_every_payload_stands_in_the_index() -> None:
    assert {row["file"] for row in EXPECTED} == {path.name for path in PAYLOADS.glob("*.json")}


@pytest.mark.parametrize("row", EXPECTED, ids=lambda row: row["file"])
def test_each_payload_gets_its_answer(row: dict[str, str]) -> None:
    raw = (PAYLOADS / row["file"]).read_bytes()

    if row["status"] == "400":
        assert reason_of(raw) == row["reason"]
        return

    push = read_push(raw)
    ruling = rule_on(push, [Rule(push.repository, "my-game", "a rule")])

    assert push.repository == row["repository"]
    assert row["tag"] in {push.tag or "", "*"}
    assert push.pushed_at == (int(row["pushed_at"]) if row["pushed_at"] else None)
    assert ruling.verdict == {"202": "accepted", "200": "ignored"}[row["status"]]
    assert (ruling.reason or "") == row["reason"]


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_any_unicode_encoding_of_json_is_read(charset: str) -> None:
    assert read_push(body().decode().encode(charset)).repository == "studio/game"


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ({"repo_name": "busybox"}, "library/busybox"),
        ({"repo_name": "busybox", "namespace": "library", "name": "busybox"}, "library/busybox"),
        ({"repo_name": "game", "namespace": "studio", "name": "game"}, "studio/game"),
        ({"repo_name": None, "namespace": "studio", "name": "game"}, "studio/game"),
        ({"repo_name": "a/jsperf.com", "name": "jsperf.com"}, "a/jsperf.com"),
        ({"repo_name": "a/b", "namespace": "", "name": ""}, "a/b"),
    ],
)
def test_the_repository_is_put_together_from_its_names(
    repository: dict[str, Any], name: str
) -> None:
    assert read_push(body(repository)).repository == name


@pytest.mark.parametrize(
    "repository",
    [
        {},
        {"namespace": "studio"},
        {"repo_name": 7},
        {"repo_name": ["a/b"]},
        {"repo_name": "a/b/c"},
        {"repo_name": "Studio/game"},
        {"repo_name": "studio/game\n"},
        {"repo_name": "studio/g\N{CYRILLIC SMALL LETTER A}me"},
        {"repo_name": "studio/../game"},
        {"repo_name": "docker.io:443/studio/game"},
        {"repo_name": "studio/game", "namespace": "Studio"},
        {"repo_name": "studio/game", "name": "other"},
        {"repo_name": "busybox", "namespace": "studio", "name": "other"},
        {"repo_name": "\ud800/game"},
    ],
)
def test_a_body_without_one_valid_repository_is_refused(repository: dict[str, Any]) -> None:
    assert reason_of(body(repository)) == "bad_repository"


@pytest.mark.parametrize(
    "tag", [0, 1.5, True, [], {}, ["1"], " ", "a b", "é", "1\n", "-a", "a/b", "\ud800", "t" * 129]
)
def test_a_tag_that_no_registry_could_hold_is_refused(tag: Any) -> None:
    assert reason_of(body(tag=tag)) == "bad_tag"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"\xff\xfe",
        b"payload=%7B%7D",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        body()[:-1],
        body() + b"x",
    ],
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    assert reason_of(raw) == "bad_json"


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{}",
        b'{"push_data": {}}',
        b'{"repository": {}}',
        b'{"push_data": [], "repository": {}}',
        b'{"push_data": {"pushed_at": NaN}, "repository": "a/b"}',
    ],
)
def test_json_of_another_shape_is_refused(raw: bytes) -> None:
    assert reason_of(raw) == "bad_shape"


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("1356998400", 1_356_998_400_000),
        ("1356998399", None),
        ("4102444799", 4_102_444_799_000),
        ("4102444800", None),
        ("1592544800123", 1_592_544_800_123),
        ("4102444800000", None),
        ('"1592544800"', 1_592_544_800_000),
        ('"1592544800123"', 1_592_544_800_123),
        ('"2020-06-19T05:33:20Z"', 1_592_544_800_000),
        ('"0001-01-01T00:00:00Z"', None),
        ('"yesterday"', None),
        ('"nan"', None),
        ("1592544800.5", 1_592_544_800_500),
        ("-1", None),
        ("0", None),
        ("true", None),
        ("null", None),
        ("[]", None),
        ("NaN", None),
        ("-Infinity", None),
        ("1e999", None),
        ("9" * 30, None),
        ("9" * 400, None),
        ("9" * 5000, None),
    ],
)
def test_a_push_time_out_of_reason_is_dropped_and_the_push_taken(
    written: str, milliseconds: int | None
) -> None:
    push = read_push(
        body(pushed_at=0).replace(b'"pushed_at": 0', f'"pushed_at": {written}'.encode())
    )

    assert push == Push("studio/game", "1.0", pushed_at=milliseconds)


@pytest.mark.parametrize("media_type", [7, [], "x" * 256, "a\x00b", "a\nb", "\ud800"])
def test_a_media_type_that_is_none_is_refused(media_type: Any) -> None:
    assert reason_of(body(media_type=media_type)) == "bad_shape"


@pytest.mark.parametrize("pusher", [None, "", 7, {}, []])
def test_a_pusher_that_is_no_text_is_left_out(pusher: Any) -> None:
    assert read_push(body(pusher=pusher)).pusher is None


def test_a_pushers_name_cannot_carry_what_no_database_takes() -> None:
    push = read_push(body(pusher="e\x00v\ni\x1bl\ud800" + "x" * 300))

    assert push.pusher is not None
    assert push.pusher.startswith("e�v�i�l�x")
    assert len(push.pusher) == 255


def test_the_longest_description_docker_hub_takes_is_no_hindrance() -> None:
    description = "\u2014\t" * 12_500
    raw = body({"repo_name": "a/b", "full_description": description})

    assert len(raw) > 25_000
    assert read_push(raw) == Push("a/b", "1.0")


def test_what_is_not_needed_is_not_even_looked_at() -> None:
    raw = body({"repo_name": "a/b", "full_description": {"deep": [1]}, "dockerfile": 7})

    assert read_push(raw).repository == "a/b"


@given(
    st.dictionaries(st.sampled_from(["tag", "pushed_at", "pusher", "media_type"]), JSON),
    st.dictionaries(st.sampled_from(["namespace", "name", "repo_name"]), JSON),
)
def test_any_json_is_read_as_a_valid_push_or_refused(
    push_data: dict[str, Any], names: dict[str, Any]
) -> None:
    _valid_or_refused(body({"repo_name": "a/b", **names}, **push_data))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_a_valid_push_or_refused(raw: bytes) -> None:
    _valid_or_refused(raw)


@given(st.data())
def test_a_body_cut_or_spoilt_anywhere_is_read_as_a_valid_push_or_refused(
    data: st.DataObject,
) -> None:
    raw = bytearray((PAYLOADS / "2025-index.json").read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    _valid_or_refused(bytes(raw))


def _valid_or_refused(raw: bytes) -> None:
    refused: BadBody | None = None
    push = Push("a/b", None)
    try:
        push = read_push(raw)
    except BadBody as error:
        refused = error
    assert refused is None or (refused.reason.startswith("bad_") and str(refused).isprintable())
    assert is_repository(push.repository)
    assert push.tag is None or is_tag(push.tag)
    for text in (push.pusher, push.media_type):
        assert "\x00" not in (text or "").encode().decode()  # any database takes it
