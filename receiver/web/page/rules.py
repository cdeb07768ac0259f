"""The page of the rules: what each matches, its link, and what would happen with a tag."""

from itertools import groupby

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.ledger.gates import paused
from receiver.ledger.views import RepositoryOverview
from receiver.service import Service
from receiver.web.overview import overview_of
from receiver.web.page.answers import answer_page, short_text
from receiver.web.page.sessions import Session
from receiver.web.rules import CheckedImage, ShownRule, checked, shown_rules


class RepositoryRules(msgspec.Struct, frozen=True):
    """A repository with its link and its rules; `checked` is the result of a tag, if any."""

    repository: RepositoryOverview
    link: str
    rules: tuple[ShownRule, ...]
    checked: CheckedImage | None


async def show_rules(service: Service, request: Request, session: Session) -> Response:
    """Show the rules by repository, and the result of a tag if one is given."""
    settings = service.settings
    tag = short_text(request.query_params.get("tag", ""))
    overview = await overview_of(service)
    base = settings.public_url or str(request.base_url)
    known = {one.repository: one for one in overview.repositories}
    rules = shown_rules(settings.rules, await service.ledger.read(paused))
    ordered = sorted(rules, key=lambda rule: rule.repository)
    shown = [
        RepositoryRules(
            known[name],
            service.links.link(base, name),
            tuple(own),
            checked(name, tag, settings.rules) if tag else None,
        )
        for name, own in groupby(ordered, key=lambda rule: rule.repository)
        if name in known
    ]
    return answer_page(
        request, session, "rules.html",
        repositories=shown, tag=tag, pauses=overview.pauses,
        catching_up=settings.catch_up_every is not None,
    )  # fmt: skip
