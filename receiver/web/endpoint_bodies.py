"""The bodies of the webhook endpoint and of the health endpoints."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from receiver.ledger.views import DeliveryId, described
from receiver.reasons import Reason

Text = str | UnsetType | None


class PushData(msgspec.Struct, frozen=True):
    """The push in Docker Hub's body."""

    tag: Annotated[Text, described("Without a tag the delivery is ignored: `no_tag`.", "1.4.2")] = (
        UNSET
    )
    pushed_at: Annotated[
        Any, described("Epoch seconds; dropped if it is not such a number.", 1_795_453_200)
    ] = UNSET
    pusher: Annotated[Any, described("Displayed; dropped if it is not text.")] = UNSET
    media_type: Text = UNSET


class PushedRepository(msgspec.Struct, frozen=True):
    """The repository in Docker Hub's body."""

    repo_name: Annotated[Text, Meta(examples=["studio/game-server"])] = UNSET
    namespace: Text = UNSET
    name: Text = UNSET


class WebhookBody(msgspec.Struct, frozen=True):
    """The parts of Docker Hub's webhook body that are read. The Content-Type is ignored."""

    push_data: PushData
    repository: PushedRepository


class AcceptedPush(msgspec.Struct, frozen=True):
    """A push that is recorded on disk and queued."""

    delivery: DeliveryId
    verdict: Literal["accepted"]


class IgnoredPush(msgspec.Struct, frozen=True):
    """A push that is recorded, and that no rule wants."""

    delivery: DeliveryId
    verdict: Literal["ignored"]
    reason: Reason


class RefusedBody(msgspec.Struct, frozen=True):
    """A body that is not a push; it is recorded, unless there are too many."""

    verdict: Literal["refused"]
    reason: Reason
    error: str
    delivery: DeliveryId | UnsetType = UNSET


class NotAccepted(msgspec.Struct, frozen=True):
    """A push that is not recorded: send it again."""

    error: str
    reason: Literal["ledger_unavailable"]


class ErrorMessage(msgspec.Struct, frozen=True):
    """An error."""

    error: Annotated[str, described("What happened, and what to do.")]


class Liveness(msgspec.Struct, frozen=True):
    """Whether the worker's loops are running."""

    alive: bool


class Readiness(msgspec.Struct, frozen=True):
    """A push can be recorded now."""

    ready: Annotated[bool, described("True.")]
    degraded: Annotated[
        tuple[str, ...],
        Meta(description="Codes of other problems, with an API token also their messages."),
    ]
    replica: Annotated[
        str | UnsetType, described("The id of this process; only with an API token.")
    ] = UNSET


class NotReady(msgspec.Struct, frozen=True):
    """A push cannot be recorded now."""

    ready: Annotated[bool, described("False.")]
    error: str
    replica: Annotated[
        str | UnsetType, described("The id of this process; only with an API token.")
    ] = UNSET
