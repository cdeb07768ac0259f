"""The state of the Edgegap fake: apps, versions, storages, and the requests that it refuses.

The fields that a version may have, their bounds and their defaults come first.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from starlette.exceptions import HTTPException

from receiver.sandbox.calls import FAULT_HEADER
from receiver.sandbox.edgegap_quirks import Quirks

Version = dict[str, Any]

_IMAGE_FIELDS = frozenset(
    {"docker_repository", "docker_image", "docker_tag", "private_username", "private_token"}
)


@dataclass(frozen=True, slots=True)
class _Field:
    """A field's type and bounds: of a number's value, or a text's length."""

    kind: type
    low: int | None = None
    high: int | None = None
    one_of: frozenset[str] | None = None
    default: Any = None
    required: bool = False
    patchable: bool = True


_RESTART_POLICIES = frozenset({"always", "never", "on_failure"})
_PROTOCOLS = frozenset({"UDP", "TCP", "TCP/UDP", "HTTP", "HTTPS", "WS", "WSS"})
_READ_ONLY = {"create_time", "last_updated", "caching_percent"}
_TLS_UPGRADABLE = {"WS", "HTTP"}
_IMAGE = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")

VERSION_FIELDS: Mapping[str, _Field] = {
    "name": _Field(str, 1, 64, required=True),
    "is_active": _Field(bool, default=True),
    # Resources are set once: a PATCH that names them is refused, whatever older documents say.
    "req_cpu": _Field(int, 100, required=True, patchable=False),
    "req_memory": _Field(int, 100, required=True, patchable=False),
    "req_video": _Field(int, 0, default=0, patchable=False),
    "docker_repository": _Field(str, 1, required=True),
    "private_username": _Field(str),
    "private_token": _Field(str),
    "docker_image": _Field(str, 1, required=True),
    "docker_tag": _Field(str, 1, 128, required=True),
    "verify_image": _Field(bool, default=False),
    "force_cache": _Field(bool, default=False),
    # Edgegap's document has a default of 10 and a minimum of 15; its samples show 30.
    "time_to_deploy": _Field(int, 15, default=30),
    "max_duration": _Field(int, -1, 1440, default=1440),
    "restart_policy": _Field(str, one_of=_RESTART_POLICIES, default="always"),
    "termination_grace_period_seconds": _Field(int, 5, 3600, default=5),
    "will_deploy_in_mainland_china": _Field(bool, default=False),
    "dns_config": _Field(str),
    "ports": _Field(list, default=()),
    "envs": _Field(list, default=()),
    "endpoint_storage": _Field(str, 1),
}
_PORT_FIELDS: Mapping[str, _Field] = {
    "port": _Field(int, 0, 59999, required=True),
    "protocol": _Field(str, one_of=_PROTOCOLS, required=True),
    "to_check": _Field(bool, default=True),
    "tls_upgrade": _Field(bool, default=False),
    "name": _Field(str, 1),
}
_ENV_FIELDS: Mapping[str, _Field] = {
    "key": _Field(str, 1, required=True),
    "value": _Field(str, high=4096, required=True),
    "is_hidden": _Field(bool, default=False),
}


def created(body: Any, also_accepted: Collection[str] = ()) -> dict[str, Any]:
    """Return the version for a POST body, with defaults; raise 400 if it is invalid.

    `also_accepted` are protocols in addition to the documented ones.
    """
    fields = _checked(body, VERSION_FIELDS)
    if fields["req_memory"] > 2 * fields["req_cpu"]:
        raise HTTPException(400, "req_memory: must be at most twice req_cpu")
    now = timestamp()
    return {
        **_defaults(VERSION_FIELDS),
        **_checked_deeper(fields, also_accepted),
        "create_time": now,
        "last_updated": now,
        "caching_percent": 0.0,
    }


def _patched(
    version: Mapping[str, Any], body: Any, also_accepted: Collection[str]
) -> dict[str, Any]:
    """Return a version changed by a PATCH body; arrays are replaced, not merged."""
    patchable = {name: field for name, field in VERSION_FIELDS.items() if field.patchable}
    fields = _checked_deeper(_checked(body, patchable, partial=True), also_accepted)
    return {**version, **fields, "last_updated": timestamp()}


def is_documented(version: Mapping[str, Any]) -> bool:
    """Return whether a returned version matches the API document."""
    writable = {name: version[name] for name in version.keys() - _READ_ONLY}
    if not _is_valid(writable, VERSION_FIELDS):
        return False
    port_fields = {**_PORT_FIELDS, "protocol": _Field(str, required=True)}
    parts = {"ports": port_fields, "envs": _ENV_FIELDS}
    return all(
        isinstance(part, dict) and _is_valid(part, fields)
        for name, fields in parts.items()
        for part in version.get(name, ())
    )


