"""The API's operations on channels, and on trials, which the moves of channels may need."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from receiver.backoff import SECOND
from receiver.edgegap.deployment_answers import read_near
from receiver.images import is_digest
from receiver.ledger import channels
from receiver.ledger.deliveries import RecordedDelivery
from receiver.ledger.transaction import Tx
from receiver.logs import Source, requested_by
from receiver.rules.channel_order import ManualAction
from receiver.rules.rule import TargetKey
from receiver.service import Service
from receiver.upkeep import trials
from receiver.upkeep.channels import ChannelNotMoved, promote, rollback_channel
from receiver.upkeep.promotion import ProposedMove
from receiver.web.bodies import (
    ChannelList,
    ChannelsQuery,
    PromoteRequest,
    PromotionQuery,
    QueuedMove,
    QueuedTrial,
    Released,
    ReleaseRequest,
    RollbackQuery,
    RollbackRequest,
    TrialRequest,
)
from receiver.web.messages import NO_DIGEST, BadRequest, ProblemCode, given, json_response, problem
from receiver.web.operation import ACCEPTED, Group, api, fails, returns, source_of
from receiver.web.versions import NO_APP, apps_of, no_such_app

MOVED = returns(
    QueuedMove,
    "Recorded as a delivery and queued. The channel is held: nothing moves it until it is "
    "released, or until a push above the version named in the sentence.",
    ACCEPTED,
)
NOT_PROMOTED = fails(
    ProblemCode.CHANNEL_NOT_CHANGED,
    why="There is no such version or channel to copy, or no rule has this channel.",
)
NOT_ROLLED_BACK = fails(
    ProblemCode.CHANNEL_NOT_CHANGED,
    why="The channel has no previous image, or no rule has it.",
)
CHANGES = returns(ProposedMove, "Images, digest, trial, settings, and what is running now.")


@api(
    "GET /api/channels", Group.CHANNELS,
    returns(ChannelList, "The channels of all rules."), NO_APP,
)  # fmt: skip
async def list_channels(service: Service, _: Request, query: ChannelsQuery) -> Response:
    """List channels with their images, holds and last moves."""
    app = given(query.app)
    if app is not None and app not in apps_of(service):
        return no_such_app(service)
    named = service.settings.channels(app)
    found = await service.ledger.read(lambda tx: channels.list_channels(tx, named))
    return json_response(ChannelList(tuple(found)))


@api("POST /api/rollback", Group.CHANNELS, MOVED, NOT_ROLLED_BACK)
async def roll_back_channel(service: Service, request: Request, body: RollbackRequest) -> Response:
    """Roll back a channel and hold it."""
    rules, channel, source = (
        service.settings.rules,
        TargetKey(body.app, body.channel),
        source_of(request),
    )
    by = requested_by(source)

    def move(tx: Tx) -> RecordedDelivery:
        return rollback_channel(tx, rules, *channel, body.to, source=source, by=by, tag=body.tag)

    return await _moved(service, move, ManualAction.ROLLBACK, channel, source)


@api("POST /api/promote", Group.CHANNELS, MOVED, NOT_PROMOTED)
async def promote_channel(service: Service, request: Request, body: PromoteRequest) -> Response:
    """Promote a channel and hold it."""
    if body.digest is not None and not is_digest(body.digest):
        raise BadRequest(NO_DIGEST)
    rules, channel, source = (
        service.settings.rules,
        TargetKey(body.app, body.channel),
        source_of(request),
    )
    by = requested_by(source)

    def move(tx: Tx) -> RecordedDelivery:
        return promote(
            tx,
            rules,
            *channel,
            to=body.to,
            from_channel=body.from_channel,
            tag=body.tag,
            digest=body.digest,
            source=source,
            by=by,
        )

    return await _moved(service, move, ManualAction.PROMOTE, channel, source)


async def _moved(
    service: Service,
    move: Callable[[Tx], RecordedDelivery],
    action: ManualAction,
    channel: TargetKey,
    source: Source,
) -> Response:
    try:
        recorded = await service.manual.move_channel(channel, source, lambda tx: (action, move(tx)))
    except ChannelNotMoved as error:
        return problem(ProblemCode.CHANNEL_NOT_CHANGED, str(error))
    return json_response(QueuedMove(recorded.delivery, recorded.ruling.sentence), 202)


@api(
    "POST /api/release", Group.CHANNELS,
    returns(Released, "The next push above the channel's version moves it."),
    fails(
        ProblemCode.CHANNEL_NOT_CHANGED,
        why="The channel is not held, or no rule has this channel.",
    ),
)  # fmt: skip
async def release_channel(service: Service, request: Request, body: ReleaseRequest) -> Response:
    """Release a held channel."""
    channel = TargetKey(body.app, body.channel)
    try:
        sentence = await service.manual.release_channel(channel, source_of(request))
    except ChannelNotMoved as error:
        return problem(ProblemCode.CHANNEL_NOT_CHANGED, str(error))
    return json_response(Released(sentence))


@api("GET /api/promotion", Group.CHANNELS, CHANGES, NOT_PROMOTED)
async def show_promotion(service: Service, _: Request, query: PromotionQuery) -> Response:
    """Show what a promotion would change."""
    channel, to, other = (
        TargetKey(query.app, query.channel),
        given(query.to),
        given(query.from_channel),
    )
    return await _proposed(service.moves.promotion(channel, to=to, from_channel=other))


@api("GET /api/rollback", Group.CHANNELS, CHANGES, NOT_ROLLED_BACK)
async def show_rollback(service: Service, _: Request, query: RollbackQuery) -> Response:
    """Show what a rollback would change."""
    channel = TargetKey(query.app, query.channel)
    return await _proposed(service.moves.rollback(channel, given(query.to)))


async def _proposed(move: Awaitable[ProposedMove]) -> Response:
    try:
        return json_response(await move)
    except ChannelNotMoved as error:
        return problem(ProblemCode.CHANNEL_NOT_CHANGED, str(error))


@api(
    "POST /api/trials", Group.TRIALS,
    returns(
        QueuedTrial,
        "Recorded as a delivery and queued: one deployment is started, watched and stopped. It "
        "is billed by Edgegap as a deployment.",
        ACCEPTED,
    ),
    fails(
        ProblemCode.VERSION_NOT_TRIED,
        why="The ledger does not know the version, no rule is for it, or neither the rule nor the "
        "request says where to deploy it.",
    ),
)  # fmt: skip
async def try_version(service: Service, request: Request, body: TrialRequest) -> Response:
    """Try a version."""
    rules, source = service.settings.rules, source_of(request)
    keep = None if body.keep_seconds is None else body.keep_seconds * SECOND
    try:
        if body.at is not None:
            read_near(body.at)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    by = requested_by(source)
    try:
        recorded = await service.ledger.write(
            lambda tx: trials.try_version(
                tx, rules, body.app, body.version, near=body.at, keep=keep, by=by
            )
        )
    except trials.NotTried as error:
        return problem(ProblemCode.VERSION_NOT_TRIED, str(error))
    trials.log_requested(body.app, body.version, recorded, source)
    service.worker.wake()
    return json_response(QueuedTrial(recorded.delivery, recorded.ruling.sentence), 202)
