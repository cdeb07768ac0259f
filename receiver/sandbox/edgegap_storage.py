"""The endpoint storages of the Edgegap fake, their pull profiles, and the links to versions."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException

from receiver.sandbox.edgegap_versions import timestamp
from receiver.sandbox.faults import FAULT_HEADER

_DOCUMENTED = frozenset({400, 404})


class Storage:
    """Pull profiles by endpoint storage, and `links`: (endpoint, profile, app, version).

    `find_version` returns a version, or raises 404. `unknown_status` is that of a name that does
    not exist, and `linked_status` that of a link that exists: which one is not documented.
    """

    def __init__(self, find_version: Callable[[str, str], Mapping[str, Any]]) -> None:
        self.links: set[tuple[str, str, str, str]] = set()
        self.unknown_status = 404
        self.linked_status = 200
        self._find_version = find_version
        self._endpoints: dict[str, dict[str, dict[str, Any]]] = {}

    def add(self, endpoint: str, *profiles: str) -> None:
        """Store an endpoint storage with these pull profiles, or add them to it."""
        now = timestamp()
        known = self._endpoints.setdefault(endpoint, {})
        for name in profiles:
            known[name] = {
                "name": name,
                "source": f"/{name}",
                "source_type": "Folder",
                "destination": f"/data/{name}",
                "create_time": now,
                "last_updated": now,
            }

    def endpoints(self) -> list[dict[str, Any]]:
        """Return the endpoint storages; half of their secret is shown, as at Edgegap."""
        return [
            {
                "name": name,
                "access_key_id": "sandbox-access-key-id",
                "endpoint": "https://storage.example",
                "bucket": f"{name}-files",
                "output_format": "TEXT",
            }
            for name in self._endpoints
        ]

    def profiles(self, endpoint: str) -> list[dict[str, Any]]:
        """Return the pull profiles of an endpoint storage that exists."""
        if endpoint not in self._endpoints:
            raise HTTPException(self.unknown_status, "Endpoint storage not found")
        return list(self._endpoints[endpoint].values())

    def link(self, endpoint: str, profile: str, app: str, version: str) -> dict[str, Any]:
        """Link a pull profile to a version; both exist."""
        if profile not in {one["name"] for one in self.profiles(endpoint)}:
            raise HTTPException(self.unknown_status, "Pull profile not found")
        self._find_version(app, version)
        link = endpoint, profile, app, version
        if link in self.links and self.linked_status in range(400, 500):
            strange = {} if self.linked_status in _DOCUMENTED else {FAULT_HEADER: "quirk"}
            raise HTTPException(self.linked_status, "The pull profile is already linked", strange)
        self.links.add(link)
        now = timestamp()
        return {
            "app": app,
            "app_version": version,
            "endpoint": endpoint,
            "pull_profile": profile,
            "create_time": now,
            "last_updated": now,
        }
