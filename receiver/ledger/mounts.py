"""Hosts on which a receiver loses data: ephemeral disks, disks unsafe for SQLite; addresses."""

import re
from collections.abc import Collection, Mapping

import msgspec

from receiver.http.proxies import is_loopback

# A variable that the host sets → the host's name, and why its disk is ephemeral.
EPHEMERAL_HOSTS = {
    "DYNO": ("Heroku", "its disk is emptied at each restart, at least once a day"),
    "RENDER": ("Render", "without a disk of its own, each deploy empties it"),
    "FLY_APP_NAME": ("Fly.io", "without a volume, each deploy and restart empties it"),
    "RAILWAY_ENVIRONMENT_ID": ("Railway", "without a volume, each deploy empties it"),
    "KOYEB_APP_NAME": ("Koyeb", "without a volume, each deploy empties it"),
    "K_SERVICE": ("Cloud Run", "its disk is memory, and gone with the instance"),
    "KUBERNETES_SERVICE_HOST": (
        "Kubernetes",
        "without a lasting volume, and an emptyDir is none, it is gone with the pod",
    ),
}
NO_VOLUMES = frozenset({"DYNO", "K_SERVICE"})  # hosts without a volume that is safe for SQLite
MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
# At "/", these indicate a storage driver that puts a container's layer on an ordinary file system:
# Docker's and Podman's vfs, btrfs and zfs, Docker's devicemapper, containerd's snapshotters.
_DRIVER = re.compile(
    r"/docker/|/containers/storage/|containerd|/dev/mapper/docker-|-snap-\d+$|[0-9a-f]{64}"
)
EMPTY_DIR = "/kubernetes.io~empty-dir/"  # in the path that the kubelet mounts it from
NETWORK = frozenset({
    "nfs", "nfs3", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph",
    "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "wekafs", "panfs", "davfs",
})  # fmt: skip
# One disk that several machines have mounted at a time.
CLUSTERED = frozenset({"ocfs2", "gfs", "gfs2", "acfs", "cvfs"})
# A folder of the host, shared with a virtual machine: the host and other machines open it, too.
SHARED = frozenset(
    {"9p", "virtiofs", "vboxsf", "prl_fs", "vmhgfs", "drvfs", "fakeowner", "osxfs", "grpcfuse"}
)
FUSE = frozenset({"fuse", "fuseblk", "sshfs", "s3fs", "gcsfuse", "rclone"})  # and fuse.NAME
# Files that container engines put into each container.
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
CONTAINER_NAMES = frozenset({"docker", "podman", "oci", "crio", "containerd"})  # in $container
CONTAINER_VARIABLES = (*EPHEMERAL_HOSTS, "ECS_CONTAINER_METADATA_URI_V4", "CONTAINER_APP_NAME",
                       "NOMAD_ALLOC_ID")  # fmt: skip
BESIDE = ("", "-wal", "-shm", "-journal", ".lock")  # suffixes of the ledger's files
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(msgspec.Struct, frozen=True):
    """The mount of a file: `source` is the folder of its file system that is mounted at `place`."""

    place: str
    source: str
    kind: str
    device: str = ""

    @property
    def lasts(self) -> bool:
        """Whether it is a volume, which outlives the container or machine that mounts it."""
        passing = self.kind in MEMORY or EMPTY_DIR in self.source + "/"
        return self.place != "/" and not passing and not self.layer

    @property
    def layer(self) -> bool:
        """Whether it is a container's own layer, which is deleted with the container.

        A folder of another overlay is a volume: of a machine or container whose own disk is one.
        """
        if self.kind in LAYERS:
            return "/" in {self.place, self.source}
        driver = f"{self.source} {self.device}"
        return self.place == "/" and _DRIVER.search(driver) is not None


def ephemeral_disk_warning(
    environ: Mapping[str, str], ledger: str | None, mounts: str
) -> str | None:
    """Return a warning if the ledger's file is on an ephemeral disk, else None.

    `ledger` is the file's absolute path, None if it is on PostgreSQL; `mounts` is the text of
    /proc/self/mountinfo, empty if there is none.
    """
    if ledger is None:
        return None
    mount = mount_of(ledger, mounts)
    for variable, (host, why) in EPHEMERAL_HOSTS.items():
        if not environ.get(variable, "").strip():
            continue
        if variable not in NO_VOLUMES and mount.lasts:
            return None
        volume = "" if variable in NO_VOLUMES else "put the ledger on a lasting volume, or "
        return _warning(f"this is {host}, and the ledger is a file there: {why}", volume)
    if mount.kind in MEMORY:
        where = f"the ledger is a file in memory ({mount.kind} at {mount.place})"
        return _warning(f"{where}: it is gone when the machine restarts", "put it on a disk, or ")
    if mount.layer:
        where = f"the ledger is in the container's own layer ({mount.kind} at {mount.place})"
        volume = f"mount a volume at {ledger.rpartition('/')[0] or '/'}, or "
        return _warning(f"{where}: it is deleted with the container", volume)
    return None


