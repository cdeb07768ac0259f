"""The operations of the API on trials and promotions."""

from receiver.upkeep.promotion import ProposedMove
from receiver.web import bodies, promotion_api
from receiver.web.api_operation import ACCEPTED, CONFLICT, OK, api_operation, fails
from receiver.web.operation import Group, Operation, returns, with_body, with_query
from receiver.web.problems import ProblemCode


def promotion_operations() -> list[Operation]:
    """Return these operations."""
    return [
        api_operation(
            "GET /api/promotion", "showPromotion", Group.CHANNELS,
            "What a promotion would change",
            with_query(bodies.PromotionQuery, promotion_api.show_promotion),
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
            with_body(bodies.TrialRequest, promotion_api.request_trial),
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
