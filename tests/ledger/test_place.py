"""Disks on which a SQLite ledger is not safe: refused if pushes would be lost, else warned of."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from receiver.errors import LedgerError
from receiver.ledger import files
from receiver.ledger.ledger import Ledger
from receiver.ledger.mounts import BESIDE, ephemeral_disk_warning, mounted_alone, unsafe_disk
from tests.conftest import StartReceiver
from tests.deploy.test_ephemeral_disks import BARE, LEDGER, VOLUME, mounted
from tests.support.commands import Commands
from tests.support.deploy import ran, tool
from tests.support.receiver_process import ReceiverProcess

NOBODY = 65_534
ID = "3f" * 32
UNSAFE = [
    "nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre", "9p", "virtiofs", "vboxsf",
    "ocfs2", "gfs2", "fuse.ceph-fuse", "fuse.glusterfs",
    "prl_fs", "drvfs", "fakeowner", "fuse", "fuseblk", "fuse.s3fs", "fuse.sshfs", "fuse.gcsfuse",
    "fuse.grpcfuse", "fuse.osxfs", "fuse.made-next-year",
]  # fmt: skip
OPENS = (
    "import sys; from sqlalchemy.engine import URL; from receiver.ledger.ledger import Ledger;"
    "ledger = Ledger(URL.create('sqlite', database=sys.argv[1]));"
    "(ledger.open_to_write if sys.argv[2] == 'write' else ledger.open_readonly)()"
)


@pytest.mark.parametrize("kind", UNSAFE)
def test_a_ledger_on_a_network_disk_or_fuse_is_warned_of(kind: str) -> None:
    mounts = BARE + mounted("/var/lib/receiver", kind)

    warning = unsafe_disk(LEDGER, mounts)

    assert warning is not None
    assert f"({kind} at /var/lib/receiver)" in warning
    assert "PostgreSQL" in warning
    assert unsafe_disk(None, mounts) is None
    assert unsafe_disk(LEDGER, mounts + mounted("/var/lib/receiver", "ext4")) is None


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "tmpfs"])
def test_a_ledger_on_a_local_disk_is_not(kind: str) -> None:
    assert unsafe_disk(LEDGER, BARE + mounted("/var/lib/receiver", kind)) is None
    assert unsafe_disk(LEDGER, BARE + mounted("/var/lib/receiver-of-old", "nfs4")) is None
    assert unsafe_disk(LEDGER, "") is None


def test_a_cluster_disk_is_named_as_one() -> None:
    warning = unsafe_disk(LEDGER, mounted("/var/lib/receiver", "gfs2"))

    assert warning is not None
    assert "on a cluster file system (gfs2 at /var/lib/receiver)" in warning


def test_a_volume_that_a_forgetful_host_mounts_by_network_is_warned_of() -> None:
    """A volume that lasts ended the look: a pod's ledger on EFS was not warned of."""
    mounts = BARE + mounted("/var/lib/receiver", "nfs4")

    assert ephemeral_disk_warning({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, LEDGER, mounts) is None
    assert unsafe_disk(LEDGER, mounts) is not None


def root(kind: str, source: str = "/", device: str = "/dev/sda1") -> str:
    return f"36 35 98:0 {source} / rw - {kind} {device} rw\n"


@pytest.mark.parametrize(
    "mounts",
    [
        root("overlay"),
        root("aufs"),
        root("fuse.fuse-overlayfs"),
        root("btrfs", f"/var/lib/docker/btrfs/subvolumes/{ID}"),
        root("btrfs", f"/home/me/.local/share/containers/storage/btrfs/subvolumes/{ID}"),
        root("ext4", f"/srv/elsewhere/vfs/dir/{ID}"),
        root("zfs", "/", f"tank/{ID}"),
        root("ext4", "/", "/dev/mapper/docker-8:1-1054-abc"),
        root("xfs", "/", "/dev/mapper/pool-snap-12"),
        root("ext4") + mounted("/var", "overlay"),
    ],
)
def test_a_ledger_in_a_containers_own_layer_is_warned_of(mounts: str) -> None:
    warning = ephemeral_disk_warning({}, LEDGER, mounts)

    assert warning is not None
    assert "mount a volume at /var/lib/receiver" in warning
    assert ephemeral_disk_warning({}, LEDGER, mounts + mounted("/var/lib/receiver", "ext4")) is None


@pytest.mark.parametrize(
    "mounts",
    [
        root("ext4"),
        root("btrfs", "/@/.snapshots/1/snapshot"),
        root("zfs", "/", "rpool/ROOT/ubuntu_1a2b3c"),
        root("xfs", "/", "/dev/mapper/debian--vg-root"),
        # In a container that runs containers: its own disk is an overlay, and so is its volume.
        root("overlay")
        + mounted("/var/lib/receiver", "overlay", "/var/lib/docker/volumes/a/_data"),
        root("overlay")
        + mounted("/var/lib/receiver", "ext4", f"/var/lib/docker/volumes/{ID}/_data"),
    ],
)
def test_a_machines_own_disk_and_a_volume_are_not(mounts: str) -> None:
    assert ephemeral_disk_warning({}, LEDGER, mounts) is None


@pytest.mark.parametrize("ending", BESIDE)
def test_a_file_of_the_ledger_that_is_mounted_alone_is_refused(ending: str) -> None:
    sentence = mounted_alone(LEDGER, VOLUME + mounted(LEDGER + ending, "ext4", "/home/me/x.db"))

    assert sentence is not None
    assert sentence.startswith(f"{LEDGER}{ending} is a mount point")
    assert "Mount the directory /var/lib/receiver instead" in sentence
    assert "subPath" in sentence


def test_a_name_that_the_kernel_escapes_is_found() -> None:
    mounts = mounted("/my\\040data\\134x/receiver.db", "ext4")

    assert mounted_alone("/my data\\x/receiver.db", mounts) is not None
    assert mounted_alone("/my\\040data\\134x/receiver.db", mounts) is None


def test_a_folder_that_is_mounted_is_as_it_should_be() -> None:
    assert mounted_alone(LEDGER, VOLUME + mounted("/var/lib/receiver/backups", "ext4")) is None
    assert mounted_alone(LEDGER, "") is None


@pytest.fixture
def unshare() -> str:
    if os.geteuid() != 0:
        pytest.skip("only root may mount, so this is not proven here")
    return tool("unshare", "apt-get install util-linux")


def bound(unshare: str, source: Path, place: Path, *command: str | Path) -> tuple[str, ...]:
    """Run a command for which the source is mounted at the place."""
    bind = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    return tuple(map(str, (unshare, "--mount", "sh", "-ec", bind, "sh", source, place, *command)))


@pytest.mark.parametrize("ending", ["", "-wal", ".lock"])
@pytest.mark.parametrize("how", ["write", "read"])
def test_the_kernel_shows_a_file_that_is_mounted_alone(
    unshare: str, tmp_path: Path, ending: str, how: str
) -> None:
    """20 of 20 pushes that were answered 202 were gone with the container."""
    folder, kept, link = tmp_path / "da ta", tmp_path / "kept", tmp_path / "link.db"
    folder.mkdir()
    link.symlink_to(folder / "receiver.db")
    for path in (folder / "receiver.db", folder / f"receiver.db{ending}", kept):
        path.touch()

    opens = (sys.executable, "-c", OPENS, link, how)
    refused = ran(*bound(unshare, kept, folder / f"receiver.db{ending}", *opens))

    assert f"receiver.db{ending} is a mount point of its own" in refused.stdout
    assert set(folder.iterdir()) == {folder / "receiver.db", folder / f"receiver.db{ending}"}
    allowed = ran(*bound(unshare, tmp_path, tmp_path, *opens))
    assert allowed.returncode == (0 if how == "write" else 1), allowed.stdout
    assert "mount" not in allowed.stdout


def test_each_command_refuses_it_in_one_sentence(
    unshare: str, commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / "kept.db").touch()
    (tmp_path / "receiver.db").touch()
    receiver = (sys.executable, "-m", "receiver")
    for arguments, code in (
        (("serve",), 4),
        (("push", "studio/game-server:1.0"), 4),
        (("deliveries",), 4),
    ):
        done = subprocess.run(
            bound(unshare, tmp_path / "kept.db", tmp_path / "receiver.db", *receiver, *arguments),
            cwd=tmp_path,
            env={**os.environ, **commands.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert "Mount the directory" in done.stderr


def test_doctor_says_the_same(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = commands.folder.resolve() / "receiver.db"
    mounts = commands.folder / "mounts"
    monkeypatch.setattr(files, "MOUNTS", mounts)

    def found(text: str) -> dict[str, str]:
        mounts.write_text(text, "utf-8")
        rows = [json.loads(line) for line in commands.run("doctor", "--json").stdout.splitlines()]
        return {row["what"]: f"{row['health']} {row['found']}" for row in rows}

    on_nfs = found(mounted(str(ledger.parent), "nfs4"))
    assert on_nfs["ledger's disk"].startswith("warn the ledger is on a network file system")
    in_layer = found(mounted("/", "overlay"))
    assert in_layer["ledger's disk"].startswith("warn the ledger is in the container's own layer")
    ledger.touch()
    assert found(mounted(str(ledger), "ext4"))["ledger"].startswith(f"fail {ledger} is a mount")


def test_the_server_warns_of_a_network_disk_in_its_log(
    unshare: str, commands: Commands, tmp_path: Path
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(mounted(str(tmp_path.resolve()), "fuse.s3fs"), "utf-8")
    shows = f'mount --bind "{mounts}" /proc/$$/mountinfo; exec "$@"'
    command = (unshare, "--mount", "sh", "-ec", shows, "sh", sys.executable, "-m", "receiver")
    with subprocess.Popen(
        (*command, "serve", "--port", "0"),
        cwd=tmp_path,
        env={**os.environ, **commands.environment},
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        assert serving.stderr is not None
        said = next(line for line in serving.stderr if "ledger_on_unsafe_disk" in line)
        serving.kill()

    assert json.loads(said)["level"] == "warning"
    assert "fuse.s3fs" in json.loads(said)["sentence"]


def test_a_folder_that_is_not_there_is_named(commands: Commands) -> None:
    nowhere = f"sqlite:///{commands.folder}/nowhere/receiver.db"

    for arguments in (("deliveries",), ("push", "studio/game-server:1.0"), ("pause", "--all")):
        done = commands.run(*arguments, DATABASE_URL=nowhere)
        assert done.exit_code == 4
        assert f"there is no folder {commands.folder}/nowhere" in done.stderr


def test_a_symbolic_link_that_leads_to_itself_is_named(commands: Commands) -> None:
    ledger = commands.folder / "receiver.db"
    ledger.symlink_to(ledger)

    for arguments in (("serve",), ("deliveries",)):
        done = commands.run(*arguments)
        assert done.exit_code == 4
        assert f"{ledger} is a symbolic link that leads back to itself" in done.stderr
    assert finding_of_doctor(commands)["health"] == "fail"


@pytest.mark.parametrize("end", ["-wal", "-shm", ".lock"])
def test_a_folder_with_the_name_of_a_file_beside_the_ledger_is_named(
    commands: Commands, end: str
) -> None:
    """As Docker creates one if the file to mount is missing; doctor found nothing wrong."""
    folder = commands.folder / f"receiver.db{end}"
    folder.mkdir()

    done = commands.run("serve")

    assert done.exit_code == 4
    assert f"{folder.name} is a folder" in done.stderr
    assert folder.name in finding_of_doctor(commands)["found"]


@pytest.mark.parametrize("place", ["receiver.toml/receiver.db", "x" * 300])
def test_doctor_passes_no_ledger_that_cannot_be_made(commands: Commands, place: str) -> None:
    url = f"sqlite:///{commands.folder}/{place}"

    assert finding_of_doctor(commands, DATABASE_URL=url)["health"] == "fail"


def test_doctor_passes_a_ledger_that_is_not_there_yet(commands: Commands) -> None:
    assert finding_of_doctor(commands)["health"] == "pass"


def finding_of_doctor(commands: Commands, **environment: str) -> dict[str, str]:
    done = commands.run("doctor", "--json", **environment)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found: dict[str, str] = next(row for row in rows if row["what"] == "ledger")
    return found


@pytest.mark.parametrize(("name", "mode"), [("", 0o555), ("receiver.db", 0o444), ("-shm", 0o400)])
def test_who_owns_a_ledger_that_may_not_be_written_is_named(name: str, mode: int) -> None:
    """A command run once as root leaves files that the receiver's own user may not write."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user, so this is not proven here")
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are root's alone
        folder = Path(made)
        path, shm = folder / "receiver.db", folder / "receiver.db-shm"
        ledger = Ledger(URL.create("sqlite", database=str(path)))
        ledger.open_to_write()
        ledger.close()
        shm.touch()
        for one in (folder, *folder.iterdir()):
            os.chown(one, NOBODY, NOBODY)
        one = {"": folder, "receiver.db": path, "-shm": shm}[name]
        os.chown(one, 0, 0)
        one.chmod(mode)

        asked = [sys.executable, "-c", AS_NOBODY, str(path)]
        fault = subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    assert f"{one} belongs to user root (mode {mode:04o})" in fault
    assert "this is user nobody" in fault


AS_NOBODY = f"""
import os, sys
from sqlalchemy.engine import URL
from receiver.errors import LedgerError
from receiver.ledger.ledger import Ledger
os.setgid({NOBODY})
os.setuid({NOBODY})
try:
    Ledger(URL.create("sqlite", database=sys.argv[1])).open_to_write(wait_seconds=0)
except LedgerError as error:
    print(error)
"""


def test_a_ledger_out_of_reach_is_refused_in_a_sentence(
    start: StartReceiver, tmp_path: Path
) -> None:
    answer = ReceiverProcess(tmp_path, "http://127.0.0.1:9")
    answer.environment["DATABASE_URL"] = (
        f"sqlite:///{answer.config}/receiver.db"  # a file as folder
    )

    done = answer.run("deliveries")

    assert done.returncode == 4
    assert "there is no folder" in done.stderr
    with pytest.raises(LedgerError):
        Ledger(URL.create("sqlite", database=f"{answer.config}/x.db")).open_to_write()
