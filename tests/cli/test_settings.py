"""`config show` and `config schema`."""

import json
import tomllib
from pathlib import Path

import pytest

from receiver.config.environment import VARIABLES
from receiver.config.load import load
from tests.support.commands import Commands

RULE = '[[rule]]\nrepository = "studio/game-server"\napp = "my-game"\n'
WHOLE = f"""{RULE}
tags = {{ semver = "1.x" }}
pin = ["\\u007f", "1.0*"]
login = {{ username_env = "LOBBY_USER", token_env = "LOBBY_TOKEN" }}
[rule.settings]
ports = [{{ port = 7777, protocol = "udp", name = "game \\"é\\" port" }}]
envs = [{{ key = "A", value = "canary-1" }}, {{ key = "B", value_from = "GAME_B" }}]
[[channel]]
app = "my-game"
name = "staging"
[[notice]]
url_env = "TEAM_URL"
on = ["parked"]
[links]
"studio/game-server" = 2
"""
SECRETS = {
    "RECEIVER_SECRET_KEY": "canary-2-0123456789-0123456789-0123456789",
    "EDGEGAP_TOKEN": "canary-3",
    "DOCKERHUB_USERNAME": "builder",
    "DOCKERHUB_TOKEN": "canary-4",
    "RECEIVER_ADMIN_PASSWORD": "canary-5-0123456789",
    "RECEIVER_METRICS_TOKEN": "canary-6",
    "DATABASE_URL": "postgresql://u:canary-7@db/ledger",
    "LOBBY_USER": "lobby",
    "LOBBY_TOKEN": "canary-8",
    "GAME_B": "canary-9",
    "TEAM_URL": "json://canary-10",
    "HTTPS_PROXY": "http://u:canary-11@127.0.0.1:9",
}


def shown(commands: Commands, **environment: str | None) -> str:
    done = commands.run("config", "show", **environment)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_is_shown_is_the_configuration_in_force(commands: Commands) -> None:
    commands.configure(WHOLE)
    environ = {**commands.environment, **SECRETS}

    again = load({**environ, "RECEIVER_CONFIG_TOML": shown(commands, **SECRETS)})

    before = load({**environ, "RECEIVER_CONFIG_TOML": WHOLE})
    assert again.file.rule[0].pin == ("\x7f", "1.0*")
    assert again.file.channel == before.file.channel
    assert again.file.notice == before.file.notice
    assert again.file.links == before.file.links
    assert [rule.login for rule in again.settings.rules] == [
        rule.login for rule in before.settings.rules
    ]
    assert again.settings.catch_up_every == before.settings.catch_up_every


def test_no_secret_is_shown(commands: Commands) -> None:
    commands.configure(WHOLE)

    answer = shown(commands, **SECRETS)
    in_a_variable = shown(commands, **SECRETS, RECEIVER_CONFIG_TOML=WHOLE.replace("\n", "\r\n"))

    assert "canary" not in answer + in_a_variable
    assert "# DATABASE_URL: postgresql+psycopg://u:***@db/ledger   (environment)" in answer
    assert "# RECEIVER_CONFIG_TOML: ***   (environment)" in in_a_variable


def test_each_variable_has_its_value_and_where_it_is_from(commands: Commands) -> None:
    (commands.folder / ".env").write_text("HOST=localhost\n", "utf-8")
    (commands.folder / "port").write_text("metrics", "utf-8")

    given = {"RECEIVER_METRICS_TOKEN_FILE": "port", "PORT": "99", "HOST": None}
    lines = shown(commands, **given).splitlines()

    names = [line.partition(":")[0] for line in lines if line.startswith("# ")]
    assert names == [f"# {variable.name}" for variable in VARIABLES]
    assert "# HOST: localhost   (.env)" in lines
    assert "# PORT: 99   (environment)" in lines
    assert "# EDGEGAP_REQUESTS_PER_SECOND: 500   (environment)" in lines
    assert "# EDGEGAP_CONCURRENCY: 4   (default)" in lines
    assert "# RECEIVER_METRICS_TOKEN: ***   (RECEIVER_METRICS_TOKEN_FILE)" in lines
    assert "# RECEIVER_ADMIN_PASSWORD: not set" in lines


def test_each_key_has_its_value_and_defaults_are_named(commands: Commands) -> None:
    commands.configure(f"{RULE}preflight = false\n")

    answer = shown(commands, RECEIVER_PUBLIC_URL="https://variable.example")

    assert 'public_url = "https://variable.example"\n' in answer
    assert "preflight = false\n" in answer
    assert 'on_overwrite = "warn"   # default\n' in answer
    assert tomllib.loads(answer)["rule"][0]["name"] == "studio/game-server → my-game"
    assert tomllib.loads(answer)["ledger"] == {"keep": "90d"}


def test_of_a_configuration_with_faults_the_faults_are_shown(commands: Commands) -> None:
    commands.configure(f"{RULE}keep = 0\n")

    done = commands.run("config", "show")

    assert done.exit_code == 3
    assert "0 is not a number of versions" in done.stderr


@pytest.mark.parametrize("broken", [False, True])
def test_the_schema_needs_no_configuration(commands: Commands, broken: bool) -> None:
    if broken:
        commands.configure("= 1")
    else:
        Path(commands.folder / "receiver.toml").unlink()

    answer = commands.json_of("config", "schema")

    assert answer["title"] == "receiver.toml"
    assert json.dumps(answer).count('"description"') > 50
