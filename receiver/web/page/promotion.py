"""The page that shows what a promotion changes, with the button that does it."""

from starlette.requests import Request
from starlette.responses import Response

from receiver.service import Service
from receiver.upkeep.channels import ChannelNotMoved
from receiver.upkeep.promotion import propose
from receiver.web.page.answers import answer_page
from receiver.web.page.auth import Session, failure

CONFLICT = 409


async def show_promotion(service: Service, request: Request, session: Session) -> Response:
    """Show what a promotion changes; its form makes the move."""
    query = request.query_params
    channel = query.get("app", ""), query.get("channel", "")
    to, other = query.get("to") or None, query.get("from") or None
    rules = service.settings.rules
    try:
        move = await propose(
            service.ledger, service.client, rules, channel, to=to, from_channel=other
        )
    except ChannelNotMoved as error:
        return failure(request, CONFLICT, "Nothing can be moved.", f"{error}.")
    fields = {"app": move.app, "channel": move.channel, "to": to or "", "from": other or ""}
    return answer_page(
        request, session, "promote.html", move=move, fields={**fields, "tag": move.tag}
    )
