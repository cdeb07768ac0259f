"""Hosts whose disks forget: what they are known by, and what a SQLite ledger needs there."""

import re
from collections.abc import Mapping

# A variable that the host sets by itself → what the host is called, and what to do there.
FORGETFUL = {
    "DYNO": ("Heroku", "its disk is emptied at each restart, at least once a day"),
    "RENDER": ("Render", "without a disk of its own, each deploy empties it"),
    "FLY_APP_NAME": ("Fly.io", "without a volume, each deploy and restart empties it"),
    "RAILWAY_ENVIRONMENT_ID": ("Railway", "without a volume, each deploy empties it"),
    "KOYEB_APP_NAME": ("Koyeb", "without a volume, each deploy empties it"),
    "K_SERVICE": ("Cloud Run", "its disk is memory, and gone with the instance"),
    "KUBERNETES_SERVICE_HOST": ("Kubernetes", "without a volume, it is gone with the pod"),
}
NO_VOLUMES = frozenset({"DYNO", "K_SERVICE"})  # none there on which a SQLite ledger is safe
PASSING = frozenset({"overlay", "tmpfs", "ramfs", "aufs", "devtmpfs"})
_OCTAL = re.compile(r"\\([0-7]{3})")


def forgetting_host(environ: Mapping[str, str], ledger: str | None, mounts: str) -> str | None:
    """Return a warning when the ledger's file is on a disk that its host will empty, else None.

    `ledger` is the file's absolute path, None when it is on PostgreSQL; `mounts` is the text of
    /proc/self/mounts, empty where there is none.
    """
    if ledger is None:
        return None
    for variable, (host, why) in FORGETFUL.items():
        if not environ.get(variable, "").strip():
            continue
        if variable not in NO_VOLUMES and on_a_volume(ledger, mounts):
            return None
        volume = "" if variable in NO_VOLUMES else "put the ledger on a volume, or "
        return (
            f"this is {host}, and the ledger is a file there: {why}. What was accepted and not "
            f"yet registered is then lost: {volume}set DATABASE_URL to a PostgreSQL."
        )
    return None


def on_a_volume(path: str, mounts: str) -> bool:
    """Return whether the path is on a mount of its own that is not made of memory or layers."""
    deepest, kind = "/", "overlay"
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 -- device, place, kind
            continue
        place = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[1]).rstrip("/") or "/"
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(deepest):  # of two on one place, the later lies on top
            deepest, kind = place, fields[2]
    return deepest != "/" and kind not in PASSING
