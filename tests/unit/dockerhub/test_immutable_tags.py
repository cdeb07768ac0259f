"""Immutable tags: what is immutable stays so when rules are added."""

import pytest

from receiver.dockerhub.immutable_tags import ImmutableTags, read_immutable_tags


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
