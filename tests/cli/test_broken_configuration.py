"""What must be at hand when the configuration has a typo: looking, pausing, backing up."""

import pytest

from tests.support.commands import Commands
from tests.support.receiver_process import RULE

FAULTY = RULE.replace("preflight", "colour = 1\npreflight")
WARNING = "receiver: the configuration has a fault, ignored by this command"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (["deliveries"], "studio/game-server:1.0.0"),
        (["pause", "--all"], "Paused: all repositories"),
        (["pause", "studio/game-server"], "Paused: studio/game-server"),
        (["ledger", "backup", "copy.db"], "checked."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("config", [FAULTY, "[[rule]\n"], ids=["a-fault", "no-toml"])
def test_a_fault_in_the_file_does_not_lock_one_out(
    commands: Commands, command: list[str], answer: str, config: str
) -> None:
    commands.push()
    commands.configure(config)

    done = commands.run(*command)

    assert done.exit_code == 0, done.output
    assert answer in done.stdout
    assert WARNING in done.stderr


def test_paused_and_shown_and_resumed_in_spite_of_it(commands: Commands) -> None:
    delivery = commands.push()["id"]
    commands.configure(FAULTY)

    assert commands.run("pause", "--all").exit_code == 0
    assert "paused" in commands.run("show", delivery).stdout
    resumed = "Resumed all repositories, also those that were paused by name.\n"
    assert commands.run("resume", "--all").stdout == resumed


def test_a_variable_that_says_which_ledger_must_be_valid(commands: Commands) -> None:
    commands.configure(FAULTY)

    done = commands.run("deliveries", DATABASE_URL="mysql://x")

    assert done.exit_code == 3
    assert "DATABASE_URL" in done.stderr


def test_what_goes_by_the_rules_is_refused_as_ever(commands: Commands) -> None:
    commands.configure(FAULTY)

    for command in (["push", "studio/game-server:1.0.0"], ["replay", "--parked"], ["serve"]):
        assert commands.run(*command).exit_code == 3