def unsafe_disk(ledger: str | None, mounts: str) -> str | None:
    """Return a warning if SQLite's write-ahead log is not safe on the ledger's file system.

    It needs memory and locks that all openers of the file share: https://sqlite.org/wal.html.
    """
    mount = mount_of(ledger, mounts) if ledger is not None else None
    if mount is None or mount.kind in LAYERS:
        return None
    if mount.kind in NETWORK:
        what = "a network file system"
    elif mount.kind in CLUSTERED:
        what = "a cluster file system"
    elif mount.kind in SHARED or mount.kind.removeprefix("fuse.") in SHARED:
        what = "a folder that a virtual machine shares with its host"
    elif mount.kind in FUSE or mount.kind.startswith("fuse."):
        what = "a FUSE file system"
    else:
        return None
    return (
        f"the ledger is on {what} ({mount.kind} at {mount.place}), where SQLite's write-ahead log "
        "is not safe: accepted pushes may be lost and the file damaged. Put the ledger on a local "
        "disk or volume, or set DATABASE_URL to a PostgreSQL."
    )


def mounted_alone(ledger: str, mounts: str) -> str | None:
    """Return why the ledger is refused if one of its files is itself a mount point, else None.

    Its files would be on different disks: in a container, new pushes would be in a log that is
    deleted with the container, and a second receiver would take another lock.
    """
    places = {mount.place for mount in _read(mounts)}
    alone = next((ledger + end for end in BESIDE if ledger + end in places), None)
    if alone is None:
        return None
    folder, _, name = ledger.rpartition("/")
    return (
        f"{alone} is a mount point of its own. SQLite keeps new pushes in {name}-wal beside "
        f"{name}, so all of the ledger's files must be on one volume; otherwise accepted pushes "
        f"are lost with the container. Mount the directory {folder or '/'} instead of the file "
        "(in Kubernetes: without a subPath that names the file)"
    )


def in_container(environ: Mapping[str, str], marks: Collection[str], mounts: str) -> bool:
    """Return whether this is a container, a pod, or a host that runs containers.

    `marks` are those of CONTAINER_MARKS that exist.
    """
    return (
        bool(marks)
        or environ.get("container", "").strip() in CONTAINER_NAMES
        or any(environ.get(name, "").strip() for name in CONTAINER_VARIABLES)
        or mount_of("/", mounts).layer
    )


def unreachable(host: str, environ: Mapping[str, str], *, contained: bool) -> str | None:
    """Return a warning if the address to listen on is the default in a container, else None.

    An address that was set explicitly is accepted: a proxy may be in the same pod.
    """
    if environ.get("HOST", "").strip() or not contained or not is_loopback(host):
        return None
    where = "a pod" if environ.get("KUBERNETES_SERVICE_HOST", "").strip() else "a container"
    return (
        f"the receiver listens on {host} inside {where}, where nothing outside reaches it: set "
        f"HOST=0.0.0.0; or HOST={host} if it is called from inside only"
    )


def mount_of(path: str, mounts: str) -> Mount:
    """Return the mount of an absolute path; a mount of unknown kind if none is listed."""
    deepest = Mount("/", "/", "")
    for mount in _read(mounts):
        inside = path == mount.place or path.startswith(mount.place.rstrip("/") + "/")
        if inside and len(mount.place) >= len(deepest.place):  # the later covers the earlier
            deepest = mount
    return deepest


def _read(mounts: str) -> list[Mount]:
    """Read mountinfo: see proc_pid_mountinfo(5)."""
    found = []
    for line in mounts.split("\n"):
        front, _, back = line.partition(" - ")
        fields, (kind, _, rest) = front.split(" "), back.partition(" ")
        if len(fields) >= 5 and kind:  # noqa: PLR2004 -- two ids, device, source, place
            device = _plain(rest.partition(" ")[0])
            place = _plain(fields[4]).rstrip("/") or "/"
            found.append(Mount(place, _plain(fields[3]), kind, device))
    return found


def _plain(field: str) -> str:
    """Undo the kernel's escapes: a byte that would break the line is `\\` and its octal digits."""
    raw = field.encode("utf-8", "surrogateescape")
    raw = _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), raw)
    return raw.decode("utf-8", "surrogateescape")


def _warning(what: str, volume: str) -> str:
    return (
        f"{what}. What was accepted and not yet registered is then lost: {volume}set DATABASE_URL "
        f"to a PostgreSQL."
    )
