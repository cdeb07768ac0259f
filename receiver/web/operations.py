"""All operations of the API, the webhook endpoint and the health endpoints.

The router and the document are both made from this list.
"""

from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver.ledger.views import Changed, DeliveryDetail, DeliveryPage
from receiver.upkeep.operations import PausedRepositories, Resumed
from receiver.upkeep.promotion import ProposedMove
from receiver.upkeep.replay import Replayed, ReplayedDeliveries
from receiver.upkeep.version_settings import ExportedSettings, VersionDiff
from receiver.web import api, bodies
from receiver.web.api_operation import (
    ACCEPTED,
    AWAY,
    CHALLENGE,
    CONFLICT,
    IDENTITY,
    MOVED,
    NO_APP,
    NO_DELIVERY,
    NO_VERSION,
    NOT_FOUND,
    OK,
    TOO_SLOW,
    UNAUTHORIZED,
    UNAVAILABLE,
    api_operation,
    fails,
)
from receiver.web.document import document_of
from receiver.web.endpoint_bodies import Liveness, NotReady, Readiness
from receiver.web.health import live, ready, show_metrics
from receiver.web.operation import (
    HTML,
    JSON,
    RETRY_AFTER,
    TEXT,
    Group,
    Handler,
    Operation,
    ResponseSpec,
    returns,
    with_body,
    with_query,
    without_input,
)
from receiver.web.overview import Overview
from receiver.web.page.reference import Reference
from receiver.web.page.versions import AppVersions, VersionsView
from receiver.web.problems import PROBLEM_JSON, Problem, ProblemCode
from receiver.web.rule_operations import of_rules
from receiver.web.webhook import Hooks
from receiver.web.webhook_operations import of_docker_hub

AWAY_OR_CROWDED = ResponseSpec(
    f"{AWAY.description} With `wait` also: too many requests wait (`too_many_waiting`), or the "
    "receiver stops (`stopping`).",
    AWAY.content,
    RETRY_AFTER,
)


def operations(hooks: Hooks, shelf: VersionsView) -> list[Operation]:
    """Return all operations; `shelf` caches the versions at Edgegap."""
    listed = [
        *of_rules(),
        *_of_deliveries(),
        *_of_parked(),
        *_of_channels(),
        *_of_trials_and_promotions(),
        *_of_versions(shelf),
        *_of_pauses(),
        api_operation(
            "GET /api/overview", "getOverview", Group.OVERVIEW,
            "Overview of the current state",
            without_input(api.show_overview),
            responses={OK: returns(Overview, "Rules, repositories, parked work, problems.")},
        ),
        api_operation(
            "GET /api/settings", "getSettings", Group.OVERVIEW,
            "Hashes of the active settings",
            without_input(api.show_settings),
            responses={OK: returns(bodies.SettingsHashes, "A keyed hash of each setting.")},
        ),
        api_operation(
            "POST /api/reload", "reloadConfiguration", Group.OVERVIEW,
            "Reload the configuration",
            without_input(api.reload),
            responses={
                OK: returns(bodies.Reloaded, "The new configuration is in force."),
                CONFLICT: fails(
                    ProblemCode.CONFIGURATION_REFUSED,
                    why="It has faults, or is not safe without a restart; the one before stays.",
                ),
            },
            description="As a SIGHUP does; with replicas, only this one reads it again.",
        ),
        api_operation(
            "POST /api/tokens/revoke", "revokeToken", Group.TOKENS,
            "Revoke an API token",
            with_body(bodies.RevokeRequest, api.revoke_token),
            responses={OK: returns(bodies.Revoked, "The token is revoked.")},
        ),
        *of_docker_hub(hooks),
        *_of_monitoring(),
    ]  # fmt: skip

    @cache
    def document() -> bytes:
        return document_of(listed)

    listed += _of_the_document(document)
    return listed


