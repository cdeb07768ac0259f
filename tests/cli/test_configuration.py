"""`check`, `link`, `api-token` and what `serve` says when it cannot start."""

import json
import socket
import time

import pytest

from receiver.signing import ApiTokenSigner, LinkSigner
from tests.support.commands import Commands
from tests.support.receiver_process import KEY, REPOSITORY, RULE

MOVING = (
    '[[rule]]\nrepository = "studio/lobby"\napp = "lobby"\nversions = false\nchannels = ["dev"]\n'
)


def test_check_of_a_valid_configuration_names_each_rule_and_its_target(
    commands: Commands,
) -> None:
    done = commands.run("check")

    assert done.exit_code == 0
    assert "  studio/game-server  my-game/{tag}\n" in done.stdout
    assert done.stdout.endswith("The configuration is valid.\n")


def test_check_touches_neither_network_nor_ledger(commands: Commands) -> None:
    commands.run("check")

    assert [path.name for path in commands.folder.iterdir()] == ["receiver.toml"]


def test_check_as_json_lists_rules_and_warnings(commands: Commands) -> None:
    commands.configure(RULE + MOVING)

    answer = commands.json_of("check", "--json", RECEIVER_PUBLIC_URL="http://hooks.example.com")

    assert answer["ok"] is True
    assert answer["faults"] == []
    assert [(rule["app"], rule["versions"], rule["channels"]) for rule in answer["rules"]] == [
        ("my-game", True, []),
        ("lobby", False, ["dev"]),
    ]
    assert any("https" in warning for warning in answer["warnings"])


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"RECEIVER_PUBLIC_URL": None}, "public_url is not set"),
        ({"RECEIVER_SECRET_KEY": "k" * 31}, "shorter than 32"),
        ({"RECEIVER_SECRET_KEY": f'"{KEY}"'}, "RECEIVER_SECRET_KEY is read without the quotes"),
        ({"EDGEGAP_TOKEN": "tok # mine"}, "EDGEGAP_TOKEN is read without the comment"),
        ({"EDGEGAP_TOKN": "tok"}, "EDGEGAP_TOKN is not a variable of the receiver"),
        ({"EDGEGAP_BASE_URL": "http://127.0.0.1:9/v1"}, "EDGEGAP_BASE_URL is read without /v1"),
        ({"EDGEGAP_BASE_URL": "http://127.0.0.1:9/V1"}, "EDGEGAP_BASE_URL is read without /V1"),
        ({"EDGEGAP_BASE_URL": "http://127.0.0.1:9/v1/app/"}, "is read without /v1/app,"),
        ({"EDGEGAP_TOKEN_FILE": "/none"}, "EDGEGAP_TOKEN and EDGEGAP_TOKEN_FILE are both set"),
        ({"RECEIVER_ADMIN_PASSWORD": "short"}, "shorter than 12"),
        ({}, "no Docker Hub login"),
    ],
)
def test_check_warns_of_what_is_likely_not_meant(
    commands: Commands, environment: dict[str, str | None], word: str
) -> None:
    done = commands.run("check", **environment)

    assert done.exit_code == 0
    assert word in done.stdout


def test_check_warns_of_two_rules_for_one_target(commands: Commands) -> None:
    commands.configure(RULE + RULE.replace("app =", 'name = "again"\napp ='))

    warnings = commands.json_of("check", "--json")["warnings"]

    assert any("'again'" in one and "the first wins" in one for one in warnings)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('[links]\n"studio/game-servr" = 2\n', "did you mean studio/game-server?"),
        ('[links]\n"other/thing" = 2\n', "[links] names other/thing, but no rule does"),
        ('[[rule]]\nrepository = "studio/lobby"\napp = "my-game"\n', "create the same version"),
        ('[catch_up]\nevery = "13h"\n[ledger]\nkeep = "1d"\n', "shorter than two periods"),
    ],
)
def test_check_warns_of_rules_and_links_that_will_not_do_what_is_meant(
    commands: Commands, config: str, words: str
) -> None:
    commands.configure(f"{RULE}\n{config}")

    assert any(words in warning for warning in commands.json_of("check", "--json")["warnings"])


