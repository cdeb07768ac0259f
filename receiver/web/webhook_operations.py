"""The operations of the webhook endpoint, for the list in `operations.py`."""

from http import HTTPStatus

from receiver.web.endpoint_bodies import (
    AcceptedPush,
    ErrorMessage,
    IgnoredPush,
    NotAccepted,
    RefusedBody,
    WebhookBody,
)
from receiver.web.operation import (
    JSON,
    RETRY_AFTER,
    TEXT,
    Group,
    Handler,
    Operation,
    ResponseSpec,
    returns,
)
from receiver.web.problems import PROBLEM_JSON, Problem
from receiver.web.webhook import PROOF_HEADER, Hooks


def of_docker_hub(hooks: Hooks) -> list[Operation]:
    """Return the operations of the webhook endpoint."""
    link = {"token": "The last segment of a link, valid for one repository."}
    path = "/hooks/dockerhub/{token}"
    return [
        Operation(
            "POST", path, "receiveWebhook", Group.DOCKER_HUB,
            "Receive a webhook from Docker Hub",
            Handler(hooks.take, body=WebhookBody),
            {
                HTTPStatus.OK: returns(IgnoredPush, "Recorded and ignored: see the reason."),
                HTTPStatus.ACCEPTED: returns(AcceptedPush, "Recorded on disk."),
                HTTPStatus.BAD_REQUEST: returns(RefusedBody, "The body is not a push."),
                HTTPStatus.NOT_FOUND: returns(
                    ErrorMessage,
                    "The token is wrong, revoked, or for another repository: the response is the "
                    "same.",
                ),
                HTTPStatus.REQUEST_TIMEOUT: returns(RefusedBody, "The body took over 10 seconds."),
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE: returns(
                    RefusedBody, "The body is over 1 MiB."
                ),
                HTTPStatus.TOO_MANY_REQUESTS: ResponseSpec(
                    "Too many wrong tokens from one address. A valid link is never limited.",
                    {JSON: ErrorMessage},
                    RETRY_AFTER,
                ),
                HTTPStatus.SERVICE_UNAVAILABLE: ResponseSpec(
                    "The ledger cannot be written now and the push was not accepted, or there are "
                    "too many connections (`too_many_connections`) or large bodies. Send it again.",
                    {JSON: NotAccepted, PROBLEM_JSON: Problem},
                    RETRY_AFTER,
                ),
            },
            description="A trailing slash is accepted, without a redirect.",
            parameters=link,
            security=(),
            slash=True,
        ),
        Operation(
            "GET", path, "explainLink", Group.DOCKER_HUB,
            "Explain a link",
            Handler(hooks.greet),
            {
                HTTPStatus.OK: ResponseSpec(
                    "A short explanation, the same for any token.",
                    {TEXT: str},
                    {
                        PROOF_HEADER: "The response to a challenge signed by `receiver doctor`; it "
                        "identifies this receiver."
                    },
                )
            },
            parameters=link,
            security=(),
            slash=True,
        ),
    ]  # fmt: skip
