"""On a disk that forgets, the receiver says at start what its ledger needs there."""

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.ledger.mounts import (
    EPHEMERAL_HOSTS,
    NO_VOLUMES,
    ephemeral_disk_warning,
    in_container,
    mount_of,
    unreachable,
)
from tests.conftest import StartReceiver
from tests.support.commands import commands_beside
from tests.support.deploy import DEPLOY, ran, tool

LEDGER = "/var/lib/receiver/receiver.db"


def mounted(place: str, kind: str, source: str = "/") -> str:
    """One line of /proc/self/mountinfo."""
    return f"36 35 98:0 {source} {place} rw,noatime master:1 - {kind} /dev/x rw,errors=continue\n"


BARE = mounted("/", "overlay") + mounted("/proc", "proc") + mounted("/dev", "tmpfs")
VOLUME = BARE + mounted("/var/lib/receiver", "ext4")
POD = "/var/lib/kubelet/pods/5f1c/volumes/"
MEMORY = Path("/dev/shm")  # noqa: S108 -- memory on every Linux, which is what is asked of it
MOUNTS = Path("/proc/self/mountinfo")
HAS_VOLUMES = sorted(set(EPHEMERAL_HOSTS) - NO_VOLUMES)


def test_the_hosts_are_known_by_what_they_set_themselves() -> None:
    """Heroku's, Render's, Fly.io's, Railway's, Koyeb's, Cloud Run's, Kubernetes' own words."""
    own = "DYNO RENDER FLY_APP_NAME RAILWAY_ENVIRONMENT_ID KOYEB_APP_NAME K_SERVICE"
    assert [*EPHEMERAL_HOSTS] == [*own.split(), "KUBERNETES_SERVICE_HOST"]


@pytest.mark.parametrize("variable", EPHEMERAL_HOSTS)
def test_a_ledger_in_a_file_on_a_forgetful_host_is_warned_of(variable: str) -> None:
    warning = ephemeral_disk_warning({variable: "x"}, LEDGER, BARE)

    assert warning is not None
    assert EPHEMERAL_HOSTS[variable][0] in warning
    assert "DATABASE_URL" in warning
    assert ("volume, or" in warning) == (variable in HAS_VOLUMES)


@pytest.mark.parametrize("variable", HAS_VOLUMES)
def test_a_ledger_on_a_volume_is_not_warned_of(variable: str) -> None:
    assert ephemeral_disk_warning({variable: "x"}, LEDGER, VOLUME) is None


@pytest.mark.parametrize("variable", sorted(NO_VOLUMES))
def test_where_no_volume_is_safe_none_hushes_the_warning(variable: str) -> None:
    assert ephemeral_disk_warning({variable: "x"}, LEDGER, VOLUME) is not None


@pytest.mark.parametrize("variable", EPHEMERAL_HOSTS)
def test_a_ledger_on_postgresql_is_not_warned_of(variable: str) -> None:
    assert ephemeral_disk_warning({variable: "x"}, None, BARE) is None


@pytest.mark.parametrize("environ", [{}, {"DYNO": " "}, {"HOME": "/root", "RENDERER": "x"}])
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", ""])
def test_elsewhere_nothing_is_said(environ: dict[str, str], kind: str) -> None:
    mounts = mounted("/", kind, "/@") + mounted("/proc", "proc") if kind else ""

    assert ephemeral_disk_warning(environ, LEDGER, mounts) is None


