"""The life of a deployment at Edgegap: what it is at a time follows from what was requested."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_STEPS = ("INITIALIZING", "SEEKING", "SEEKED", "DEPLOYING")
_SECONDS_BEFORE_DEPLOYING = 2.0  # of a deployment that is never Ready


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How the deployments of a version run; times in seconds.

    - `ready_after`: Ready so long after the POST; None: never
    - `error_after`: in Error so long after the POST, with `error_detail`
    - `crash_after`: so long after it was Ready (after the POST if it never is), its process ends
      with `exit_code` and `crash_message`. The restart policy of the version decides whether it is
      restarted, which leaves it Ready and happens at most `crashes` times, or ends
    - `stop_takes`: it is active for that long after a stop
    - `stoppable`: if not, a stop is answered with a 403
    - `log`, `crash_log`: the logs of the process that runs, and of the one that crashed
    - `cpu`, `memory`: what the metrics show
    """

    ready_after: float | None = 2.0
    error_after: float | None = None
    error_detail: str = "Unable to pull image from registry"
    crash_after: float | None = None
    exit_code: int = 137
    crash_message: str = "OOM killed"
    crashes: int | None = None
    stop_takes: float = 0.0
    stoppable: bool = True
    log: str = "Listening on port 7777\nWaiting for players\n"
    crash_log: str = "Loading the map\nOut of memory\n"
    cpu: int = 25
    memory: int = 512

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.crash_after is not None and self.crash_after <= 0:
            raise ValueError("crash_after must be more than 0")


@dataclass(slots=True)
class Deployment:
    """One deployment: what was requested, and when, in epoch seconds."""

    request_id: str
    app: str
    version: str
    tags: tuple[str, ...]
    created: float
    lifecycle: Lifecycle
    restarts: bool = True
    max_duration: int = 1440
    ports: Sequence[dict[str, Any]] = ()
    location: tuple[float, float] = (45.5, -73.6)
    stop_requested: float | None = None

    @property
    def ready_at(self) -> float | None:
        """When it is Ready, None if it never is."""
        after, error = self.lifecycle.ready_after, self.lifecycle.error_after
        if after is None or (error is not None and error <= after):
            return None
        return self.created + after

    @property
    def error_at(self) -> float | None:
        """When it is in Error, None if it never is."""
        after = self.lifecycle.error_after
        return None if after is None else self.created + after

    @property
    def ended_at(self) -> float | None:
        """When it is terminated by a stop, the end of its process or its maximum duration."""
        ready, ends = self.ready_at, [self._stopped_at]
        if self.lifecycle.crash_after is not None and not self.restarts:
            ends.append(self._process_started + self.lifecycle.crash_after)
        if ready is not None and self.max_duration > 0:
            ends.append(ready + 60 * self.max_duration)
        return min((end for end in ends if end is not None), default=None)

    def is_ended(self, now: float) -> bool:
        """Return whether it is terminated."""
        return self.ended_at is not None and now >= self.ended_at

    def is_in_error(self, now: float) -> bool:
        """Return whether it is in Error."""
        return self.error_at is not None and now >= self.error_at and not self.is_ended(now)

    def is_ready(self, now: float) -> bool:
        """Return whether it is Ready."""
        ready = self.ready_at is not None and now >= self.ready_at
        return ready and not self.is_in_error(now) and not self.is_ended(now)

    def crashes_by(self, now: float) -> int:
        """Return how often its process has crashed."""
        after, end = self.lifecycle.crash_after, self.ended_at
        lived = (now if end is None else min(now, end)) - self._process_started
        if after is None or lived < after:
            return 0
        most = self.lifecycle.crashes if self.restarts else 1
        crashes = int(lived / after)
        return crashes if most is None else min(crashes, most)

    def status(self, now: float) -> str:
        """Return the status in Edgegap's spelling."""
        if self.is_ended(now):
            return "Status.TERMINATED"
        if self.is_in_error(now):
            return "Status.ERROR"
        if self.is_ready(now):
            return "Status.READY"
        takes = self.lifecycle.ready_after or self.lifecycle.error_after
        part = (now - self.created) / (takes or _SECONDS_BEFORE_DEPLOYING)
        return f"Status.{_STEPS[max(0, min(len(_STEPS) - 1, math.floor(part * len(_STEPS))))]}"

    @property
    def _process_started(self) -> float:
        return self.created if self.ready_at is None else self.ready_at

    @property
    def _stopped_at(self) -> float | None:
        """When a stop takes effect: as documented, not before it is Ready or in Error."""
        if self.stop_requested is None:
            return None
        settled = [at for at in (self.ready_at, self.error_at) if at is not None]
        begins = max(self.stop_requested, min(settled, default=self.stop_requested))
        return begins + self.lifecycle.stop_takes


