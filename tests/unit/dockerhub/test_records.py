"""What Docker Hub's API says of a repository: tags, webhooks, immutable tags."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dockerhub.records import (
    WEBHOOK_NAME,
    ImmutableTags,
    Tag,
    Webhook,
    new_webhook,
    read_immutable_tags,
    read_tag,
    read_webhooks,
    unused_name,
    without_addresses,
)
from receiver.dockerhub.webhook import FIRST_SECOND, LAST_SECOND

ZERO = "0001-01-01T00:00:00Z"
PUSHED, UPDATED = "2026-09-21T14:13:20.123456789Z", "2026-09-23T00:00:00Z"
PUSHED_MS, UPDATED_MS = 1_790_000_000_123, 1_790_121_600_000
NO_TIMES: list[object] = [
    None, "", ZERO, "0001-01-01T00:00:00", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "2026-13-01T00:00:00Z", "yesterday", 0, 1_000_000_000, True, [], {},
]  # fmt: skip

times = (
    st.sampled_from([*NO_TIMES, PUSHED, UPDATED])
    | st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
    | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    | st.text()
)
images = st.lists(st.fixed_dictionaries({}, optional={"last_pushed": times}) | st.none())
FIELDS = {
    "tag_last_pushed": times,
    "last_updated": times,
    "tag_last_pulled": times,
    "images": images | st.fixed_dictionaries({"last_pushed": times}) | times,
}
records: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": st.just("1.0")}, optional=FIELDS
)


def read(**fields: object) -> Tag:
    found = read_tag({"name": "1.0", **fields})
    assert found is not None
    return found


@given(records)
def test_a_push_time_is_one_docker_hub_can_have_had_or_none(record: dict[str, Any]) -> None:
    found = read(**record)

    for moment in (found.pushed_at, found.updated_at):
        assert moment is None or FIRST_SECOND <= moment / 1000 < LAST_SECOND
    assert (found.pushed_at is None) or (found.updated_at is not None)


@given(records, st.sampled_from(NO_TIMES))
def test_a_pull_is_no_push(record: dict[str, Any], pulled: object) -> None:
    assert read(**{**record, "tag_last_pulled": pulled}) == read(**record)


@pytest.mark.parametrize("unusable", NO_TIMES, ids=repr)
def test_what_cannot_be_the_push_time_is_passed_over(unusable: object) -> None:
    both = {"tag_last_pushed": PUSHED, "last_updated": UPDATED}

    assert read(**both).pushed_at == PUSHED_MS
    assert read(**{**both, "tag_last_pushed": unusable}).pushed_at == UPDATED_MS
    assert read(**{**both, "last_updated": unusable}).pushed_at == PUSHED_MS
    assert read(last_updated=UPDATED).pushed_at == UPDATED_MS
    assert read(tag_last_pushed=unusable, last_updated=unusable).pushed_at is None
    assert read(tag_last_pushed=unusable, images=[{"last_pushed": PUSHED}]).pushed_at == PUSHED_MS


@pytest.mark.parametrize(
    "written",
    [
        f" {PUSHED} ",
        PUSHED.replace("T", " "),
        PUSHED_MS,
        PUSHED_MS / 1000,
        str(PUSHED_MS),
        format_datetime(datetime.fromtimestamp(PUSHED_MS / 1000, UTC), usegmt=True),
    ],
    ids=repr,
)
def test_a_push_time_may_be_written_otherwise(written: object) -> None:
    """Catch-up passed over a tag whose times it could not read."""
    assert abs((read(tag_last_pushed=written).pushed_at or 0) - PUSHED_MS) < 1000


def test_an_update_is_no_later_push_than_that_of_the_images() -> None:
    older = {"last_pushed": "2019-01-01T00:00:00Z"}
    rows: list[object] = [older, {"last_pushed": PUSHED}, {"last_pushed": ZERO}, None, "x"]

    assert read(last_updated=UPDATED, images=rows).pushed_at == PUSHED_MS
    assert read(last_updated=UPDATED, images={"last_pushed": PUSHED}).pushed_at == PUSHED_MS
    assert read(last_updated=UPDATED, images=[{"last_pushed": None}]).pushed_at == UPDATED_MS
    assert read(last_updated=UPDATED, images=[older]).updated_at == UPDATED_MS


@pytest.mark.parametrize("name", [None, "", 7, "a b", "\n", "x" * 129])
def test_a_record_without_the_name_of_a_tag_is_none(name: object) -> None:
    assert read_tag({"name": name, "tag_last_pushed": PUSHED}) is None


NO_SIZES: tuple[object, ...] = (None, 0, -1, "7", 7.5, True, [], {})
AMD64, ARM64 = {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


@pytest.mark.parametrize(
    ("images", "size"),
    [
        ([{**AMD64, "size": 7}], 7),
        ({**AMD64, "size": 7}, 7),
        ([{**AMD64, "size": 7}, {**ARM64, "size": 9}, {**UNKNOWN, "size": 1}], 7),
        ([{**AMD64, "variant": "v3", "size": 8}, {**AMD64, "size": 7}], 7),
        ([{"os": "", "architecture": "", "size": 7}], 7),
        ([{**ARM64, "size": 7}, {"os": "linux", "architecture": "386", "size": 9}], None),
        ([{**AMD64, "size": 7}, {**AMD64, "size": None}], None),
        ([{**ARM64, "size": 7}, AMD64], None),
        *(([{**AMD64, "size": wrong}], None) for wrong in NO_SIZES),
        ([], None),
        (None, None),
        ("7", None),
    ],
)
def test_the_size_is_that_of_the_image_that_edgegap_runs(images: object, size: int | None) -> None:
    assert read(images=images, full_size=1000).size == size


# The list of webhooks, which nobody documents: whatever may be missing in it.

LINK = "https://hooks.example.com/hooks/dockerhub/WyJzd.c2VjcmV0"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_what_is_created_is_what_is_listed() -> None:
    row = {**new_webhook("ours", LINK), "slug": "ours-1"}

    page = read_webhooks({"count": 1, "next": None, "results": [row]})

    assert page is not None
    assert page.webhooks == (Webhook("ours", (LINK,), "ours-1"),)
    assert not page.has_next


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"name": 7, "webhooks": None, "slug": ""},
        {"webhooks": [{}, {"hook_url": None}, "text"], "slug": 5},
    ],
)
def test_what_is_missing_in_a_row_is_empty(row: dict[str, object]) -> None:
    page = read_webhooks({"results": [row], "next": "https://hub.docker.com/…?page=2"})

    assert page is not None
    assert page.webhooks == (Webhook("", (), None),)
    assert page.has_next


@pytest.mark.parametrize("body", [{}, {"results": None}, {"results": [1]}, {"results": {}}])
def test_another_shape_is_no_list(body: dict[str, object]) -> None:
    assert read_webhooks(body) is None


@given(st.dictionaries(st.sampled_from(["results", "next", "count"]), JSON))
def test_any_object_is_read_or_refused(body: dict[str, object]) -> None:
    page = read_webhooks(body)

    assert page is None or all(isinstance(one, Webhook) for one in page.webhooks)


def test_a_name_is_never_taken_twice() -> None:
    assert unused_name(set()) == WEBHOOK_NAME
    assert unused_name({WEBHOOK_NAME, "other"}) == f"{WEBHOOK_NAME}-2"
    assert (
        unused_name({WEBHOOK_NAME, f"{WEBHOOK_NAME}-2", f"{WEBHOOK_NAME}-3"}) == f"{WEBHOOK_NAME}-4"
    )


@pytest.mark.parametrize(
    "text",
    [
        LINK,
        f'{{"hook_url": "{LINK}"}}',
        json.dumps({"hook_url": LINK}).replace("/", "\\/"),
        f"<a href='{LINK}'>",
        LINK.upper(),
        f"invalid: {LINK}, {LINK}?token=c2VjcmV0",
        "https://user:c2VjcmV0@hooks.example.com/x",
        "https://hooks.example.com?c2VjcmV0",
    ],
)
def test_an_address_is_cut_off_after_its_host(text: str) -> None:
    shown = without_addresses(text)

    assert "hooks.example.com" in shown.lower()
    assert "c2vjcmv0" not in shown.lower()
    assert "user" not in shown


def test_other_text_stays() -> None:
    assert without_addresses('{"detail": "not found"}') == '{"detail": "not found"}'


# Immutable tags: what is immutable stays so when rules are added.


@pytest.mark.parametrize(
    ("before", "added", "after"),
    [
        (ImmutableTags(enabled=False), ["v.*"], ImmutableTags(enabled=True, rules=("v.*",))),
        (
            ImmutableTags(enabled=True, rules=("a",)),
            ["b", "a", "b"],
            ImmutableTags(enabled=True, rules=("a", "b")),
        ),
        # Without rules all tags are immutable: a rule would free the others.
        (ImmutableTags(enabled=True), ["v.*"], ImmutableTags(enabled=True)),
    ],
)
def test_rules_are_added(before: ImmutableTags, added: list[str], after: ImmutableTags) -> None:
    assert before.with_rules(added) == after


def test_what_is_sent_is_what_is_read() -> None:
    settings = ImmutableTags(enabled=True, rules=("v.*",))

    assert settings.body() == {"immutable_tags": True, "immutable_tags_rules": ["v.*"]}
    record = {"immutable_tags_settings": {"enabled": True, "rules": ["v.*"]}}
    assert read_immutable_tags(record) == settings


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"immutable_tags_settings": None},
        {"immutable_tags_settings": {"enabled": 1, "rules": []}},
        {"immutable_tags_settings": {"enabled": True}},
        {"immutable_tags_settings": {"enabled": True, "rules": [1]}},
    ],
)
def test_a_record_may_not_have_them(record: dict[str, object]) -> None:
    assert read_immutable_tags(record) is None