def _of_the_document(document: Callable[[], bytes]) -> list[Operation]:
    async def show_document(_: Request) -> Response:
        return Response(document(), media_type=JSON)

    return [
        Operation(
            "GET", "/api", "getReference", Group.OVERVIEW, "This reference",
            Handler(Reference(document).show),
            {
                OK: ResponseSpec("All operations, errors and schemas.", {HTML: str}),
                HTTPStatus.TEMPORARY_REDIRECT: ResponseSpec(
                    "The request accepts JSON, and no HTML.",
                    headers={"Location": "/api/openapi.json"},
                ),
            },
            description="A trailing slash is accepted, without a redirect.",
            security=(),
            slash=True,
        ),
        Operation(
            "GET", "/api/openapi.json", "getDocument", Group.OVERVIEW, "The OpenAPI document",
            Handler(show_document),
            {OK: returns(dict[str, Any], "OpenAPI 3.1.")},
            security=(),
        ),
    ]  # fmt: skip


def _of_deliveries() -> list[Operation]:
    return [
        api_operation(
            "GET /api/deliveries", "listDeliveries", Group.DELIVERIES,
            "Deliveries, newest first",
            with_query(bodies.DeliveriesQuery, api.list_deliveries, for_one_repository=True),
            responses={
                OK: ResponseSpec(
                    "One page, each delivery with its registrations in short.",
                    {JSON: DeliveryPage},
                    {"Link": 'The next page, with `rel="next"`; missing on the last page.'},
                ),
                NOT_FOUND: fails(
                    ProblemCode.PUSH_UNKNOWN,
                    why="With `wait`: no push of the image, or of this digest of it, is known.",
                ),
                TOO_SLOW: fails(
                    ProblemCode.STILL_WAITING,
                    why="With `wait`: a registration is neither done nor parked yet. Ask again.",
                ),
                CONFLICT: fails(
                    ProblemCode.PUSH_NOT_DONE,
                    why="With `wait`: the push was ignored or refused, or a registration is "
                    "parked or dismissed, or its version is superseded or was deleted.",
                ),
                UNAVAILABLE: AWAY_OR_CROWDED,
            },
            description=(
                "With `wait`, the response is delayed until the newest delivery of `image` has a "
                "result; 200 is then returned only if everything is done."
            ),
        ),
        api_operation(
            "POST /api/deliveries", "pushImage", Group.DELIVERIES,
            "Push an image manually",
            with_body(bodies.PushRequest, api.push, for_one_repository=True),
            responses={
                OK: returns(DeliveryDetail, "Recorded; no rule matches: see the reason."),
                ACCEPTED: returns(DeliveryDetail, "Recorded and queued."),
            },
            description="The image is processed by the same rules as a webhook.",
        ),
        api_operation(
            "GET /api/deliveries/{id}", "getDelivery", Group.DELIVERIES,
            "One delivery with its history",
            without_input(api.show_delivery, for_one_repository=True),
            responses={
                OK: returns(
                    DeliveryDetail, "The push, the rule, each request, and what to do now."
                ),
                **NO_DELIVERY,
            },
            parameters=IDENTITY,
            one_repository=True,
        ),
        api_operation(
            "POST /api/deliveries/{id}/replay", "replayDelivery", Group.DELIVERIES,
            "Replay one delivery",
            without_input(api.replay_delivery, for_one_repository=True),
            responses={
                ACCEPTED: returns(
                    Replayed,
                    "The rules were applied again and the registrations restarted. A refused "
                    "delivery contains no push and stays refused.",
                ),
                **NO_DELIVERY,
            },
            parameters=IDENTITY,
            one_repository=True,
        ),
        api_operation(
            "POST /api/replay", "replayDeliveries", Group.DELIVERIES,
            "Replay many deliveries",
            with_body(bodies.ReplayRequest, api.replay),
            responses={ACCEPTED: returns(ReplayedDeliveries, "What was replayed or missing.")},
        ),
        api_operation(
            "POST /api/catch-up", "recordMissedPushes", Group.DELIVERIES,
            "Record missed pushes",
            with_body(bodies.CatchUpRequest, api.record_missed),
            responses={ACCEPTED: returns(bodies.CaughtUp, "The recorded deliveries.")},
        ),
    ]  # fmt: skip


