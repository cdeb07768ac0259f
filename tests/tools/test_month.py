"""A few days; `python -m tests.month` is the month."""

import subprocess
import sys

import pytest

SHORT = ("--pushes", "200", "--repositories", "5", "--days", "0.4", "--seed", "7")


@pytest.mark.timeout(900)  # 30 s of work, on a machine that may be busy
def test_every_version_is_correct_after_days_with_every_fault() -> None:
    # In a process of its own: it replaces the clock.
    program = (sys.executable, "-m", "tests.month", *SHORT)
    done = subprocess.run(program, capture_output=True, text=True, timeout=880, check=False)

    print(done.stdout, done.stderr, file=sys.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pushes: 200" in done.stdout
    assert "SOUND (seed 7)" in done.stdout.splitlines()
