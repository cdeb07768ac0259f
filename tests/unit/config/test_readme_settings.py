"""The README's table of settings is true: every variable the code reads, and no other."""

import ast
import re
from pathlib import Path

from receiver.config.environment import OFTEN_MEANT
from receiver.config.load import load_settings
from receiver.config.variables import Variables

PROJECT = Path(__file__).parent.parent.parent.parent
OURS = re.compile(
    r"(?:EDGEGAP|DOCKERHUB|RECEIVER)(?:_[A-Z]+)+|DATABASE_URL|FORWARDED_ALLOW_IPS|HOST|PORT"
)


def variables_in_the_code() -> set[str]:
    found = set()
    for path in (PROJECT / "receiver").rglob("*.py"):
        if "sandbox" in path.parts:
            continue  # stands in for other parties
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if OURS.fullmatch(node.value) else set()
    return found - set(OFTEN_MEANT)


def variables_in_the_readme() -> set[str]:
    text = (PROJECT / "README.md").read_text("utf-8")
    section = text.partition("\n## Settings\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([A-Z_]+)`", cell)}


def test_every_variable_the_code_reads_stands_in_the_readme() -> None:
    assert variables_in_the_code() - variables_in_the_readme() == set()


def test_every_variable_in_the_readme_is_read() -> None:
    assert variables_in_the_readme() - variables_in_the_code() == set()


def test_every_variable_in_the_readme_is_known_to_the_configuration() -> None:
    """One that is not would be reported as misspelled."""
    variables = Variables({"RECEIVER_CONFIG_TOML": "#"} | dict.fromkeys(OFTEN_MEANT, ""))
    load_settings(variables)

    assert variables_in_the_readme() - variables.asked == set()
    assert set(OFTEN_MEANT.values()) <= variables.asked


def test_the_first_command_needs_no_more_than_a_line_on_an_old_python() -> None:
    text = (PROJECT / "README.md").read_text("utf-8")
    first = text.partition("```shell\n")[2].partition("\n")[0]

    check = "python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "
    assert first.startswith(check)


def test_what_runs_in_ci_is_the_readmes_test_command_to_the_letter() -> None:
    root = Path(__file__).parent.parent.parent.parent
    answer = (root / "README.md").read_text("utf-8").partition("<!-- tests -->")[2]
    command = answer.partition("```shell\n")[2].partition("\n")[0]

    assert command.endswith("-m pytest")
    assert command in (root / ".ci" / "run").read_text("utf-8").splitlines()
