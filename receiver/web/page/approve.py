"""The page that an approval link opens. Only its POST changes anything: chat programs fetch links.

The token in the URL is the proof, so neither a session nor a CSRF token is needed.
"""

import time
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from receiver.errors import BadBody, LedgerError
from receiver.ledger.approvals import approvable
from receiver.logs import get_logger
from receiver.service import Service
from receiver.signing import APPROVAL_PATH, ApprovalToken
from receiver.upkeep.operations import Requester
from receiver.upkeep.promotion import ApprovalRequest, approve_move
from receiver.web.body import ClientDisconnected
from receiver.web.clients import MinuteLimiter, client_of, host_of
from receiver.web.page.answers import short_text
from receiver.web.page.auth import TRIES_A_MINUTE, current_session, failure, form_of
from receiver.web.page.rendering import render
from receiver.web.page.sessions import Session

LINK, PAGE = "link", "page"
MAX_NAME = 100
HOUR = 3600
DONE = "Approved. The channel is being moved."
DONE_LATER = "Approved. The channel is not being moved yet."

log = get_logger()


class Approving:
    """The page behind the links, with a limit on tries for each client address."""

    def __init__(self) -> None:
        self._tries = MinuteLimiter(TRIES_A_MINUTE)

    def routes(self) -> list[Route]:
        """Return the route of the links: GET and HEAD show, POST approves."""
        path = f"{APPROVAL_PATH}{{token}}"
        return [Route(path, self._respond, methods=["GET", "POST"])]

    async def _respond(self, request: Request) -> Response:
        service: Service = request.app.state.service
        token = service.approvals.read(request.path_params["token"])
        approves, address = request.method == "POST", client_of(host_of(request))
        if (approves or token is None) and not self._tries.allows(address):
            log.warning("approval_limited", address=address)
            limited = _failure(HTTPStatus.TOO_MANY_REQUESTS, "Too many attempts.", _WAIT)
            limited.headers["Retry-After"] = "60"
            return limited
        if token is None:
            return _failure(HTTPStatus.NOT_FOUND, "This link is not valid.", _NOT_OURS)
        try:
            return await self._answer(service, request, token, approves=approves)
        except ClientDisconnected:
            return Response(status_code=400)
        except LedgerError as error:
            return _failure(
                HTTPStatus.SERVICE_UNAVAILABLE, "The ledger is unavailable.", f"{error}."
            )
        except (BadBody, ValueError) as error:
            return _failure(HTTPStatus.BAD_REQUEST, "Nothing was approved.", f"{error}.")

    async def _answer(
        self, service: Service, request: Request, token: ApprovalToken, *, approves: bool
    ) -> Response:
        move, message, done = token.move, "", None
        home = service.settings.admin_password is not None
        expired = token.expires_at <= time.time()
        if approves and not expired:
            asker, host = await _asker(service, request), host_of(request)
            done = await approve_move(service.ledger, service.settings, move, asker, host)
            service.worker.wake()
        asked = await service.moves.asked(move)
        if done is not None and done.now:
            message = DONE_LATER if asked.held_back else DONE
        if asked.approval is None and expired:
            return _show(asked, home=home, heading="This link has expired.", sentence=_EXPIRED)
        if asked.approval is None and not asked.waits:
            return _show(asked, home=home, heading=_NOTHING, sentence=asked.stays or _SUPERSEDED)
        return _show(asked, home=home, message=message)


async def _asker(service: Service, request: Request) -> Requester:
    name = (await form_of(request)).get("name", "").strip()
    if len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"write a name of at most {MAX_NAME} printable characters, or none")
    on = service.settings.admin_password is not None
    session = await current_session(service, request) if on else None
    return Requester(LINK if session is None else PAGE, name)


async def to_approval(service: Service, request: Request, _: Session) -> Response:
    """Redirect a person who is signed in to the page on which a move is approved.

    Pages that list moves have no signed link: see `packed`.
    """
    identity = short_text(request.path_params["id"])
    move = await service.ledger.read(lambda tx: approvable(tx, identity, waits=False))
    if move is None:
        return failure(
            request, HTTPStatus.NOT_FOUND, "There is no such move.", "Check the address."
        )
    token = ApprovalToken(move, int(time.time()) + HOUR)
    return RedirectResponse(service.approvals.link("", token), HTTPStatus.SEE_OTHER)


def _show(
    asked: ApprovalRequest, *, home: bool, heading: str = "", sentence: str = "", message: str = ""
) -> Response:
    """Return the page; `home`: with a link to the overview. With a heading nothing is asked."""
    move, status = asked.move, HTTPStatus.GONE if heading else HTTPStatus.OK
    again = f"receiver promote {move.app} {move.channel} --to {move.tag}"
    return render(
        "approve.html", status, flash=message, asked=asked, home=home,
        heading=heading, sentence=sentence.format(again=again),
        asks=asked.waits and asked.approval is None and not heading,
    )  # fmt: skip


def _failure(status: int, heading: str, sentence: str) -> Response:
    return render(
        "approve.html", status, asked=None, heading=heading, sentence=sentence, asks=False
    )


_WAIT = "Wait a minute, then try again."
_NOT_OURS = (
    "This receiver did not sign it: it may be cut off or altered, or RECEIVER_SECRET_KEY was "
    "changed since. Open the link of the newest notification, or approve on the receiver's page."
)
_EXPIRED = "It was valid for 7 days. Approve on the receiver's page, or run `{again}`."
_NOTHING = "There is nothing to approve any more."
_SUPERSEDED = (
    "The channel does not wait for this image any more: a newer image took its place, or the move "
    "was dismissed. If the channel is to have this image all the same, run `{again}`."
)
