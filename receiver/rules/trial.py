"""Trials: what one deployment of a new version proves. Pure decisions.

A trial deploys the version once, waits until it is Ready, and watches it for a steady period. It
passes if there is neither an error nor a restart. The deployment is always stopped.
"""

from enum import Enum, StrEnum

import msgspec
from msgspec.structs import replace

from receiver.backoff import MINUTE, SECOND
from receiver.edgegap.deployment_answers import (
    Deployment,
    DeploymentState,
    Logs,
    Near,
    Usage,
    says_no_capacity,
)
from receiver.edgegap.responses import Body

MIN_LOOK = SECOND
FIRST_LOOK = 2 * SECOND
MAX_LOOK = 15 * SECOND
UNWATCHED_FOR = 2 * MINUTE  # longer than between two looks
TAG = "receiver-trial"


class OnFailure(StrEnum):
    """What a failed trial does: it parks, and no channel moves; or it is only a warning."""

    PARK = "park"
    WARN = "warn"


class Trial(msgspec.Struct, frozen=True):
    """How a rule tries its versions. Times in milliseconds.

    `near` is where the deployment is to be. A deployment that failed runs on for `keep_failed`.
    """

    near: Near
    ready_within: int = 3 * MINUTE
    steady_for: int = MINUTE
    on_failure: OnFailure = OnFailure.PARK
    keep_failed: int = 0


class Phase(Enum):
    """How far a run is."""

    PLANNED = "nothing was sent to Edgegap"
    REQUESTED = "a deployment was requested, and its id is not known"
    WATCHED = "it runs, and there is no verdict"
    STOPPING = "it has to be stopped, or is to run on for a while"
    ENDED = "no deployment of it runs"


class TrialRun(msgspec.Struct, frozen=True):
    """One run of a trial. Times in epoch milliseconds.

    `near` and `keep` (ms) are set if a person requested the run with these. `passed` is None while
    there is no verdict, and if it proves nothing; `why` says why it failed, or proves nothing.
    `log` has the last lines of a failed run.
    `left_at` is when it was no longer Ready although it had been: it is waited for once more.
    `unread_at` is since when the verdict waits for what could not be read. `repeats` is how many
    runs before it proved nothing.
    """

    near: str = ""
    keep: int | None = None
    request_id: str | None = None
    requested_at: int | None = None
    ready_at: int | None = None
    left_at: int | None = None
    decided_at: int | None = None
    passed: bool | None = None
    why: str = ""
    exit_code: int | None = None
    log: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stop_at: int | None = None
    stopped_at: int | None = None
    unread_at: int | None = None
    repeats: int = 0

    def shifted(self, step: int) -> "TrialRun":
        """Return the run with its times moved by a step of the ledger's clock (ms)."""
        names = ("requested_at", "ready_at", "left_at", "unread_at", "decided_at", "stop_at")
        times = {name: getattr(self, name) for name in (*names, "stopped_at")}
        moved = {name: at + step for name, at in times.items() if at is not None}
        return replace(self, **moved)

    @property
    def phase(self) -> Phase:
        """How far the run is."""
        if self.stopped_at is not None:
            return Phase.ENDED
        if self.stop_at is not None:
            return Phase.STOPPING
        if self.requested_at is None:
            return Phase.PLANNED
        return Phase.REQUESTED if self.request_id is None else Phase.WATCHED

    @property
    def is_kept(self) -> bool:
        """Whether the deployment runs on after the verdict, which is then reported at once."""
        return self.decided_at is not None and self.stop_at != self.decided_at


def with_status(run: TrialRun, seen: Deployment, now: int) -> TrialRun:
    """Return the run with since when its deployment has been Ready, as a look now shows it.

    Once, it may be starting again: then the steady period begins with the look that shows it Ready
    again, because Edgegap may go on counting from the first time.
    """
    if seen.state is DeploymentState.STARTING and run.ready_at is not None and run.left_at is None:
        return replace(run, ready_at=None, left_at=now)
    if seen.state is not DeploymentState.READY or run.ready_at is not None:
        return run
    if seen.seconds is None or run.left_at is not None:
        return replace(run, ready_at=now)
    return replace(run, ready_at=max(_begin(run, now), now - seen.seconds * SECOND))