@pytest.mark.parametrize(
    ("mounts", "path", "lasts"),
    [
        (VOLUME, LEDGER, True),
        (VOLUME, "/var/lib/receiver-of-old/receiver.db", False),
        (BARE + mounted("/var/lib/receiver", "tmpfs"), LEDGER, False),
        (VOLUME + mounted("/var/lib/receiver", "tmpfs"), LEDGER, False),
        (BARE + mounted("/var", "tmpfs") + mounted("/var/lib/receiver", "ext4"), LEDGER, True),
        (VOLUME + mounted("/var", "tmpfs"), LEDGER, True),
        (mounted("/", "ext4"), LEDGER, False),
        (BARE + mounted("/my\\040data", "ext4"), "/my data/receiver.db", True),
        ("", LEDGER, False),
    ],
)
def test_a_volume_is_the_deepest_mount_that_is_neither_memory_nor_layers(
    mounts: str, path: str, lasts: bool
) -> None:
    assert mount_of(path, mounts).lasts is lasts


@pytest.mark.parametrize(
    ("source", "lasts"),
    [
        (POD + "kubernetes.io~empty-dir/ledger", False),
        (POD + "kubernetes.io~empty-dir/ledger/a-sub-path", False),
        (POD + "kubernetes.io~csi/pvc-1/mount", True),
        (POD + "kubernetes.io~local-volume/pv-1", True),
        ("/", True),
        ("/srv/kubernetes.io~empty-directory", True),
    ],
)
def test_in_a_pod_an_empty_dir_is_no_volume(source: str, lasts: bool) -> None:
    mounts = BARE + mounted("/var/lib/receiver", "ext4", source)
    warning = ephemeral_disk_warning({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, LEDGER, mounts)

    assert (warning is None) is lasts
    assert lasts or "emptyDir" in str(warning)


def test_an_empty_dir_is_recognized_as_the_kubelet_mounts_it(tmp_path: Path) -> None:
    unshare = tool("unshare", "apt-get install util-linux")
    if os.geteuid() != 0:
        pytest.skip("only root may mount, so this is not proven here")
    source = tmp_path / "pods/5f1c/volumes/kubernetes.io~empty-dir/led ger"
    place = tmp_path / "var lib"
    for folder in (source, place):
        folder.mkdir(parents=True)
    asks = (
        "import sys, pathlib; from receiver.ledger.mounts import mount_of;"
        "print(mount_of(sys.argv[1], pathlib.Path('/proc/self/mountinfo').read_text()).lasts)"
    )
    bind = 'mount --bind "$1" "$2"; shift 2; exec "$@"'

    def lasts(source: Path) -> str:
        asked = (sys.executable, "-c", asks, place / "receiver.db")
        return ran(unshare, "--mount", "sh", "-ec", bind, "sh", source, place, *asked).stdout

    assert lasts(source) == "False\n"
    assert lasts(tmp_path / "pods") == "True\n"


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
@pytest.mark.parametrize("place", ["/", "/var/lib/receiver"])
def test_a_ledger_in_memory_is_warned_of_anywhere(kind: str, place: str) -> None:
    warning = ephemeral_disk_warning({}, LEDGER, BARE + mounted(place, kind))

    assert warning is not None
    assert f"{kind} at {place})" in warning
    assert ephemeral_disk_warning({}, None, BARE + mounted(place, kind)) is None


@pytest.mark.parametrize(
    ("environ", "marks", "mounts", "contained"),
    [
        ({}, (), mounted("/", "ext4"), False),
        ({}, (), "", False),
        ({}, ("/.dockerenv",), mounted("/", "ext4"), True),
        ({}, ("/run/.containerenv",), mounted("/", "ext4"), True),
        ({"container": "podman"}, (), mounted("/", "ext4"), True),
        ({"container": "lxc"}, (), mounted("/", "ext4"), False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, (), mounted("/", "ext4"), True),
        ({"ECS_CONTAINER_METADATA_URI_V4": "http://x"}, (), mounted("/", "ext4"), True),
        ({}, (), mounted("/", "overlay"), True),
    ],
)
def test_a_container_is_known_by_its_marks(
    environ: dict[str, str], marks: tuple[str, ...], mounts: str, contained: bool
) -> None:
    assert in_container(environ, marks, mounts) is contained


def test_in_a_container_the_default_address_is_warned_of() -> None:
    warning = unreachable("127.0.0.1", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, contained=True)

    assert warning is not None
    assert "inside a pod" in warning
    assert "HOST=0.0.0.0" in warning
    assert "inside a container" in str(unreachable("::1", {}, contained=True))
    assert unreachable("127.0.0.1", {}, contained=False) is None
    assert unreachable("127.0.0.1", {"HOST": "127.0.0.1"}, contained=True) is None


@pytest.mark.parametrize(
    ("host", "asked"),
    [("::", "::"), ("0.0.0.0", "0.0.0.0"), ("::1", '"[::1]"')],  # noqa: S104
)
def test_the_images_health_check_asks_where_it_listens_and_no_proxy(
    start: StartReceiver, host: str, asked: str
) -> None:
    """It asked 127.0.0.1 by way of HTTP_PROXY, which Docker hands to each container."""
    words = (DEPLOY / "Dockerfile").read_text("utf-8").partition("HEALTHCHECK")[2]
    program, *check = json.loads(words.partition("CMD ")[2].partition("\n")[0])
    assert program == "python3"
    nowhere = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    receiver = start(environment={**nowhere, "HOST": host})
    port = receiver.url.rpartition(":")[2]

    def healthy(port: str) -> bool:
        variables = {**nowhere, "HOST": asked, "PORT": port}
        return ran(sys.executable, *check, environment=variables).returncode == 0

    assert healthy(port)
    receiver.kill()
    assert not healthy(port)
    assert not healthy("none")


@given(st.text(), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@example("/", "a / b\n1 2 3 //// /// - ext4\n1 2 3 \\777 \\777 - \\777")
def test_no_text_of_mounts_breaks_it_and_the_root_is_never_a_volume(mounts: str, name: str) -> None:
    assert mount_of("/" + name, mounts).lasts in {True, False}
    assert mount_of("/" + name, mounted("/", "ext4")).lasts is False


def test_the_server_warns_once_of_its_disk_and_its_address_and_doctor_does(
    start: StartReceiver,
) -> None:
    receiver = start(environment={"DYNO": "web.1", "HOST": ""})

    lines = [json.loads(line) for line in receiver.log.read_text("utf-8").splitlines()]
    (disk,) = [line for line in lines if line["event"] == "ledger_on_ephemeral_disk"]
    assert disk["level"] == "warning"
    assert disk["ledger"] == str((receiver.folder / "receiver.db").resolve())
    assert "Heroku" in disk["sentence"]
    (address,) = [line for line in lines if line["event"] == "address_not_reachable"]
    assert (address["level"], "HOST=0.0.0.0" in address["sentence"]) == ("warning", True)
    done = commands_beside(receiver).run("doctor")
    assert "warn  address: the receiver listens on 127.0.0.1" in done.stdout


def test_the_server_says_nothing_of_it_at_home(start: StartReceiver, tmp_path: Path) -> None:
    if not MOUNTS.exists() or mount_of(str(tmp_path), MOUNTS.read_text()).kind == "tmpfs":
        pytest.skip("the temporary folder here is in memory itself, so this is not proven here")
    quiet = dict.fromkeys(EPHEMERAL_HOSTS, "")
    assert "ledger_on_ephemeral_disk" not in start(environment=quiet).log.read_text("utf-8")


def test_the_server_says_it_of_a_ledger_in_memory(start: StartReceiver, tmp_path: Path) -> None:
    if not MEMORY.is_dir() or mount_of(str(MEMORY / "x"), MOUNTS.read_text()).kind != "tmpfs":
        pytest.skip(f"{MEMORY} is no memory here, so this is not proven here")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        database = {"DATABASE_URL": f"sqlite:///{folder}/receiver.db"}
        receiver = start(environment={**dict.fromkeys(EPHEMERAL_HOSTS, ""), **database})
        assert "ledger_on_ephemeral_disk" in receiver.log.read_text("utf-8")
        receiver.stop()
