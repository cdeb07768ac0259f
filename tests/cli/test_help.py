"""Every command teaches: what it does, what its options mean, what its exit codes say."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from receiver.cli import COMMANDS, main
from receiver.cli.deliveries import MAX_ROWS, SOURCES
from receiver.cli.output import EPILOG
from receiver.ledger import queries
from receiver.ledger.views import DeliverySource

NAMES = sorted(COMMANDS)
ROOT = Path(__file__).parent.parent.parent
READ = {".html", ".md", ".py", ".yaml", ".yml"}
JOINED = re.compile(r'"\n\s*f?"')  # a string that goes on in the next line
NAMED = re.compile(r"`receiver ([a-z][a-z-]*)([^`]*)`")
PROMISED = {"serve", "link", "check", "push", "deliveries", "show", "replay", "api-token", "demo"}

# Of each: `--help` takes a second on a slow machine if it is imported.
HEAVY = {
    "httpx",
    "receiver.config.model",
    "receiver.service",
    "sqlalchemy",
    "starlette",
    "structlog",
    "uvicorn",
}


def _help(*arguments: str) -> str:
    done = CliRunner().invoke(main, [*arguments, "--help"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_promised_commands_are_there() -> None:
    assert set(NAMES) >= PROMISED


def test_the_first_help_names_every_command_with_a_whole_sentence() -> None:
    answer = _help()

    for name in NAMES:
        line = next(line for line in answer.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith("."), line
        assert not line.endswith("..."), line


def test_the_first_help_shows_where_to_begin_and_what_the_exit_codes_mean() -> None:
    answer = " ".join(_help().split())

    assert "receiver demo run a demo" in answer
    assert " ".join(EPILOG.split()) in answer
    for code in range(7):
        assert f"{code} " in EPILOG


@pytest.mark.parametrize("name", NAMES)
def test_a_commands_help_says_what_it_does_and_what_each_option_means(name: str) -> None:
    answer = _help(name)
    command = main.get_command(click.Context(main), name)

    assert command is not None
    assert len(command.help or "") > 40
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"
            assert parameter.opts[0] in answer
        else:
            assert parameter.make_metavar(click.Context(command)) in answer


def test_the_help_of_push_documents_its_exit_codes() -> None:
    answer = " ".join(_help("push").split())

    assert "0 every registration is done 1 a registration is parked" in answer
    assert "6 a registration is not done after --timeout" in answer


def test_the_version_is_the_packages() -> None:
    done = CliRunner().invoke(main, ["--version"])

    assert done.exit_code == 0
    assert done.stdout == f"receiver, version {version('docker-hub-receiver')}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["show"], ["deliveries", "--limit", "0"]])
def test_wrong_usage_ends_with_2_and_points_to_the_help(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == 2
    assert "--help" in done.stderr


def test_a_commands_module_imports_nothing_heavy() -> None:
    modules = sorted({f"receiver.cli.{module}" for module, _ in COMMANDS.values()})
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert set(modules) <= set(done.stdout.split())
    assert HEAVY & set(done.stdout.split()) == set()


def test_as_many_deliveries_are_listed_as_the_ledger_returns() -> None:
    assert MAX_ROWS == queries.MAX_ROWS
    assert DeliverySource.known == SOURCES


def _named_commands() -> Iterator[tuple[str, str, str]]:
    """Yield each command in backticks, wherever a user may read it: file, name, arguments."""
    folders = (ROOT / name for name in ("receiver", "docs", "deploy"))
    paths = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*"))]
    for path in paths:
        if path.suffix in READ:
            for found in NAMED.finditer(JOINED.sub("", path.read_text("utf-8"))):
                yield str(path.relative_to(ROOT)), found[1], found[2]


def _options(command: click.Command, arguments: list[str]) -> set[str]:
    names = {name for one in command.params for name in [*one.opts, *one.secondary_opts]}
    if isinstance(command, click.Group) and arguments:
        below = command.get_command(click.Context(command), arguments[0])
        return names if below is None else names | _options(below, arguments[1:])
    return names | {"--help"}


def test_every_command_that_a_text_names_is_there_with_its_options() -> None:
    wrong, seen = [], 0
    for path, name, rest in _named_commands():
        command = main.get_command(click.Context(main), name)
        options = set() if command is None else _options(command, rest.split())
        given = set(re.findall(r"(?<!\S)--[a-z-]+", rest))
        seen += 1
        if command is None or given - options:
            wrong.append((path, name + rest))

    assert wrong == []
    assert seen > 200