def has_no_capacity(run: TrialRun, seen: Deployment) -> bool:
    """Return whether Edgegap accepted the request, and then found no server for it."""
    began = run.ready_at is not None or run.left_at is not None
    ended = seen.state in {DeploymentState.ERROR, DeploymentState.TERMINATED}
    return not began and ended and says_no_capacity(seen.error)


def unproven(seen: Deployment | None, *, unwatched: int) -> str:
    """Return why the run proves nothing, empty if it may; it was not looked at for `unwatched` ms.

    A good deployment ends, too: after its longest duration, or if a person stops it.
    """
    if unwatched < UNWATCHED_FOR:
        return ""
    ended = seen is None or seen.state is DeploymentState.TERMINATED
    return "the deployment ended while nobody watched it" if ended else ""


def failure(trial: Trial, run: TrialRun, seen: Deployment | None, now: int) -> str:
    """Return why the trial has failed, empty if it has not.

    `seen` is None if Edgegap no longer knows the deployment.
    """
    if seen is None or seen.state is DeploymentState.TERMINATED:
        when = "before" if run.ready_at is None else f"{seconds(now - run.ready_at)} after"
        why = f": {seen.error}" if seen is not None and seen.error else ""
        return f"the deployment ended {when} it was Ready{why}"
    if seen.state is DeploymentState.ERROR:
        return f"Edgegap reports an error: {seen.error or seen.status or 'without a message'}"
    if seen.state is not DeploymentState.STARTING:
        return ""
    status = seen.status or "starting"
    if run.ready_at is not None:
        return f"it was Ready twice, and each time no longer: {status}"
    if now - _begin(run, now) >= trial.ready_within:
        again = "again " if run.left_at is not None else ""
        return f"it was not Ready {again}within {seconds(trial.ready_within)}: {status}"
    return ""


def is_steady(trial: Trial, run: TrialRun, now: int) -> bool:
    """Return whether the deployment has been Ready for long enough."""
    return run.ready_at is not None and now - run.ready_at >= trial.steady_for


def next_look(trial: Trial, run: TrialRun, now: int) -> int:
    """Return when to look at the deployment again (epoch ms)."""
    if run.ready_at is not None:
        return max(now + MIN_LOOK, min(run.ready_at + trial.steady_for, now + MINUTE))
    passed = now - _begin(run, now)
    delay = min(MAX_LOOK, max(FIRST_LOOK, passed // 2))
    return max(now + MIN_LOOK, min(now + delay, _begin(run, now) + trial.ready_within))


def next_look_at_end(now: int, *, sent: bool) -> int:
    """Return when to stop the deployment, or, once that was `sent`, to look whether it is gone."""
    return now + MIN_LOOK if sent else now


def crash(logs: Logs) -> str:
    """Return how the server crashed or was restarted, empty if it did not."""
    if not logs.crashed:
        return ""
    found = logs.crash
    parts = ["the server crashed"]
    if found is not None and found.exit_code is not None:
        parts.append(f"exit code {found.exit_code}")
    if found is not None and found.message:
        parts.append(found.message)
    if logs.restarts:
        parts.append(f"{logs.restarts} restart{'s' if logs.restarts > 1 else ''}")
    return ", ".join(parts)


def usage_notes(usage: Usage | None, version: Body | None) -> tuple[str, ...]:
    """Return what the deployment used beside what its version requests, None if that is not known.

    Edgegap does not document the units of what it measures, so the two are not compared.
    """
    if usage is None:
        return ()
    requested = version or {}
    measured = (
        ("CPU", usage.cpu, requested.get("req_cpu"), "units"),
        ("memory", usage.memory, requested.get("req_memory"), "MB"),
    )
    return tuple(
        f"{name} at most {series.peak:g}, on average {series.mean:g}"
        + (f"; {asked} {unit} requested" if asked is not None else "")
        for name, series, asked, unit in measured
        if series is not None
    )


def seconds(milliseconds: int) -> str:
    """Return a time as text: `90 s`, `3 min`."""
    whole = round(milliseconds / SECOND)
    return f"{whole // 60} min" if whole >= 60 and whole % 60 == 0 else f"{whole} s"  # noqa: PLR2004


def _begin(run: TrialRun, now: int) -> int:
    """Return since when the deployment has been waited for to be Ready."""
    return next((at for at in (run.left_at, run.requested_at) if at is not None), now)
