"""The overview of the current state, the health endpoints, and the metrics."""

import hmac
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from receiver import metrics
from receiver.config.settings import Settings
from receiver.errors import LedgerError
from receiver.ledger.cursors import Cursor, read_cursors
from receiver.ledger.queries import overview
from receiver.ledger.stats import LedgerStats, read_stats
from receiver.ledger.trials import trial_time
from receiver.ledger.views import LedgerOverview, described
from receiver.reasons import Reason, State
from receiver.service import Service
from receiver.upkeep.health import Code, Condition, Health
from receiver.web.messages import Problem, ProblemCode, json_response, problem
from receiver.web.operation import (
    AWAY,
    CHALLENGE,
    OK,
    TEXT,
    Group,
    ResponseSpec,
    api,
    endpoint,
    fails,
    has_token,
    returns,
)

NOT_READY = "the ledger cannot be written now: see the log, or send an API token for details"
Replica = Annotated[str | UnsetType, described("The id of this process; only with an API token.")]


class Overview(LedgerOverview, frozen=True):
    """The current state: problems, rules, repositories, parked registrations."""

    ready: Annotated[bool, described("Whether a push can be recorded now.")]
    degraded: Annotated[
        tuple[Condition, ...],
        described("Current problems, the most severe first; `/readyz` lists the same codes."),
    ]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person may want to act on although nothing is wrong, as sentences."""
        count = sum(one.reason == Reason.NEEDS_APPROVAL.value for one in self.waiting)
        wait = "move waits" if count == 1 else "moves wait"
        approvals = f"{count} {wait} for an approval." if count else ""
        return tuple(one for one in (approvals, self.overwritten_remark) if one)

    @property
    def overwritten_remark(self) -> str:
        """How many tags were overwritten lately, as a sentence; empty if none was."""
        were = "tag was" if self.overwritten == 1 else "tags were"
        last = f"{self.overwritten} {were} overwritten in the last 24 hours."
        return last if self.overwritten else ""


async def overview_of(service: Service) -> Overview:
    """Return the overview: problems, rules, repositories, parked registrations."""
    rules = service.settings.rules
    with suppress(LedgerError):  # then the newest counts are missing
        await service.refused_links.flush()
    found = await service.ledger.read(lambda tx: overview(tx, rules))
    health = await service.health.now()
    return Overview(**msgspec.structs.asdict(found), ready=health.ready, degraded=health.conditions)


@api(
    "GET /api/overview", Group.OVERVIEW,
    returns(Overview, "Rules, repositories, parked work, problems."),
)  # fmt: skip
async def get_overview(service: Service, _: Request) -> Response:
    """Show the current state."""
    return json_response(await overview_of(service))


class Liveness(msgspec.Struct, frozen=True):
    """The worker's loops are running."""

    alive: Annotated[bool, described("True.")]


class Readiness(msgspec.Struct, frozen=True):
    """A push can be recorded now."""

    ready: Annotated[bool, described("True.")]
    degraded: Annotated[
        tuple[str, ...],
        Meta(description="Codes of other problems, with an API token also their messages."),
    ]
    replica: Replica = UNSET


class NotReady(Problem, frozen=True):
    """A push cannot be recorded now."""

    ready: Annotated[bool | UnsetType, described("False; missing if nobody looked.")] = UNSET
    replica: Replica = UNSET


@endpoint(
    "GET /livez", Group.MONITORING,
    returns(Liveness, "The worker's loops are running."),
    fails(
        ProblemCode.WORKER_STOPPED, ProblemCode.TOO_MANY_CONNECTIONS,
        why="The worker is not running, or there are too many connections.",
    ),
)  # fmt: skip
async def get_liveness(request: Request) -> Response:
    """Show whether the worker's loops are running."""
    service: Service = request.app.state.service
    if not service.worker.alive:
        return problem(
            ProblemCode.WORKER_STOPPED, "the worker is not running: restart the receiver"
        )
    return json_response(Liveness(alive=True))