def _is_valid(part: Mapping[str, Any], fields: Mapping[str, _Field]) -> bool:
    required = {name for name, field in fields.items() if field.required}
    known = required <= part.keys() <= fields.keys()
    return known and not any(_wrong(part[name], fields[name]) for name in part)


def timestamp() -> str:
    """Return the time in Edgegap's format: no zone, a space, microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _defaults(fields: Mapping[str, _Field]) -> dict[str, Any]:
    filled_in = {name: field.default for name, field in fields.items() if field.default is not None}
    return {name: [] if value == () else value for name, value in filled_in.items()}


def _checked(
    body: Any, fields: Mapping[str, _Field], prefix: str = "", *, partial: bool = False
) -> dict[str, Any]:
    """Check an object against its fields; raise 400 with the first error."""
    if not isinstance(body, dict):
        raise HTTPException(400, f"{prefix or 'body'}: must be an object")
    if body.keys() - fields.keys():
        raise HTTPException(400, "Unknown Args")
    if body.get("endpoint_storage") == "":
        # Edgegap's server fails on this value.
        raise HTTPException(500, "Internal Server Error")
    for name, field in fields.items():
        if name in body:
            wrong = _wrong(body[name], field)
            if wrong:
                raise HTTPException(400, f"{prefix}{name}: {wrong}")
        elif field.required and not partial:
            raise HTTPException(400, f"{prefix}{name}: is required")
    return body


def _wrong(value: Any, field: _Field) -> str | None:
    """Return the error of a value, if any. A bool is not an integer, and null is not allowed."""
    if type(value) is not field.kind:
        return f"must be of type {field.kind.__name__}"
    size: Any = len(value) if isinstance(value, str) else value
    if field.low is not None and size < field.low:
        return f"must be at least {field.low}"
    if field.high is not None and size > field.high:
        return f"must be at most {field.high}"
    if field.one_of is not None and value not in field.one_of:
        return f"must be one of {', '.join(sorted(field.one_of))}"
    return None


def _checked_deeper(fields: dict[str, Any], also_accepted: Collection[str]) -> dict[str, Any]:
    """Check the image and the arrays, and fill in the defaults of the arrays' elements."""
    image = fields.get("docker_image", "a")
    first, _, rest = image.partition("/")
    if not _IMAGE.fullmatch(image) or (rest and "." in first):
        raise HTTPException(
            400, "docker_image: must be group/project in lower case, without registry or tag"
        )
    protocol = replace(_PORT_FIELDS["protocol"], one_of=_PROTOCOLS.union(also_accepted))
    each: Mapping[str, tuple[Mapping[str, _Field], Callable[[dict[str, Any]], None]]] = {
        "ports": ({**_PORT_FIELDS, "protocol": protocol}, _check_port),
        "envs": (_ENV_FIELDS, lambda _: None),
    }
    checked = dict(fields)
    for name, (element_fields, check) in each.items():
        if name in fields:
            elements = [
                {**_defaults(element_fields), **_checked(element, element_fields, f"{name}: ")}
                for element in fields[name]
            ]
            for element in elements:
                check(element)
            checked[name] = elements
    names = [port["name"] for port in checked.get("ports", ()) if "name" in port]
    if len(names) != len(set(names)):
        raise HTTPException(400, "ports: names must be unique")
    return checked


def _check_port(port: dict[str, Any]) -> None:
    if port["tls_upgrade"] and port["protocol"] not in _TLS_UPGRADABLE:
        raise HTTPException(400, "ports: tls_upgrade is for WS and HTTP only")
    if port["port"] == 0 and "name" not in port:
        raise HTTPException(400, "ports: port 0 needs a name")


