"""Completion in shells: click's own, with our streams and our lazy commands."""

import os
import subprocess
import sys

import pytest

START = (sys.executable, "-c", "from receiver.__main__ import main; main()")


def completed(shell: str, *words: str) -> str:
    """Return what a shell gets for the last of the words."""
    word = words[-1] if shell == "fish" else str(len(words) - 1)
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": word}
    done = subprocess.run(
        START,
        env={**os.environ, **asked, "_RECEIVER_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_completes_commands_options_and_words(shell: str) -> None:
    assert "deliveries" in completed(shell, "receiver", "deliv")
    assert "--verdict" in completed(shell, "receiver", "deliveries", "--verd")
    assert "parked" in completed(shell, "receiver", "deliveries", "--state", "pa")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    done = subprocess.run(
        START,
        env={**os.environ, "_RECEIVER_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert f"_RECEIVER_COMPLETE={shell}_complete" in done.stdout
    assert "Traceback" not in done.stderr
