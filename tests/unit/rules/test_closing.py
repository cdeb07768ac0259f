"""Which parked registrations a later success closes: each reason, and the order of pushes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.reasons import REASONS, Reason
from receiver.rules.closing import Ended, is_closed_by
from receiver.rules.rule import Mode

IN_THE_IMAGE = {
    Reason.NOT_AN_IMAGE,
    Reason.VERSION_NAME_INVALID,  # under a rule that names others well, it lies in the tag
    Reason.NAME_TAKEN,
    Reason.IMAGE_NOT_PULLABLE,
    Reason.NOT_AMD64,
    Reason.TAG_OVERWRITTEN,
    Reason.TRIAL_FAILED,
    Reason.DIGEST_CHANGED,
    Reason.IMAGE_TOO_LARGE,  # or `max_image` of the rule is too small
}
PARKED = Ended(
    "r1", "rule", "my-game", "1.2.0", "1.2.0", Mode.CREATE, 10_000, Reason.NOT_AMD64.value
)
LATER = Ended("r2", "rule", "my-game", "1.2.1", "1.2.1", Mode.CREATE, 20_000)


@pytest.mark.parametrize("reason", list(Reason))
def test_under_the_same_rule_it_closes_what_lies_in_the_image_or_its_tag(reason: Reason) -> None:
    parked = replace(PARKED, reason=reason.value)

    assert is_closed_by(parked, LATER) is (reason in IN_THE_IMAGE)
    assert not is_closed_by(parked, replace(LATER, rule="another"))
    assert not is_closed_by(parked, replace(LATER, version="staging", mode=Mode.CHANNEL))


@pytest.mark.parametrize("reason", list(Reason))
def test_for_the_same_target_it_closes_whatever_the_reason(reason: Reason) -> None:
    parked = replace(PARKED, version="staging", reason=reason.value)
    later = replace(LATER, version="staging", rule="another")

    assert is_closed_by(parked, later)
    assert not is_closed_by(parked, replace(later, app="lobby"))


@pytest.mark.parametrize(
    "success",
    [
        replace(LATER, push_time=9_000),
        replace(LATER, id="r0", push_time=10_000),
        replace(LATER, id="r1", push_time=10_000),
    ],
    ids=["an earlier push", "recorded before in the same second", "itself"],
)
def test_only_a_later_push_closes_it(success: Ended) -> None:
    assert not is_closed_by(PARKED, success)
    assert not is_closed_by(replace(PARKED, version=success.version), success)


def test_in_the_same_second_the_one_recorded_later_is_the_later_push() -> None:
    """Docker Hub's webhooks give whole seconds, other sources milliseconds."""
    assert is_closed_by(replace(PARKED, push_time=10_999), replace(LATER, push_time=10_000))


@pytest.mark.parametrize(("push_time", "closes"), [(10_999, False), (11_000, True)])
def test_a_version_that_is_there_closes_its_trial_only_for_a_later_push(
    push_time: int, closes: bool
) -> None:
    parked = replace(PARKED, mode=Mode.TRIAL, reason=Reason.TRIAL_FAILED.value)

    again = replace(LATER, version=PARKED.version, tag=PARKED.tag, push_time=push_time)

    assert is_closed_by(parked, again) is closes


def test_a_reason_of_a_newer_program_stays_open() -> None:
    assert not is_closed_by(replace(PARKED, reason="of_a_newer_program"), LATER)


@given(st.sampled_from(list(Reason)))
def test_what_a_change_of_the_configuration_resolves_is_not_closed_by_a_push(
    reason: Reason,
) -> None:
    """But a tag that makes no version name, and a size: both the rule and another tag do."""
    explained = REASONS[reason]

    both = explained.by_config and explained.in_image
    assert both is (reason in {Reason.VERSION_NAME_INVALID, Reason.IMAGE_TOO_LARGE})
