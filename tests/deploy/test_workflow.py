"""The workflow for a public host: valid, and it runs the same script on each Python."""

import tomllib

from tests.support.deploy import HERE, ran, tool

WORKFLOW = HERE / ".github/workflows/ci.yml"


def test_the_workflow_is_valid_and_runs_the_same_script() -> None:
    checker = tool("check-jsonschema", "pip install check-jsonschema")
    done = ran(checker, "--builtin-schema", "vendor.github-workflows", WORKFLOW)

    assert done.returncode == 0, done.stdout
    text = WORKFLOW.read_text("utf-8")
    assert "run: .ci/run" in text
    lowest = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f'["{lowest.removeprefix(">=")}",' in text