def test_check_warns_if_catch_up_comes_near_docker_hubs_limit(commands: Commands) -> None:
    rules = [RULE.replace(REPOSITORY, f"studio/game-{number}") for number in range(91)]
    commands.configure("".join(rules) + '[catch_up]\nevery = "1m"\n')

    warnings = commands.json_of("check", "--json")["warnings"]

    assert any("180 calls a minute" in warning for warning in warnings)


def test_check_warns_beside_the_faults_too(commands: Commands) -> None:
    done = commands.run("check", PORT="x", EDGEGAP_TOKN="tok")
    as_json = json.loads(commands.run("check", "--json", PORT="x", EDGEGAP_TOKN="tok").stdout)

    assert done.exit_code == 3
    assert "did you mean EDGEGAP_TOKEN?" in done.stderr
    assert "did you mean EDGEGAP_TOKEN?" in str(as_json["warnings"])


@pytest.mark.parametrize("host", ["localhosst", "no-such-machine.invalid"])
def test_a_host_that_no_address_belongs_to_is_found_and_serve_says_so(
    commands: Commands, host: str
) -> None:
    checked, served = commands.run("check", HOST=host), commands.run("serve", HOST=host)

    assert checked.exit_code == 3
    assert "HOST: " in checked.stderr
    assert served.exit_code == 1
    for done in (checked, served):
        assert "does not resolve to an address of this machine" in done.stderr


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:db8::1"])
def test_an_address_of_another_machine_is_warned_of(commands: Commands, host: str) -> None:
    done = commands.run("check", HOST=host)

    assert done.exit_code == 0
    assert f"warn  HOST: this machine cannot listen on {host} (" in done.stdout


def test_a_port_that_is_in_use_is_not_warned_of(commands: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])

        assert "cannot listen" not in commands.run("check", HOST="127.0.0.1", PORT=port).stdout


@pytest.mark.parametrize(
    ("first", "second", "prerelease", "warns"),
    [
        (">=1 <2", ">=2 <3", "false", False),
        (">=1 <2", ">=2 <3", "true", False),
        ("1.x || 3.x", "2.x || 4.x", "false", False),
        (">=1 <=2", ">=2 <3", "false", True),
        (">=1 <2.0.0", ">=2.0.0-0 <3", "true", True),
        ("1.x || 3.x", "2.x || >3", "false", False),
        ("1.x || 3.x", "2.x || >=3", "false", True),
        ("!=1.x", "1.x", "false", True),
        ("*", "1.x", "false", True),
    ],
)
def test_only_ranges_that_may_overlap_are_warned_of(
    commands: Commands, first: str, second: str, prerelease: str, warns: bool
) -> None:
    text = "".join(
        f'[[rule]]\nrepository = "studio/{name}"\napp = "my-game"\n'
        f'tags = {{ semver = "{text}", prerelease = {prerelease} }}\n'
        for name, text in (("lobby", first), ("server", second))
    )
    commands.configure(text)

    assert ("create the same version" in commands.run("check").stdout) is warns


def test_brackets_round_an_address_are_taken(commands: Commands) -> None:
    assert commands.run("check", HOST="[::1]").exit_code == 0


def test_a_public_url_with_which_a_link_is_too_long_is_found(commands: Commands) -> None:
    url = "https://hooks.example.com" + ".p" * 100

    done = commands.run("check", RECEIVER_PUBLIC_URL=url)

    assert done.exit_code == 3
    assert "characters long, but Docker Hub accepts 255" in done.stderr


@pytest.mark.parametrize("command", [["deliveries"], ["check"], ["serve"], ["show", "d1"]])
def test_a_database_url_with_two_slashes_is_a_fault_of_each_command(
    commands: Commands, command: list[str]
) -> None:
    done = commands.run(*command, DATABASE_URL="sqlite://data/receiver.db")

    assert done.exit_code == 3
    assert "sqlite:///data/receiver.db" in done.stderr
    assert "sqlite:////data/receiver.db" in done.stderr


