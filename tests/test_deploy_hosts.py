"""On a host whose disk forgets, the receiver says at start what its ledger needs there."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.hosts import FORGETFUL, NO_VOLUMES, forgetting_host, on_a_volume
from tests.conftest import StartReceiver

LEDGER = "/var/lib/receiver/receiver.db"
BARE = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\ntmpfs /dev tmpfs rw 0 0\n"
VOLUME = BARE + "/dev/vdb /var/lib/receiver ext4 rw 0 0\n"
HAS_VOLUMES = sorted(set(FORGETFUL) - NO_VOLUMES)


@pytest.mark.parametrize("variable", FORGETFUL)
def test_a_ledger_in_a_file_on_a_forgetful_host_is_warned_of(variable: str) -> None:
    warning = forgetting_host({variable: "x"}, LEDGER, BARE)

    assert warning is not None
    assert FORGETFUL[variable][0] in warning
    assert "DATABASE_URL" in warning
    assert ("volume, or" in warning) == (variable in HAS_VOLUMES)


@pytest.mark.parametrize("variable", HAS_VOLUMES)
def test_a_ledger_on_a_volume_is_not_warned_of(variable: str) -> None:
    assert forgetting_host({variable: "x"}, LEDGER, VOLUME) is None


@pytest.mark.parametrize("variable", sorted(NO_VOLUMES))
def test_where_no_volume_is_safe_none_hushes_the_warning(variable: str) -> None:
    assert forgetting_host({variable: "x"}, LEDGER, VOLUME) is not None


@pytest.mark.parametrize("variable", FORGETFUL)
def test_a_ledger_on_postgresql_is_not_warned_of(variable: str) -> None:
    assert forgetting_host({variable: "x"}, None, BARE) is None


@pytest.mark.parametrize("environ", [{}, {"DYNO": " "}, {"HOME": "/root", "RENDERER": "x"}])
def test_elsewhere_nothing_is_said(environ: dict[str, str]) -> None:
    assert forgetting_host(environ, LEDGER, BARE) is None


@pytest.mark.parametrize(
    ("mounts", "path", "is_one"),
    [
        (VOLUME, LEDGER, True),
        (VOLUME, "/var/lib/receiver-of-old/receiver.db", False),
        (BARE + "tmpfs /var/lib/receiver tmpfs rw 0 0\n", LEDGER, False),
        (VOLUME + "tmpfs /var/lib/receiver tmpfs rw 0 0\n", LEDGER, False),
        (BARE + "tmpfs /var tmpfs rw 0 0\n" + VOLUME, LEDGER, True),
        (VOLUME + "tmpfs /var tmpfs rw 0 0\n", LEDGER, True),
        ("/dev/vda / ext4 rw 0 0\n", LEDGER, False),
        (BARE + "/dev/vdb /my\\040data ext4 rw 0 0\n", "/my data/receiver.db", True),
        ("", LEDGER, False),
    ],
)
def test_a_volume_is_the_deepest_mount_that_is_neither_memory_nor_layers(
    mounts: str, path: str, is_one: bool
) -> None:
    assert on_a_volume(path, mounts) is is_one


@given(st.text(), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@example("/", "a / b\n//// /// ext4\n\\777 \\777 \\777")
def test_no_text_of_mounts_breaks_it_and_the_root_is_never_a_volume(mounts: str, name: str) -> None:
    assert on_a_volume("/" + name, mounts) in {True, False}
    assert on_a_volume("/" + name, "/dev/vda / ext4 rw 0 0") is False


def test_the_server_says_it_once_in_its_log(start: StartReceiver) -> None:
    receiver = start(environment={"DYNO": "web.1"})

    lines = [json.loads(line) for line in receiver.log.read_text("utf-8").splitlines()]
    said = [line for line in lines if line["event"] == "ledger_may_be_forgotten"]
    assert len(said) == 1
    assert said[0]["level"] == "warning"
    assert said[0]["ledger"] == str((receiver.folder / "receiver.db").resolve())
    assert "Heroku" in said[0]["sentence"]


def test_the_server_says_nothing_of_it_at_home(start: StartReceiver) -> None:
    quiet = dict.fromkeys(FORGETFUL, "")
    assert "ledger_may_be_forgotten" not in start(environment=quiet).log.read_text("utf-8")
