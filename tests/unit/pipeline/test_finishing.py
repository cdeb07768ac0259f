"""Which rule decides on what follows from a registration."""

import pytest

from receiver.config.settings import Settings
from receiver.pipeline.finishing import _rule_of
from receiver.rules.rule import Rule
from tests.support.trial_scenario import APP, CLAIMED, REPOSITORY


@pytest.mark.parametrize(
    ("repository", "app"), [("studio/lobby", "lobby"), ("studio/lobby", APP), (REPOSITORY, "lobby")]
)
def test_a_name_that_went_to_another_rule_is_not_its_successor(repository: str, app: str) -> None:
    """Its channels were opened for a push that it does not match."""
    other = Rule(repository, app, CLAIMED.rule, channels=("lobby-live",))
    own = Rule(REPOSITORY, APP, "renamed", channels=("staging",))

    assert _rule_of(Settings(rules=(other, own)), CLAIMED) == own
    assert _rule_of(Settings(rules=(other,)), CLAIMED) is None
