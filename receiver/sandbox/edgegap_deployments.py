"""The deployments of the Edgegap fake, on a clock that a test may set, and their refusals."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from receiver.sandbox.calls import FAULT_HEADER
from receiver.sandbox.edgegap_lifecycle import (
    Deployment,
    Lifecycle,
    shown_logs,
    shown_metrics,
    shown_row,
    shown_status,
)
from receiver.sandbox.edgegap_quirks import filtered

ANY = "*"
CREATIONS, STATUSES, LISTS = "creations", "statuses", "lists"
DOCUMENTED_RATES: Mapping[str, int] = {CREATIONS: 40, STATUSES: 20, LISTS: 10}

_BODY_FIELDS = frozenset(
    {
        *("application", "version", "users", "tags", "environment_variables", "resources"),
        *("require_cached_locations", "webhook_on_ready", "webhook_on_error"),
        "webhook_on_terminated",
    }
)
_NO_CAPACITY = 422
_KNOWN_REFUSALS = frozenset({400, 401, 403, 429})


@dataclass(frozen=True, slots=True)
class DeploymentQuirks:
    """Limits of the account, and what the API document leaves open.

    - `capacity`: number of active deployments that fit; over that a POST is answered with a 422
    - `keeps_refused`: the deployment that a 422 names exists, in Error, until it is stopped
    - `limit`: the plan's number of deployments at a time; over that a POST is answered with
      `limit_status`
    - `unknown_status`: of a deployment that is not known: 400, as it was seen, or 404
    - `remembered_for`: the seconds for which a terminated deployment is known
    - `rates`: the calls per second that are not answered with a 429: `creations`, `statuses`,
      `lists`; see `DOCUMENTED_RATES`
    - `ignores_tags_filter`: the list ignores a filter by tags, with a `message` that says so
    - `shows_tags`: whether rows of the list and statuses have tags
    """

    capacity: int | None = None
    keeps_refused: bool = False
    limit: int | None = None
    limit_status: int = 400
    unknown_status: int = 400
    remembered_for: float = 60.0
    rates: Mapping[str, int] | None = None
    ignores_tags_filter: bool = False
    shows_tags: bool = True


class Deployments:
    """Deployments by request id. `lifecycles` has one for each (app, version); `*` is for all.

    `find_version` returns a version, or raises 404. The time is that of `clock`, in epoch seconds,
    and `ahead` seconds more.
    """

    def __init__(
        self,
        find_version: Callable[[str, str], Mapping[str, Any]],
        clock: Callable[[], float],
    ) -> None:
        self.lifecycles: dict[tuple[str, str], Lifecycle] = {}
        self.quirks = DeploymentQuirks()
        self.clock = clock
        self.ahead = 0.0
        self._find_version = find_version
        self._all: dict[str, Deployment] = {}
        self._calls: dict[str, deque[float]] = {}
        self._number = 0

    @property
    def now(self) -> float:
        """The time of the fake, in epoch seconds."""
        return self.clock() + self.ahead

    def run(self, app: str, version: str, *tags: str) -> str:
        """Add a deployment that is Ready; return its id. The version need not exist."""
        return self._add(app, version, tags, Lifecycle(ready_after=0)).request_id

    def clear(self) -> None:
        """Forget all deployments."""
        self._all.clear()

    def active(self, *tags: str) -> list[Deployment]:
        """Return the deployments that cost money now, those that have all of these tags."""
        return [
            one
            for one in list(self._all.values())
            if not one.is_ended(self.now) and set(tags) <= set(one.tags)
        ]

    def shown(self) -> list[dict[str, Any]]:
        """Return all deployments that there were, with `active` and the status of each."""
        now = self.now
        return [
            {**asdict(one), "status": one.status(now), "active": not one.is_ended(now)}
            for one in list(self._all.values())
        ]

    def set_lifecycle(self, app: str = ANY, version: str = ANY, **fields: Any) -> None:
        """Set how deployments of a version run that are created from now on."""
        self.lifecycles[app, version] = Lifecycle(**fields)

    def deploy(self, body: Any) -> Response:
        """Create a deployment from a POST body, unless a limit is reached."""
        self._count(CREATIONS)
        _check(body)
        app, name = body["application"], body["version"]
        try:
            version = self._find_version(app, name)
        except HTTPException as error:
            raise HTTPException(400, error.detail) from error  # 404 is not documented
        if not version.get("is_active", True):
            raise HTTPException(400, "The application version is not active")
        active, quirks = len(self.active()), self.quirks
        if quirks.limit is not None and active >= quirks.limit:
            status = quirks.limit_status
            strange = {} if status in _KNOWN_REFUSALS else {FAULT_HEADER: "quirk"}
            message = f"You have reached you Deployment limit of {quirks.limit}"  # Edgegap's typo
            raise HTTPException(status, message, strange)
        refused = quirks.capacity is not None and active >= quirks.capacity
        lifecycle = self._lifecycle_of(app, name)
        if refused:
            lifecycle = Lifecycle(error_after=0, error_detail="No capacity was found")
        tags = tuple(body.get("tags", ()))
        created = self._add(
            app, name, tags, lifecycle, settings=version, location=_location(body["users"][0])
        )
        if not refused:
            return JSONResponse({"request_id": created.request_id}, 202)
        if not quirks.keeps_refused:
            del self._all[created.request_id]
        refusal = {"request_id": created.request_id, "message": "No capacity was found"}
        return JSONResponse(refusal, _NO_CAPACITY)

    def status(self, request_id: str) -> dict[str, Any]:
        """Return the status of a deployment that is known."""
        self._count(STATUSES)
        return self._with_tags(shown_status(self._known(request_id), self.now))

    def logs(self, request_id: str) -> dict[str, Any]:
        """Return the logs of a deployment, unless it is terminated."""
        unclear = "The request could not be understood"
        deployment = self._known(request_id, unclear)
        if deployment.is_ended(self.now):
            raise self._unknown(unclear)
        return shown_logs(deployment, self.now)

    def metrics(self, request_id: str) -> dict[str, Any]:
        """Return the metrics of a deployment that is known."""
        return shown_metrics(self._known(request_id), self.now)

    def stop(self, request_id: str) -> Response:
        """Stop a deployment; one that is not yet Ready is stopped later."""
        deployment, now = self._known(request_id), self.now
        if deployment.is_ended(now):
            raise HTTPException(410, "The deployment is already stopped")
        if not deployment.lifecycle.stoppable:
            raise HTTPException(403, "You are not allowed to stop this deployment")
        if deployment.stop_requested is None:
            deployment.stop_requested = now
        if not deployment.is_ended(now):
            return JSONResponse({"message": "The deployment will be stopped"}, 202)
        summary = self._with_tags(shown_status(deployment, now))
        return JSONResponse({"message": "The deployment is stopped", "deployment_summary": summary})

    def rows(self, query: str | None) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the active deployments that match the filters, and messages about the query."""
        self._count(LISTS)
        now = self.now
        ignored = frozenset({"tags"} if self.quirks.ignores_tags_filter else ())
        active = [(one, _fields(one, now)) for one in self.active()]
        found, messages = filtered(active, query, ignored)
        return [self._with_tags(shown_row(one, now)) for one in found], messages

    def _add(
        self,
        app: str,
        version: str,
        tags: tuple[str, ...],
        lifecycle: Lifecycle,
        *,
        settings: Mapping[str, Any] | None = None,
        location: tuple[float, float] = (45.5, -73.6),
    ) -> Deployment:
        settings = settings or {}
        self._number += 1
        policy = settings.get("restart_policy", "always")
        deployment = Deployment(
            request_id=f"{self._number:012x}",
            app=app,
            version=version,
            tags=tags,
            created=self.now,
            lifecycle=lifecycle,
            restarts=policy == "always" or (policy == "on_failure" and lifecycle.exit_code != 0),
            max_duration=settings.get("max_duration", 1440),
            ports=settings.get("ports", ()),
            location=location,
        )
        self._all[deployment.request_id] = deployment
        return deployment

    def _lifecycle_of(self, app: str, version: str) -> Lifecycle:
        names = ((app, version), (app, ANY), (ANY, version), (ANY, ANY))
        return next((self.lifecycles[one] for one in names if one in self.lifecycles), Lifecycle())

    def _known(self, request_id: str, message: str = "Bad Request ID provided") -> Deployment:
        deployment = self._all.get(request_id)
        ended = None if deployment is None else deployment.ended_at
        forgotten = ended is not None and self.now >= ended + self.quirks.remembered_for
        if deployment is None or forgotten:
            raise self._unknown(message)
        return deployment

    def _unknown(self, message: str) -> HTTPException:
        return HTTPException(self.quirks.unknown_status, message)

    def _with_tags(self, shown: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value for name, value in shown.items() if name != "tags" or self.quirks.shows_tags
        }

    def _count(self, kind: str) -> None:
        """Refuse a call if there were too many of its kind within the last second."""
        most = (self.quirks.rates or {}).get(kind)
        if most is None:
            return
        now, calls = self.now, self._calls.setdefault(kind, deque())
        while calls and calls[0] <= now - 1:
            calls.popleft()
        if len(calls) >= most:
            raise HTTPException(429, f"Rate limit of {most} requests per second exceeded")
        calls.append(now)