def _of_parked() -> list[Operation]:
    return [
        api_operation(
            "POST /api/dismiss", "dismissRegistrations", Group.PARKED,
            "Dismiss parked registrations",
            with_body(bodies.DismissRequest, api.dismiss_parked, rules=bodies.IDS_OR_ALL),
            responses={OK: returns(Changed, "The dismissed registrations.")},
        ),
        api_operation(
            "POST /api/dismiss/undo", "undoDismissal", Group.PARKED,
            "Park dismissed registrations again",
            with_body(bodies.UndoDismissalRequest, api.undo),
            responses={OK: returns(Changed, "The registrations that are parked again.")},
        ),
    ]  # fmt: skip


def _of_channels() -> list[Operation]:
    return [
        api_operation(
            "GET /api/channels", "listChannels", Group.CHANNELS,
            "Channels with their images, holds and last moves",
            with_query(bodies.ChannelsQuery, api.show_channels),
            responses={OK: returns(bodies.ChannelList, "The channels of all rules."), **NO_APP},
        ),
        api_operation(
            "POST /api/rollback", "rollBackChannel", Group.CHANNELS,
            "Roll back a channel and hold it",
            with_body(bodies.RollbackRequest, api.roll_back),
            responses={
                ACCEPTED: returns(bodies.QueuedMove, MOVED),
                CONFLICT: fails(
                    ProblemCode.CHANNEL_NOT_CHANGED,
                    why="The channel has no previous image, or no rule has it.",
                ),
            },
        ),
        api_operation(
            "POST /api/promote", "promoteChannel", Group.CHANNELS,
            "Promote a channel and hold it",
            with_body(bodies.PromoteRequest, api.promote_channel),
            responses={
                ACCEPTED: returns(bodies.QueuedMove, MOVED),
                CONFLICT: fails(
                    ProblemCode.CHANNEL_NOT_CHANGED,
                    why="There is no such version or channel to copy, or no rule has this channel.",
                ),
            },
        ),
        api_operation(
            "POST /api/release", "releaseChannel", Group.CHANNELS,
            "Release a held channel",
            with_body(bodies.ReleaseRequest, api.release_channel),
            responses={
                OK: returns(bodies.Released, "The next push above the channel's version moves it."),
                CONFLICT: fails(
                    ProblemCode.CHANNEL_NOT_CHANGED,
                    why="The channel is not held, or no rule has this channel.",
                ),
            },
        ),
    ]  # fmt: skip


def _of_versions(shelf: VersionsView) -> list[Operation]:
    return [
        api_operation(
            "GET /api/versions", "getVersions", Group.VERSIONS,
            "An app's versions",
            with_query(bodies.AppQuery, api.showing_versions(shelf)),
            responses={
                OK: returns(
                    AppVersions,
                    "The versions at Edgegap, the push of each, channels, and the versions that "
                    "retention would delete.",
                ),
                **NO_APP,
            },
        ),
        api_operation(
            "GET /api/diff", "diffVersions", Group.VERSIONS,
            "What differs between two versions",
            with_query(bodies.DiffQuery, api.diff_versions),
            responses={
                OK: returns(
                    VersionDiff, "Settings, ports and variables by name; no value of a variable."
                ),
                **NO_VERSION,
            },
        ),
        api_operation(
            "GET /api/export", "exportVersion", Group.VERSIONS,
            "The settings of a version as TOML",
            with_query(bodies.ExportQuery, api.export_version),
            responses={
                OK: returns(
                    ExportedSettings, "Values of variables are read from the receiver's variables."
                ),
                **NO_VERSION,
            },
        ),
        api_operation(
            "POST /api/prune", "pruneVersions", Group.VERSIONS,
            "Delete old versions of an app",
            with_body(bodies.PruneRequest, api.prune_versions),
            responses={
                OK: returns(
                    bodies.PruneResult,
                    "The versions that may be deleted, and the result of each deletion.",
                ),
                CONFLICT: fails(
                    ProblemCode.NO_RETENTION,
                    ProblemCode.DELETION_IN_PROGRESS,
                    why="No rule of the app has `keep`, or a deletion is in progress.",
                ),
            },
        ),
    ]  # fmt: skip


