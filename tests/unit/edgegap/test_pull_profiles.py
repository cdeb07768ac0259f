"""Pull profiles as the configuration names them."""

import pytest

from receiver.edgegap.pull_profiles import PullProfile, read_pull_profile


@pytest.mark.parametrize(
    ("text", "endpoint", "name"),
    [("bucket/maps", "bucket", "maps"), (" bucket/a/b ", "bucket", "a/b")],
)
def test_a_pull_profile_is_named_with_its_endpoint(text: str, endpoint: str, name: str) -> None:
    found = read_pull_profile(text)

    assert found == PullProfile(endpoint, name)
    assert str(found) == text.strip()


@pytest.mark.parametrize("text", ["", "maps", "/maps", "bucket/", "/"])
def test_a_name_without_its_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write endpoint/profile"):
        read_pull_profile(text)
