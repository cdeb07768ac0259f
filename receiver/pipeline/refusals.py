"""Why Edgegap refused a read, in the words of an attempt."""

from http import HTTPStatus

from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.responses import Answer
from receiver.pipeline.retry import Action, Operation, policy_for, resolve_forbidden, summary_of
from receiver.reasons import Reason, explain


async def why_refused(
    client: EdgegapClient, operation: Operation, answer: Answer, **facts: object
) -> tuple[Reason, str]:
    """Explain a failed response as an attempt would, for callers that only read.

    After a 403 the token is tested.
    """
    policy = policy_for(operation, answer)
    if policy.then is Action.CLOSE_GATE and answer.status == HTTPStatus.FORBIDDEN:
        policy, answer = resolve_forbidden(answer, await client.probe())
    reason = policy.reason or Reason.REFUSED_BY_EDGEGAP
    return reason, explain(reason, detail=summary_of(answer), **facts)
