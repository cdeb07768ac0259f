"""What is said where something is missing or wrong: what it is, and what to do next."""

import pytest

from tests.support.commands import Commands
from tests.support.receiver_process import RULE


def said(commands: Commands, *arguments: str, **environment: str | None) -> tuple[int, str]:
    done = commands.run(*arguments, **environment)
    return done.exit_code, done.output


def test_in_the_wrong_folder_the_file_itself_is_what_is_missing(commands: Commands) -> None:
    (commands.folder / "receiver.toml").unlink()

    code, answer = said(commands, "check")

    assert code == 3
    assert f"there is no such file in {commands.folder}" in answer
    assert "receiver init" in answer
    assert "RECEIVER_CONFIG" in answer


def test_both_missing_variables_of_a_login_are_reported_at_once(commands: Commands) -> None:
    login = 'login = { username_env = "A_USER", token_env = "A_TOKEN" }\npreflight'
    commands.configure(RULE.replace("preflight", login))

    code, answer = said(commands, "check")

    assert code == 3
    assert "A_USER is not set" in answer
    assert "A_TOKEN is not set" in answer


def test_a_short_key_comes_with_the_way_to_a_good_one(commands: Commands) -> None:
    assert "secrets.token_urlsafe" in said(commands, "check", RECEIVER_SECRET_KEY="k" * 20)[1]


@pytest.mark.parametrize(
    ("asked", "code", "answer"),
    [
        (["deliveries", "--tag", "zz"], 0, "No deliveries match"),
        (["deliveries", "--before", "nonsense"], 5, "there is no delivery nonsense"),
        (["prune", "nogame"], 2, "no rule names the app nogame; rules name: my-game"),
        (["rollback", "my-game", "1.0.0", "--to", "7"], 1, "it moves: none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_id_or_filter_without_a_match_is_reported(
    commands: Commands, asked: list[str], code: int, answer: str
) -> None:
    commands.push()

    found = said(commands, *asked)

    assert found[0] == code
    assert answer in found[1]


def test_an_empty_ledger_is_reported_as_no_deliveries_yet(commands: Commands) -> None:
    commands.run("pause", "--all")  # makes the ledger

    assert "No deliveries yet" in said(commands, "deliveries")[1]


def test_a_file_that_is_no_ledger_is_named(commands: Commands) -> None:
    (commands.folder / "receiver.db").write_bytes(b"nothing of the kind" * 500)

    code, answer = said(commands, "push", "studio/game-server:1.0")

    assert code == 4
    assert "receiver.db" in answer
    assert "DATABASE_URL" in answer