def _fields(deployment: Deployment, now: float) -> dict[str, Any]:
    """Return the fields that the list can be filtered by."""
    return {
        "request_id": deployment.request_id,
        "application": deployment.app,
        "version": deployment.version,
        "tags": deployment.tags,
        "status": deployment.status(now),
    }


def _check(body: Any) -> None:
    """Check a POST body against the API document; raise 400 with the first error."""
    if not isinstance(body, dict):
        raise HTTPException(400, "body: must be an object")
    if body.keys() - _BODY_FIELDS:
        raise HTTPException(400, "Unknown Args")
    for name in ("application", "version"):
        if not isinstance(body.get(name), str):
            raise HTTPException(400, f"{name}: must be a text")
    users = body.get("users")
    if not isinstance(users, list) or not users:
        raise HTTPException(400, "users: must be a list of at least one")
    for user in users:
        _location(user)
    tags = body.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise HTTPException(400, "tags: must be a list of texts")
    for variable in body.get("environment_variables", ()):
        if not isinstance(variable, dict) or variable.keys() != {"key", "value", "is_hidden"}:
            raise HTTPException(400, "environment_variables: need key, value and is_hidden")


def _location(user: Any) -> tuple[float, float]:
    """Return the latitude and longitude of a user; raise 400 if there is no such location."""
    try:
        kind, data = user["user_type"], user["user_data"]
        if kind == "ip_address":
            ip_address(data["ip_address"])
            return 45.5, -73.6
        if kind == "geo_coordinates":
            latitude, longitude = data["latitude"], data["longitude"]
            if abs(latitude) <= 90 and abs(longitude) <= 180:  # noqa: PLR2004 - degrees
                return latitude, longitude
    except (KeyError, TypeError, ValueError) as error:
        raise HTTPException(400, "users: a location cannot be read") from error
    raise HTTPException(400, "users: no such location")
