"""The list of webhooks, which nobody documents: whatever may be missing in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dockerhub.webhook_list import (
    NAME,
    Webhook,
    new_webhook,
    read_webhooks,
    unused_name,
    without_addresses,
)

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
    assert unused_name(set()) == NAME
    assert unused_name({NAME, "other"}) == f"{NAME}-2"
    assert unused_name({NAME, f"{NAME}-2", f"{NAME}-3"}) == f"{NAME}-4"


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
