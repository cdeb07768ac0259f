"""`receiver wait`: it ends with the result of the newest push, and with the documented code."""

import shutil
import threading
from pathlib import Path

import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.commands import Commands, commands_in
from tests.support.receiver_process import REPOSITORY, RULE

IMAGE = f"{REPOSITORY}:1.0.0"
PARKS = f"""
{RULE}
[[rule]]
repository = "studio/lobby"
app = "lobby"
preflight = false
"""


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a push that is done, one that is parked, one ignored, and one queued."""
    commands = commands_in(tmp_path_factory.mktemp("ledger"))
    commands.configure(PARKS)
    with serving(EdgegapSandbox(apps=("my-game", "lobby")).app) as edgegap:
        for image in (IMAGE, "studio/lobby:1.0.0"):
            commands.run("push", "--wait", image, EDGEGAP_BASE_URL=edgegap)
    commands.push("studio/other:1.0.0")
    commands.push(f"{REPOSITORY}:2.0.0")
    return commands.folder / "receiver.db"


@pytest.fixture
def ledger(commands: Commands, made_once: Path) -> Commands:
    """Commands beside a copy of it."""
    shutil.copy(made_once, commands.folder)
    return commands


def test_what_is_done_ends_with_0(ledger: Commands) -> None:
    done = ledger.run("wait", IMAGE)

    assert done.exit_code == 0, done.stderr
    assert f"{IMAGE}  accepted  my-game/1.0.0 done created" in done.stdout
    assert ledger.json_of("wait", IMAGE, "--json")["registrations"][0]["outcome"] == "created"


@pytest.mark.parametrize(
    ("image", "code", "sentence"),
    [
        ("studio/lobby:1.0.0", 1, "lobby/1.0.0 is parked no_settings: "),
        ("studio/other:1.0.0", 1, "it was ignored (no_rule): "),
        (f"{REPOSITORY}:9.9.9", 5, "no push of studio/game-server:9.9.9 is known: check"),
        (f"{REPOSITORY}:2.0.0", 6, "my-game/2.0.0 is queued."),
        ("no-tag", 2, "has no tag"),
    ],
)
def test_each_other_result_has_its_code_and_says_why(
    ledger: Commands, image: str, code: int, sentence: str
) -> None:
    done = ledger.run("wait", image, "--timeout", "0")

    assert (done.exit_code, sentence in done.stderr) == (code, True), done.stderr
    assert bool(done.stdout) == (code in {1, 6})


def test_a_push_without_the_digest_does_not_count(ledger: Commands) -> None:
    digest = f"sha256:{'a1' * 32}"

    done = ledger.run("wait", IMAGE, "--digest", digest, "--timeout", "0")

    assert (done.exit_code, f"no push of {IMAGE}@{digest} is known" in done.stderr) == (5, True)
    assert ledger.run("wait", IMAGE, "--digest", "sha256:1").exit_code == 2


def test_it_waits_for_a_push_that_comes_later(
    ledger: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()

    def sleep(_: float) -> None:
        if not looked.is_set():
            looked.set()
            ledger.push("studio/other:3.0.0")

    monkeypatch.setattr("receiver.cli.deliveries.time.sleep", sleep)

    done = ledger.run("wait", "studio/other:3.0.0", "--timeout", "60")

    assert looked.is_set()
    assert (done.exit_code, "it was ignored" in done.stderr) == (1, True)