def _of_pauses() -> list[Operation]:
    return [
        api_operation(
            "GET /api/pauses", "listPauses", Group.PAUSES,
            "List pauses",
            without_input(api.list_pauses),
            responses={OK: returns(PausedRepositories, "The current pauses.")},
        ),
        api_operation(
            "POST /api/pause", "pauseRepository", Group.PAUSES,
            "Pause a repository",
            with_body(bodies.PauseRequest, api.pause),
            responses={
                OK: returns(PausedRepositories, "The current pauses."),
                CONFLICT: fails(
                    ProblemCode.REPOSITORY_UNKNOWN,
                    why="No rule names the repository, and the ledger has no push to it.",
                ),
            },
        ),
        api_operation(
            "POST /api/resume", "resumeRepository", Group.PAUSES,
            "Resume a repository",
            with_body(bodies.PauseRequest, api.resume),
            responses={OK: returns(Resumed, "Whether it was paused, and the current pauses.")},
            description="* ends every pause.",
        ),
        api_operation(
            "POST /api/open-gate", "openGate", Group.PAUSES,
            "Open a gate",
            with_body(bodies.OpenGateRequest, api.open_gate),
            responses={
                OK: returns(bodies.OpenedGate, "The gate was opened."),
                CONFLICT: fails(
                    ProblemCode.GATE_NOT_CLOSED,
                    why="The gate was already open.",
                ),
            },
            description=(
                "Registrations that wait for Edgegap are tried now. If Edgegap refuses again, the "
                "gate closes again."
            ),
        ),
    ]  # fmt: skip


def _of_monitoring() -> list[Operation]:
    crowded = "there are too many connections (`too_many_connections`)."
    return [
        Operation(
            "GET", "/livez", "getLiveness", Group.MONITORING, "Liveness", Handler(live),
            {
                OK: returns(Liveness, "The worker's loops are running."),
                UNAVAILABLE: ResponseSpec(
                    f"The worker is not running, or {crowded}",
                    {JSON: Liveness, PROBLEM_JSON: Problem},
                ),
            },
            security=(),
        ),
        Operation(
            "GET", "/readyz", "getReadiness", Group.MONITORING, "Readiness", Handler(ready),
            {
                OK: returns(
                    Readiness,
                    "A delivery can be recorded now; no problem in `degraded` loses a push.",
                ),
                UNAVAILABLE: ResponseSpec(
                    f"A delivery cannot be recorded now, or {crowded}",
                    {JSON: NotReady, PROBLEM_JSON: Problem},
                ),
            },
            description="The details of problems require an API token.",
            security=("", "token"),
        ),
        Operation(
            "GET", "/metrics", "getMetrics", Group.MONITORING, "Metrics", Handler(show_metrics),
            {
                OK: ResponseSpec("Prometheus' text format.", {TEXT: str}),
                UNAUTHORIZED: fails(
                    ProblemCode.TOKEN_INVALID,
                    why="RECEIVER_METRICS_TOKEN is set, and the request's token is missing or "
                    "wrong.",
                    headers=CHALLENGE,
                ),
                UNAVAILABLE: AWAY,
            },
            security=("", "metricsToken"),
        ),
    ]  # fmt: skip


def _of_trials_and_promotions() -> list[Operation]:
    return [
        api_operation(
            "GET /api/promotion", "showPromotion", Group.CHANNELS,
            "What a promotion would change",
            with_query(bodies.PromotionQuery, api.show_promotion),
            responses={
                OK: returns(ProposedMove, "Images, digest, trial, and what is running now."),
                CONFLICT: fails(
                    ProblemCode.CHANNEL_NOT_CHANGED,
                    why="There is no such version or channel to copy, or no rule has this channel.",
                ),
            },
        ),
        api_operation(
            "POST /api/trials", "tryVersion", Group.TRIALS,
            "Try a version",
            with_body(bodies.TrialRequest, api.request_trial),
            responses={
                ACCEPTED: returns(
                    bodies.QueuedTrial,
                    "Recorded as a delivery and queued: one deployment is started, watched and "
                    "stopped. It costs what Edgegap takes for a deployment.",
                ),
                CONFLICT: fails(
                    ProblemCode.VERSION_NOT_TRIED,
                    why="The ledger does not know the version, no rule is for it, or neither the "
                    "rule nor the request says where to deploy it.",
                ),
            },
        ),
    ]  # fmt: skip
