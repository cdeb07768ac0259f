"""Disks that forget: what their hosts are known by, and what a SQLite ledger needs there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

# A variable that the host sets by itself → what the host is called, and what to do there.
FORGETFUL = {
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
NO_VOLUMES = frozenset({"DYNO", "K_SERVICE"})  # none there on which a SQLite ledger is safe
MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
LAYERS = frozenset({"overlay", "aufs"})
EMPTY_DIR = "/kubernetes.io~empty-dir/"  # in the path that the kubelet mounts one from
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """What a file lies on: `source` is the folder of its file system that shows at `place`."""

    place: str
    source: str
    kind: str

    @property
    def lasts(self) -> bool:
        """Whether it is a volume, which outlives the container or machine that mounts it."""
        passing = self.kind in MEMORY | LAYERS or EMPTY_DIR in self.source + "/"
        return self.place != "/" and not passing


def forgotten_ledger(environ: Mapping[str, str], ledger: str | None, mounts: str) -> str | None:
    """Return a warning when the ledger's file is where it will be forgotten, else None.

    `ledger` is the file's absolute path, None when it is on PostgreSQL; `mounts` is the text of
    /proc/self/mountinfo, empty where there is none.
    """
    if ledger is None:
        return None
    mount = mount_of(ledger, mounts)
    for variable, (host, why) in FORGETFUL.items():
        if not environ.get(variable, "").strip():
            continue
        if variable not in NO_VOLUMES and mount.lasts:
            return None
        volume = "" if variable in NO_VOLUMES else "put the ledger on a lasting volume, or "
        return _warning(f"this is {host}, and the ledger is a file there: {why}", volume)
    if mount.kind in MEMORY:
        where = f"the ledger is a file in memory ({mount.kind} at {mount.place})"
        return _warning(f"{where}: it is gone when the machine restarts", "put it on a disk, or ")
    return None


def mount_of(path: str, mounts: str) -> Mount:
    """Return the mount that an absolute path lies on; a container's layers when none is told."""
    deepest = Mount("/", "/", "overlay")
    for line in mounts.splitlines():
        front, _, back = line.partition(" - ")
        fields, kind = front.split(" "), back.partition(" ")[0]
        if len(fields) < 5 or not kind:  # noqa: PLR2004 -- two ids, device, source, place
            continue
        place = _plain(fields[4]).rstrip("/") or "/"
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(deepest.place):  # of two on one place, the later is on top
            deepest = Mount(place, _plain(fields[3]), kind)
    return deepest


def _plain(field: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)


def _warning(what: str, volume: str) -> str:
    return (
        f"{what}. What was accepted and not yet registered is then lost: {volume}set DATABASE_URL "
        f"to a PostgreSQL."
    )