def test_a_link_needs_no_file_if_everything_else_is_set(commands: Commands) -> None:
    """It said to write a line into a file that was not there."""
    (commands.folder / "receiver.toml").unlink()

    assert commands.run("link", REPOSITORY).exit_code == 0
    done = commands.run("link", REPOSITORY, RECEIVER_PUBLIC_URL=None)
    assert done.exit_code == 3
    assert f"there is no such file in {commands.folder}" in done.stderr


@pytest.mark.parametrize(
    "content",
    ["A=x".encode("utf-16"), b"RECEIVER_SECRET_KEY=x EDGEGAP_TOKEN=y", b"\xff"],
)
def test_if_a_dotenv_cannot_be_read_nobody_is_advised_to_make_a_new_key(
    commands: Commands, content: bytes
) -> None:
    (commands.folder / ".env").write_bytes(content)

    done = commands.run("check", RECEIVER_SECRET_KEY=None, EDGEGAP_TOKEN=None)

    assert done.exit_code == 3
    assert "1 fault:\n  - .env" in done.stderr
    assert "token_urlsafe" not in done.stderr


def test_in_which_folders_a_dotenv_is_missing_is_said(commands: Commands) -> None:
    done = commands.run("check", EDGEGAP_TOKEN=None)

    assert f"it is not set, there is no .env in {commands.folder}" in done.stderr


def test_all_faults_are_reported_at_once_each_with_its_location_and_fix(
    commands: Commands,
) -> None:
    commands.configure(
        'colour = "red"\n'
        '[[rule]]\nrepository = "Studio/Game"\napp = "x"\nmode = "move"\ntag = ["v*"]\n'
        '[links]\n"studio/game" = 0\n'
        '[catch_up]\nevery = "soon"\n'
    )

    done = commands.run(
        "check", "--json", RECEIVER_SECRET_KEY=None, EDGEGAP_TOKEN=None, PORT="eight"
    )

    assert done.exit_code == 3
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    places = " ".join(fault["where"] for fault in answer["faults"])
    for place in (
        "RECEIVER_SECRET_KEY",
        "EDGEGAP_TOKEN",
        "PORT",
        "receiver.toml, colour",
        "rule 1, repository",
        "rule 1, app",
        "rule 1, mode",
        "rule 1, tag",
        "receiver.toml, links",
        "catch_up.every",
    ):
        assert place in places
    assert all(fault["what"] and fault["hint"] for fault in answer["faults"])


@pytest.mark.parametrize("command", [["serve"], ["check"], ["push", "studio/game-server:1.0"]])
def test_with_nothing_configured_every_missing_setting_is_reported(
    commands: Commands, command: list[str]
) -> None:
    (commands.folder / "receiver.toml").unlink()

    done = commands.run(*command, RECEIVER_SECRET_KEY=None, EDGEGAP_TOKEN=None)

    assert done.exit_code == 3
    assert done.stdout == ""
    assert "3 faults" in done.stderr
    for word in ("RECEIVER_SECRET_KEY", "EDGEGAP_TOKEN", "receiver.toml"):
        assert word in done.stderr


def test_serve_without_a_key_says_how_to_make_one(commands: Commands) -> None:
    done = commands.run("serve", RECEIVER_SECRET_KEY=None)

    assert done.exit_code == 3
    assert "secrets.token_urlsafe(32)" in done.stderr
    assert not (commands.folder / "receiver.db").exists()


def test_link_prints_the_url_alone(commands: Commands) -> None:
    done = commands.run("link", REPOSITORY)

    assert done.exit_code == 0
    assert done.stderr == ""
    url = done.stdout.removesuffix("\n")
    assert url == LinkSigner([KEY], {}).link("https://hooks.example.com", REPOSITORY)


def test_link_for_a_repository_without_a_rule_says_so_beside_the_url(commands: Commands) -> None:
    done = commands.run("link", "studio/other")

    assert done.exit_code == 0
    assert done.stdout.startswith("https://hooks.example.com/hooks/dockerhub/")
    assert done.stdout.count("\n") == 1
    assert "no rule names studio/other yet" in done.stderr


