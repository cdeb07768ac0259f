"""A skipped test is reported with its reason, and if CI is set none may be skipped."""

import sys
from pathlib import Path

import pytest

from tests.support.deploy import HERE, ran

SKIPS = """
import pytest


def test_it() -> None:
    pytest.skip("a thing is not installed: apt-get install it")
"""


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_a_skipped_test_says_why_and_is_refused_where_all_is_installed(
    tmp_path: Path, ci: str, code: int
) -> None:
    (tmp_path / "test_it.py").write_text(SKIPS, "utf-8")
    ours = ("-c", HERE / "pyproject.toml", "-p", "tests.conftest", "--rootdir", tmp_path)
    alone = {"CI": ci, "PYTEST_ADDOPTS": "-n 1"}

    done = ran(sys.executable, "-m", "pytest", *ours, tmp_path, environment=alone)

    assert done.returncode == code, done.stdout
    assert "a thing is not installed: apt-get install it" in done.stdout
