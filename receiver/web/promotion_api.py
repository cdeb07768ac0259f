"""What the operations on trials and promotions do; `promotion_operations.py` lists them."""

from starlette.requests import Request
from starlette.responses import Response

from receiver.edgegap.deployment_answers import read_near
from receiver.rules.trial import SECOND
from receiver.service import Service
from receiver.upkeep.channels import ChannelNotMoved
from receiver.upkeep.promotion import propose
from receiver.upkeep.trials import NotTried, log_requested, try_version
from receiver.web.api_auth import source_of
from receiver.web.bodies import PromotionQuery, QueuedTrial, TrialRequest
from receiver.web.messages import BadRequest, given, json_response
from receiver.web.problems import ProblemCode, problem


async def request_trial(service: Service, request: Request, body: TrialRequest) -> Response:
    """Have a version tried."""
    rules = service.settings.rules
    keep = None if body.keep_seconds is None else body.keep_seconds * SECOND
    try:
        if body.at is not None:
            read_near(body.at)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    try:
        recorded = await service.ledger.write(
            lambda tx: try_version(tx, rules, body.app, body.version, near=body.at, keep=keep)
        )
    except NotTried as error:
        return problem(ProblemCode.VERSION_NOT_TRIED, str(error))
    log_requested(body.app, body.version, recorded, source_of(request))
    service.worker.wake()
    return json_response(QueuedTrial(recorded.delivery, recorded.ruling.sentence), 202)


async def show_promotion(service: Service, _: Request, query: PromotionQuery) -> Response:
    """Show what a promotion would change."""
    rules, channel = service.settings.rules, (query.app, query.channel)
    to, other = given(query.to), given(query.from_channel)
    try:
        found = await propose(
            service.ledger, service.client, rules, channel, to=to, from_channel=other
        )
    except ChannelNotMoved as error:
        return problem(ProblemCode.CHANNEL_NOT_CHANGED, str(error))
    return json_response(found)