class EdgegapAccount:
    """Apps by name and versions by (app, name), as stored: secrets and hidden values in clear.

    All attributes may be read and set at any time. `pullable` returns whether `verify_image` can
    pull an image and tag; `registry_login` is the required user and token; `quirks` is behavior
    beyond the API document.
    """

    def __init__(self, apps: Iterable[str], version_limit: int | None) -> None:
        self.version_limit = version_limit
        self.pullable: Callable[[str, str], bool] | None = None
        self.registry_login: tuple[str, str] | None = None
        self.quirks = Quirks()
        self.apps: dict[str, dict[str, Any]] = {}
        self.versions: dict[tuple[str, str], Version] = {}
        self.held_by_matchmaker: set[tuple[str, str]] = set()
        # A matchmaker's version cannot be deleted, but the response is not known. A 4xx is
        # likelier than the documented 500, and Edgegap uses 409 for conflicts.
        self.delete_refusal_status = 409
        # Documented are 409 for a name that is taken and 424 for a pull that fails; 400 is likely
        # for both. A refused login was seen as 400, and may be 424.
        self.taken_status = 409
        self.login_refusal_status = 400
        self.pull_refusal_status = 424
        self.created: Counter[tuple[str, str]] = Counter()
        for app in apps:
            self.add_app(app)

    def add_app(self, name: str, *, is_active: bool = True, image: str = "") -> dict[str, Any]:
        """Store an app that has no versions yet."""
        now = timestamp()
        app = self.apps[name] = {
            "name": name,
            "is_active": is_active,
            "image": image,
            "create_time": now,
            "last_updated": now,
        }
        return app

    def add_version(self, app: str, name: str, **fields: Any) -> Version:
        """Store a version, its `fields` unchecked; the defaults are an image with that tag."""
        defaults = {
            "name": name,
            "docker_repository": "docker.io",
            "docker_image": "studio/game-server",
            "docker_tag": name,
            "req_cpu": 1024,
            "req_memory": 2048,
        }
        if app not in self.apps:
            self.add_app(app)
        version = self.versions[app, name] = {**created(defaults), **fields}
        return version

    def posts_that_created(self, app: str, version: str) -> int:
        """Return the number of POSTs that created this version; over 1 only after a deletion."""
        return self.created[app, version]

    def create_app(self, body: Any) -> dict[str, Any]:
        """Create an app from a POST body."""
        if not isinstance(body, dict) or body.keys() != {"name", "is_active", "image"}:
            raise HTTPException(400, "An application needs name, is_active and image, no more")
        if not isinstance(body["name"], str) or not 3 <= len(body["name"]) <= 64:  # noqa: PLR2004
            raise HTTPException(400, "name: must be of 3 to 64 characters")
        if not isinstance(body["is_active"], bool) or not isinstance(body["image"], str):
            raise HTTPException(400, "is_active: must be a bool; image: must be a text")
        if body["name"] in self.apps:
            raise HTTPException(409, "An application of this name exists already")
        return self.add_app(**body)

    def find_app(self, app: str) -> dict[str, Any]:
        """Return an app, or raise 404."""
        if app not in self.apps:
            raise HTTPException(404, "Application not found")
        return self.apps[app]

    def versions_of(self, app: str) -> list[Version]:
        """Return an app's versions, oldest first, so the newest are on the last page."""
        self.find_app(app)
        return [version for (of, _), version in self.versions.items() if of == app]

    def find_version(self, app: str, name: str) -> Version:
        """Return a version, or raise 404."""
        self.find_app(app)
        if (app, name) not in self.versions:
            raise HTTPException(404, "Application version not found")
        return self.versions[app, name]

    def create_version(self, app: str, body: Any) -> Version:
        """Create a version from a POST body."""
        self.find_app(app)
        version = self.quirks.stored(created(body, self.quirks.also_accepted))
        target = app, version["name"]
        if target in self.versions:
            raise HTTPException(
                self.taken_status, f"Application version {version['name']} already exists"
            )
        limit = self.version_limit
        if limit is not None and len(self.versions_of(app)) >= limit:
            # The typo is Edgegap's.
            raise HTTPException(400, f"You have reached you Application Version limit of {limit}")
        if version["verify_image"]:
            self._try_pull(version)
        self.versions[target] = version
        self.created[target] += 1
        return version

    def patch_version(self, app: str, name: str, body: Any) -> Version:
        """Change a version, including its name, from a PATCH body."""
        before, accepted = self.find_version(app, name), self.quirks.also_accepted
        version = self.quirks.stored(_patched(before, body, accepted))
        renamed = version["name"] != name
        if renamed and (app, version["name"]) in self.versions:
            # 409 is not documented for PATCH.
            raise HTTPException(400, "An application version of this name exists already")
        if (app, name) in self.held_by_matchmaker and (renamed or body.get("is_active") is False):
            raise HTTPException(400, "The application version is used by a matchmaker")
        if version["verify_image"] and body.keys() & {*_IMAGE_FIELDS, "verify_image"}:
            self._try_pull(version)
        if renamed:
            del self.versions[app, name]
        self.versions[app, version["name"]] = version
        return version

    def delete_version(self, app: str, name: str) -> None:
        """Delete a version, unless a matchmaker uses it."""
        self.find_version(app, name)
        if (app, name) in self.held_by_matchmaker:
            raise HTTPException(
                self.delete_refusal_status, "The application version is used by a matchmaker"
            )
        del self.versions[app, name]

    def _try_pull(self, version: Version) -> None:
        login = version.get("private_username"), version.get("private_token")
        if self.registry_login is not None and login != self.registry_login:
            raise HTTPException(
                self.login_refusal_status, "Unable to login with the given credentials"
            )
        if self.pullable and not self.pullable(version["docker_image"], version["docker_tag"]):
            raise HTTPException(self.pull_refusal_status, "Unable to pull image from registry")


# The endpoint storages of the Edgegap fake, their pull profiles, and the links to versions.

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