def shown_status(deployment: Deployment, now: float) -> dict[str, Any]:
    """Return the status as a response shows it."""
    ready_at, ended_at = deployment.ready_at, deployment.ended_at
    running, failed = deployment.is_ready(now), deployment.is_in_error(now)
    start = deployment.created if ready_at is None else ready_at
    latitude, longitude = deployment.location
    shown = {
        "request_id": deployment.request_id,
        **_address(deployment),
        "app_name": deployment.app,
        "app_version": deployment.version,
        "current_status": deployment.status(now),
        "running": running,
        "start_time": shown_time(start),
        "elapsed_time": max(0, int(now - start)) if running else 0,
        "max_duration": deployment.max_duration,
        "error": failed,
        "ports": _ports(deployment),
        "location": {
            "city": "Montréal",
            "country": "Canada",
            "continent": "North America",
            "administrative_division": "Quebec",
            "timezone": "America/Toronto",
            "latitude": latitude,
            "longitude": longitude,
        },
        "tags": list(deployment.tags),
    }
    if failed:
        shown["error_detail"] = deployment.lifecycle.error_detail
    if ended_at is not None and now >= ended_at:
        shown["removal_time"] = shown_time(ended_at)
    return shown


def shown_row(deployment: Deployment, now: float) -> dict[str, Any]:
    """Return a row of the list, which shows neither app nor version."""
    return {
        "request_id": deployment.request_id,
        **_address(deployment),
        "ready": deployment.is_ready(now),
        "start_time": shown_time(deployment.created),
        "ports": _ports(deployment),
        "tags": list(deployment.tags),
    }


def shown_logs(deployment: Deployment, now: float) -> dict[str, Any]:
    """Return the logs, with the last crash if there was one."""
    life, crashes = deployment.lifecycle, deployment.crashes_by(now)
    crash = {
        "exit_code": life.exit_code,
        "message": life.crash_message,
        "restart_count": crashes,
    }
    return {
        "logs": life.log,
        "crash_logs": life.crash_log if crashes else None,
        "crash_data": crash if crashes else None,
        "encoding": "utf-8",
        "logs_link": None,
    }


def shown_metrics(deployment: Deployment, now: float) -> dict[str, Any]:
    """Return the metrics since it was Ready, one value for each ten seconds."""
    start = deployment.created if deployment.ready_at is None else deployment.ready_at
    times = [start + 10 * step for step in range(60) if start + 10 * step <= now]

    def measured(value: int) -> dict[str, Any]:
        shown = [shown_time(time) for time in times]
        return {"labels": shown, "datasets": [value] * len(times), "timestamps": shown}

    totals = ("receive_total", "transmit_total", "disk_read_total", "disk_write_total")
    return {
        "total": {name: measured(0) for name in totals},
        "cpu": measured(deployment.lifecycle.cpu),
        "cpu_throttle_rate": measured(0),
        "cpu_throttle_total": measured(0),
        "mem": measured(deployment.lifecycle.memory),
        "network": {"receive": measured(0), "transmit": measured(0)},
    }


def shown_time(at: float) -> str:
    """Return a time in Edgegap's format: no zone, a space, microseconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _address(deployment: Deployment) -> dict[str, str]:
    return {"fqdn": f"{deployment.request_id}.pr.edgegap.net", "public_ip": "192.0.2.1"}


def _ports(deployment: Deployment) -> dict[str, Any]:
    host = _address(deployment)["fqdn"]
    ports = {}
    for external, port in enumerate(deployment.ports, 30_000):
        name = str(port.get("name", port["port"]))
        ports[name] = {
            "name": name,
            "link": f"{host}:{external}",
            "internal": port["port"] or external,
            "external": external,
            "protocol": port["protocol"],
            "tls_upgrade": port["tls_upgrade"],
        }
    return ports
