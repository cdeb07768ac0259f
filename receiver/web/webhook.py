"""The webhook endpoint for Docker Hub: HTTP in, JSON out; `intake.py` applies the rules."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from receiver.dockerhub.webhook import Push, read_push, skip_reason
from receiver.errors import BadBody, BadLink, LedgerError
from receiver.ledger.views import DeliveryId, described
from receiver.logs import get_logger
from receiver.pipeline.intake import (
    KEPT_SAMPLE_BYTES,
    SAMPLE_BYTES,
    TEST,
    WEBHOOK,
    Sender,
    refuse,
    take,
)
from receiver.reasons import Reason, Verdict, explain
from receiver.service import Service
from receiver.signing import LinkFault, what_to_do
from receiver.web.body import SMALL_BODY, ClientDisconnected, decoded, read_body
from receiver.web.clients import MinuteLimiter, Senders, client_of
from receiver.web.messages import Problem, ProblemCode, not_found, problem
from receiver.web.operation import (
    ACCEPTED,
    OK,
    RETRY_AFTER,
    TEXT,
    Group,
    Operation,
    ResponseSpec,
    endpoint,
    fails,
    returns,
)

WRONG_TOKENS_A_MINUTE = 60
BAD_BODIES_A_MINUTE = 30
MAX_UNVERIFIED_BODIES = 8  # at a time: other senders' bodies must not delay a push
UNVERIFIED_BODY_SECONDS = 2.0
# Anyone may send these; with a body of Docker Hub's, the link is a damaged link of ours.
AMBIGUOUS_FAULTS = frozenset({LinkFault.MALFORMED, LinkFault.UNKNOWN_REPOSITORY})
CODES = {
    reason: ProblemCode(reason.value)
    for reason in (Reason.BODY_TOO_LARGE, Reason.BODY_TOO_SLOW, Reason.TOO_MANY_BODIES)
}
PROOF_HEADER = "Receiver-Proof"
GREETING = (
    "This is a link for Docker Hub. Paste it into your repository's Webhooks tab there; "
    "it accepts POST requests only.\n"
)

Text = str | UnsetType | None

log = get_logger()


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


class RefusedPush(Problem, frozen=True):
    """An error of the webhook endpoint: with a verdict, the body was refused.

    It is recorded as a delivery, unless there are too many.
    """

    verdict: Literal["refused"] | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    delivery: DeliveryId | UnsetType = UNSET


_PATH, _LINK = "/hooks/dockerhub/{token}", "The last segment of a link, valid for one repository."


class Hooks:
    """Accepts the webhooks that Docker Hub sends to a link."""

    def __init__(self, trusted_proxies: str) -> None:
        self._wrong_tokens = MinuteLimiter(WRONG_TOKENS_A_MINUTE)
        self._bad_bodies = MinuteLimiter(BAD_BODIES_A_MINUTE)
        self._unverified_bodies = 0
        self._senders = Senders(trusted_proxies)

    def operations(self) -> list[Operation]:
        """Return the operations at the address of a link."""
        receive = endpoint(
            f"POST {_PATH}", Group.DOCKER_HUB,
            returns(IgnoredPush, "Recorded and ignored: see the reason."),
            returns(AcceptedPush, "Recorded on disk.", ACCEPTED),
            fails(ProblemCode.NOT_A_PUSH, why="The body is not a push.", kind=RefusedPush),
            fails(
                ProblemCode.NOT_FOUND,
                why="The token is wrong, revoked, or for another repository: the response is the "
                "same.",
            ),
            fails(
                ProblemCode.BODY_TOO_SLOW, why="The body took over 10 seconds.", kind=RefusedPush
            ),
            fails(ProblemCode.BODY_TOO_LARGE, why="The body is over 1 MiB.", kind=RefusedPush),
            fails(
                ProblemCode.TOO_MANY_WRONG_TOKENS,
                why="Too many wrong tokens from one address. A valid link is never limited.",
                headers=RETRY_AFTER,
            ),
            fails(
                ProblemCode.LEDGER_UNAVAILABLE,
                ProblemCode.TOO_MANY_BODIES,
                ProblemCode.TOO_MANY_CONNECTIONS,
                why="The push was not accepted: the ledger cannot be written now, or there are too "
                "many large bodies or connections. Send it again.",
                headers=RETRY_AFTER, kind=RefusedPush,
            ),
            parameters={"token": _LINK}, body=WebhookBody, slash=True,
        )  # fmt: skip
        proof = (
            "The response to a challenge signed by `receiver doctor`; it identifies this receiver."
        )
        explain_it = endpoint(
            f"GET {_PATH}", Group.DOCKER_HUB,
            ResponseSpec(
                OK, "A short explanation, the same for any token.", {TEXT: str},
                {PROOF_HEADER: proof},
            ),
            parameters={"token": _LINK}, slash=True,
        )  # fmt: skip
        return [receive(self.receive_webhook), explain_it(self.explain_link)]

    async def explain_link(self, request: Request) -> Response:
        """Explain a link."""
        service: Service = request.app.state.service
        proof = service.links.proof(request.path_params["token"])
        headers = {} if proof is None else {PROOF_HEADER: proof}
        return PlainTextResponse(GREETING, headers=headers)

    async def receive_webhook(self, request: Request) -> Response:
        """Receive a webhook from Docker Hub.

        A trailing slash is accepted, without a redirect.
        """
        service: Service = request.app.state.service
        try:
            repository, key = service.links.read(request.path_params["token"])
        except BadLink as error:
            return await self._answer_invalid_link(service, request, error)
        try:
            return await self._take(service, request, repository, key)
        except (LedgerError, MemoryError) as error:
            return _unavailable(str(error) or "out of memory", repository)

    async def _take(
        self, service: Service, request: Request, repository: str, key: int
    ) -> Response:
        """Receive it on a valid link; raises LedgerError if nothing can be recorded."""
        body = b""
        try:
            body = decoded(request, await read_body(request))
            push = read_push(body)
        except ClientDisconnected:
            address = await self._senders.address_of(request)
            log.warning("client_disconnected", repository=repository, address=address)
            return Response(status_code=400)
        except BadBody as error:
            sender = await self._sender(service, request, body)
            return await self._refuse(service, repository, error, request, sender)
        sender, size = await self._sender(service, request, body), len(body)
        del body  # of concurrent bodies only the parsed pushes stay in memory
        if push.repository != repository:
            await self._note_other(service, repository, push.repository, sender)
            why = f"a push to {push.repository} on {repository}'s link"
            other = BadLink(LinkFault.OTHER_REPOSITORY, why, repository)
            return await self._answer_invalid_link(service, request, other)
        is_test = skip_reason(push) is Reason.TEST_PUSH
        recorded = await take(
            service.ledger,
            service.settings.rules,
            push,
            source=TEST if is_test else WEBHOOK,
            notices=service.settings.notices,
            body_bytes=size,
            sender=sender,
        )
        if not is_test:
            service.link_uses.note(repository, key)
        reason = recorded.ruling.reason
        if reason is None:
            service.worker.wake()
            return _JsonResponse(AcceptedPush(recorded.delivery, "accepted"), ACCEPTED)
        return _JsonResponse(IgnoredPush(recorded.delivery, "ignored", reason), OK)

    async def _sender(self, service: Service, request: Request, body: bytes) -> Sender:
        keep = service.settings.keep_bodies is not None
        return Sender(
            await self._senders.address_of(request),
            request.headers.get("user-agent", ""),
            request.path_params["token"],
            body[: KEPT_SAMPLE_BYTES if keep else SAMPLE_BYTES],
            request.headers.keys() if keep else None,
        )

    async def _note_other(
        self, service: Service, repository: str, other: str, sender: Sender
    ) -> None:
        """Record that a link is used for another repository, so that its owner finds the push.

        The sender gets the same response as for any invalid link.
        """
        if not self._bad_bodies.allows(repository):
            return
        reason = Reason.OTHER_REPOSITORY
        sentence = explain(reason, repository=repository, detail=other)
        with suppress(LedgerError):
            error, received = BadBody(reason, sentence), sender.received(None)
            await refuse(service.ledger, repository, error, None, received)

    async def count_invalid_path(self, request: Request) -> None:
        """Count a POST to an unknown path if it may be one of Docker Hub's."""
        service: Service = request.app.state.service
        path = request.url.path
        strayed = service.links.stray(path)
        error = strayed or BadLink(LinkFault.MALFORMED, "the path is not a link")
        address = await self._senders.address_of(request)
        if not self._wrong_tokens.allows(client_of(address)):
            return
        error = await self._judge(service, request, error)
        if strayed is not None or error.reason not in AMBIGUOUS_FAULTS:
            self._count(service, error, address)

    async def _answer_invalid_link(
        self, service: Service, request: Request, error: BadLink
    ) -> Response:
        """Answer an invalid link: always the same 404, whatever the cause."""
        address = await self._senders.address_of(request)
        if not self._wrong_tokens.allows(client_of(address)):
            service.refused_links.count(error)
            return problem(
                ProblemCode.TOO_MANY_WRONG_TOKENS,
                "too many requests with an invalid link; wait a minute",
                {"Retry-After": "60"},
            )
        self._count(service, await self._judge(service, request, error), address)
        return not_found()

    def _count(self, service: Service, error: BadLink, address: str) -> None:
        service.refused_links.count(error)
        log.warning(
            "link_refused",
            address=address,
            reason=error.reason,
            repository=error.repository,
            why=str(error),
            todo=what_to_do(LinkFault(error.reason), error.repository),
        )

    async def _judge(self, service: Service, request: Request, error: BadLink) -> BadLink:
        """Return the fault of a request that may be unrelated to links, judged by its body."""
        push = await self._unverified_push(request) if error.reason in AMBIGUOUS_FAULTS else None
        if push is None:
            return error
        ours = any(rule.repository == push.repository for rule in service.settings.rules)
        if not ours and error.reason == LinkFault.UNKNOWN_REPOSITORY:
            return error
        why = "Docker Hub's webhook, to an address that is no link"
        return BadLink(LinkFault.MISDIRECTED, why, push.repository if ours else None)

    async def _unverified_push(self, request: Request) -> Push | None:
        """Read the body of a request without a valid link, if it is Docker Hub's."""
        length = request.headers.get("content-length", "")
        declared = length.isascii() and length.isdigit() and 0 < int(length[:12]) <= SMALL_BODY
        if not declared or self._unverified_bodies >= MAX_UNVERIFIED_BODIES:
            return None
        self._unverified_bodies += 1
        try:
            with suppress(BadBody, ClientDisconnected, TimeoutError):
                async with asyncio.timeout(UNVERIFIED_BODY_SECONDS):
                    return read_push(await read_body(request, SMALL_BODY))
        finally:
            self._unverified_bodies -= 1
        return None

    async def _refuse(
        self, service: Service, repository: str, error: BadBody, request: Request, sender: Sender
    ) -> Response:
        reason = Reason(error.reason)
        delivery: str | UnsetType = UNSET
        code = CODES.get(reason, ProblemCode.NOT_A_PUSH)
        headers = {} if code is ProblemCode.NOT_A_PUSH else {"Connection": "close"}
        if self._bad_bodies.allows(repository):
            length = request.headers.get("content-length", "")
            size = int(length[:12]) if length.isascii() and length.isdigit() else None
            try:
                received = sender.received(code.status.value)
                recorded = await refuse(service.ledger, repository, error, size, received)
            except LedgerError as away:
                log.error("ledger_unavailable", error=str(away), repository=repository)
            else:
                delivery = recorded.delivery
        return problem(
            code, str(error), headers, kind=RefusedPush,
            verdict=Verdict.REFUSED.value, reason=reason, delivery=delivery,
        )  # fmt: skip


class _JsonResponse(Response):
    """The response to nearly every push; Starlette's header handling would double its cost."""

    def __init__(self, payload: AcceptedPush | IgnoredPush, status: int) -> None:
        self.status_code = status
        self.background = None
        self.body = msgspec.json.encode(payload)
        self.raw_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
        ]


def _unavailable(error: str, repository: str) -> Response:
    log.error("ledger_unavailable", error=error, repository=repository)
    detail = "the ledger cannot be written now: this push was not accepted; send it again"
    return problem(ProblemCode.LEDGER_UNAVAILABLE, detail, {"Retry-After": "10"})
