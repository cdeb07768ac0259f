"""Problems of this machine: `serve` logs them at start, `doctor` shows them."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from receiver.config.settings import Settings
from receiver.http.variables import outgoing_proxies
from receiver.ledger.engine import sqlite_path
from receiver.ledger.files import read_mounts
from receiver.ledger.mounts import (
    CONTAINER_MARKS,
    forgotten_ledger,
    in_container,
    unreachable,
    unsafe_disk,
)

DIRECTLY = "directly"


class Danger(msgspec.Struct, frozen=True):
    """A problem: the log event, the subject of the check, and a sentence with the fix."""

    event: str
    what: str
    sentence: str


def dangers(settings: Settings, environ: Mapping[str, str]) -> Iterator[Danger]:
    """Yield the problems of the ledger's disk and of the address to listen on."""
    path = sqlite_path(settings.database_url)
    file = None if path is None else os.path.realpath(path)
    mounts = _mounts_of(file)
    forgotten = forgotten_ledger(environ, file, mounts)
    if forgotten is not None:
        yield Danger("ledger_may_be_forgotten", "ledger's disk", forgotten)
    unsafe = unsafe_disk(file, mounts)
    if unsafe is not None:
        yield Danger("ledger_on_unsafe_disk", "ledger's disk", unsafe)
    marks = [mark for mark in CONTAINER_MARKS if Path(mark).exists()]
    contained = in_container(environ, marks, mounts)
    alone = unreachable(settings.host, environ, contained=contained)
    if alone is not None:
        yield Danger("address_not_reachable", "address", alone)


def proxies_in_use(settings: Settings, environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the hosts that are called, by the proxy used for them; empty without a proxy."""
    proxies, _ = outgoing_proxies(environ)
    if proxies.http is None and proxies.https is None:
        return {}
    found: dict[str, list[str]] = {}
    for url in (settings.edgegap_base_url, settings.registry_url, settings.registry_auth_url,
                settings.hub_api_url, settings.public_url):  # fmt: skip
        parts = urlsplit(url or "")
        if parts.hostname:
            proxy = proxies.proxy_for(parts.scheme, parts.hostname, parts.port)
            through = DIRECTLY if proxy is None else f"through {proxy.variable} ({proxy})"
            found.setdefault(through, []).append(parts.hostname)
    return found


def _mounts_of(file: str | None) -> str:
    """Return the mounts, including the file's own: an automount starts at the first access."""
    if file is not None:
        Path(file).parent.exists()
    return read_mounts()
