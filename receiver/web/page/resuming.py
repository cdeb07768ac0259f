"""A form that was sent after its session expired: kept until the visitor has signed in again."""

import time

from starlette.requests import Request
from starlette.responses import Response

from receiver.service import Service
from receiver.web.page.auth import Session, ask, failure, sessions_of

_NOTE = "You are signed in again. Nothing was done yet."
_TOO_OLD = "The form is too old, or the address was changed. Nothing was done."


async def show_again(service: Service, request: Request, session: Session) -> Response:
    """Show the form once more, with what it contained, and ask whether to send it."""
    kept = sessions_of(service).read_form(request.query_params.get("form", ""), int(time.time()))
    if kept is None:
        return failure(request, 400, "There is nothing to repeat.", _TOO_OLD)
    path, form = kept
    what = path.rpartition("/")[2].replace("-", " ")
    named = ", ".join(value for name, value in form.items() if value and name != "back")
    question = f"Do you still want this: {what}{f' ({named})' if named else ''}?"
    return ask(session, form, question, action=path, note=_NOTE)
