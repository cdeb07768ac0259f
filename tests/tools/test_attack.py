"""Each attack of `python -m tests.attack`, a little of it."""

from collections.abc import Iterator

import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.attack.attacks import ATTACKS, SHORT, run
from tests.attack.connections import allow_open_files
from tests.support.receiver_process import ReceiverProcess
from tests.support.visitor import PAGE


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    allow_open_files()
    with serving(EdgegapSandbox().app) as edgegap:
        folder = tmp_path_factory.mktemp("attack")
        one = ReceiverProcess(folder, edgegap, environment=PAGE, fresh=True)
        yield one.start()
        one.stop()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_breaks_nothing(receiver: ReceiverProcess, attack: str) -> None:
    found = run(ATTACKS[attack], receiver, SHORT)

    assert found.broken == (), found.figures
