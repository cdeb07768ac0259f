"""The operations of the API on trials and promotions."""

from receiver.web import bodies, promotion_api
from receiver.web.api_operation import ACCEPTED, CONFLICT, api_operation, fails
from receiver.web.operation import Group, Operation, returns, with_body
from receiver.web.problems import ProblemCode


def promotion_operations() -> list[Operation]:
    """Return these operations."""
    return [
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