@endpoint(
    "GET /readyz", Group.MONITORING,
    returns(Readiness, "A delivery can be recorded now; no problem in `degraded` loses a push."),
    fails(
        ProblemCode.LEDGER_UNAVAILABLE, ProblemCode.TOO_MANY_CONNECTIONS,
        why="A delivery cannot be recorded now, or there are too many connections.", kind=NotReady,
    ),
    security=("", "token"),
)  # fmt: skip
async def get_readiness(request: Request) -> Response:
    """Show whether a delivery can be recorded now.

    The details of problems require an API token.
    """
    service: Service = request.app.state.service
    health = await service.health.cached()
    owner = service.worker.owner if has_token(service, request) else None
    if health.ready:
        return json_response(readiness(health, owner))
    why = [found.message for found in health.conditions if found.code is Code.LEDGER]
    detail, replica = (NOT_READY, UNSET) if owner is None or not why else (why[0], owner)
    return problem(
        ProblemCode.LEDGER_UNAVAILABLE, detail, kind=NotReady, ready=False, replica=replica
    )


def readiness(health: Health, owner: str | None) -> Readiness:
    """Return what is reported; with `owner`, the ledger's name of this process, in full."""
    if owner is None:
        codes = dict.fromkeys(found.code.value for found in health.conditions)
        return Readiness(True, tuple(codes))
    found = tuple(f"{found.code}: {found.message}" for found in health.conditions)
    return Readiness(True, found, owner)


_NO_TOKEN = "missing or wrong metrics token (RECEIVER_METRICS_TOKEN)"  # noqa: S105 - a message
STATES = (State.QUEUED, State.WAITING, State.WORKING, State.PARKED)


@endpoint(
    "GET /metrics", Group.MONITORING,
    ResponseSpec(OK, "Prometheus' text format.", {TEXT: str}),
    fails(
        ProblemCode.TOKEN_INVALID,
        why="RECEIVER_METRICS_TOKEN is set, and the request's token is missing or wrong.",
        headers=CHALLENGE,
    ),
    AWAY,
    security=("", "metricsToken"),
)  # fmt: skip
async def get_metrics(request: Request) -> Response:
    """Show the metrics; the ledger is read at each scrape."""
    service: Service = request.app.state.service
    required = service.settings.metrics_token
    if required is not None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        expected = required.reveal().encode("utf-8", "surrogateescape")
        valid = hmac.compare_digest(given.strip().encode("latin-1"), expected)
        if scheme.lower() != "bearer" or not valid:
            challenge = {"WWW-Authenticate": 'Bearer realm="metrics"'}
            return problem(ProblemCode.TOKEN_INVALID, _NO_TOKEN, challenge)
    try:
        standing, cursors, tried = await service.ledger.read(
            lambda tx: (read_stats(tx), read_cursors(tx), trial_time(tx))
        )
    except LedgerError as error:
        return problem(ProblemCode.LEDGER_UNAVAILABLE, str(error))
    _set(standing)
    _set_catch_up(service.settings, cursors)
    _set_trials(service.settings, tried)
    metrics.ready.set(int((await service.health.cached()).ready))
    limit = service.preflight.registry.limits.last
    metrics.pull_limit.known = None if limit is None else (limit.remaining, limit.limit)
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _set(standing: LedgerStats) -> None:
    for state in STATES:
        metrics.open_registrations.labels(state.value).set(standing.open.get(state.value, 0))
    oldest = standing.oldest_unfinished
    age = 0 if oldest is None else max(0, standing.now - oldest) / 1000
    metrics.oldest_unfinished.set(age)
    metrics.last_success.set((standing.last_success or 0) / 1000)
    metrics.token_refused.set(int(standing.token_refused))
    metrics.ledger_bytes.set(standing.size)


def _set_trials(settings: Settings, tried: Mapping[str, int]) -> None:
    metrics.trial_seconds.clear()  # removes apps that no rule names any more
    with_trial = {rule.app for rule in settings.rules if rule.trial is not None}
    for app in with_trial.union(tried):
        metrics.trial_seconds.labels(app).set(tried.get(app, 0) / 1000)


def _set_catch_up(settings: Settings, cursors: Iterable[Cursor]) -> None:
    every = settings.catch_up_every
    metrics.catch_up_interval.set((every or 0) / 1000)
    metrics.catch_up_success.clear()  # removes repositories that no rule names any more
    repositories = {rule.repository for rule in settings.rules} if every is not None else set()
    for cursor in cursors:
        if cursor.repository in repositories:
            gauge = metrics.catch_up_success.labels(cursor.repository)
            gauge.set(cursor.last_success_at / 1000)