def test_link_changes_when_the_repositorys_number_is_raised(commands: Commands) -> None:
    before = commands.run("link", REPOSITORY).stdout
    commands.configure(f'{RULE}\n[links]\n"{REPOSITORY}" = 2\n')

    assert commands.run("link", REPOSITORY).stdout != before


@pytest.mark.parametrize(("surplus", "code"), [(0, 0), (1, 1)])
def test_link_over_255_characters_is_not_printed(
    commands: Commands, surplus: int, code: int
) -> None:
    length = len(commands.run("link", REPOSITORY).stdout.strip())
    more = 255 - length + surplus
    long = "https://hooks.example.com" + "p" * (more % 2) + ".p" * (more // 2)

    done = commands.run("link", REPOSITORY, RECEIVER_PUBLIC_URL=long)

    assert done.exit_code == code
    if surplus:
        assert done.stdout == ""
        assert "256 characters long and Docker Hub takes 255" in done.stderr
    else:
        assert len(done.stdout.strip()) == 255


@pytest.mark.parametrize("name", ["Studio/Game", "game-server", "a/b/c", "studio/game:1", ""])
def test_link_for_no_repository_is_wrong_usage(commands: Commands, name: str) -> None:
    done = commands.run("link", name)

    assert done.exit_code == 2
    assert "group/project" in done.stderr


def test_link_without_a_public_url_says_where_it_is_written(commands: Commands) -> None:
    done = commands.run("link", REPOSITORY, RECEIVER_PUBLIC_URL=None)

    assert done.exit_code == 3
    assert "above the first [[rule]]" in done.stderr
    assert "RECEIVER_PUBLIC_URL" in done.stderr


def test_an_api_token_is_printed_alone_and_good_for_its_days(commands: Commands) -> None:
    done = commands.run("api-token", "--days", "2")

    assert done.exit_code == 0
    token = done.stdout.removesuffix("\n")
    now = int(time.time())
    assert ApiTokenSigner([KEY]).read(token, now + 47 * 3600) is not None
    assert ApiTokenSigner([KEY]).read(token, now + 49 * 3600) is None


@pytest.mark.parametrize("text", ["xyz", "0123456789ABCDEF", "é"])
def test_what_is_no_id_of_a_token_is_answered_in_words(commands: Commands, text: str) -> None:
    """The answer was a regular expression."""
    done = commands.run("api-token", "--revoke", text)

    assert "text of 16 characters, each 0-9 or a-f" in done.stderr
    assert "regex" not in done.stderr


@pytest.mark.parametrize("days", ["0", "-1", "x", "99999"])
def test_an_api_token_for_no_days_is_wrong_usage(commands: Commands, days: str) -> None:
    assert commands.run("api-token", "--days", days).exit_code == 2


def test_a_file_that_the_environment_names_wins_over_a_value_in_dotenv(commands: Commands) -> None:
    """It lost without a word: who moved from `.env` to files thought the key was rotated."""
    (commands.folder / ".env").write_text(f"RECEIVER_SECRET_KEY={KEY}\n", "utf-8")
    (commands.folder / "key").write_text("another key of which nobody has seen a link", "utf-8")
    of_dotenv = commands.run("link", REPOSITORY, RECEIVER_SECRET_KEY=None).stdout

    of_file = commands.run(
        "link", REPOSITORY, RECEIVER_SECRET_KEY=None, RECEIVER_SECRET_KEY_FILE="key"
    ).stdout

    unset = commands.run(
        "link", REPOSITORY, RECEIVER_SECRET_KEY=None, RECEIVER_SECRET_KEY_FILE=""
    ).stdout
    assert of_dotenv.startswith("https://hooks.example.com/")
    assert unset == of_dotenv  # as Compose's ${NAME:-} leaves it
    assert of_file.startswith("https://hooks.example.com/")
    assert of_file != of_dotenv
