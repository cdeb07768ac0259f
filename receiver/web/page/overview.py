"""The overview, with the first steps until the first version exists, and the page of the rules."""

from collections.abc import Sequence
from itertools import groupby
from urllib.parse import urlsplit

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.http.client import http_client
from receiver.ledger.gates import paused
from receiver.ledger.queries import find_push
from receiver.ledger.views import LedgerOverview, RefusedLink, RepositoryOverview, RuleOverview
from receiver.rules.rule import Rule
from receiver.service import Service
from receiver.upkeep.catch_up import credentials_for
from receiver.upkeep.connect import NotProven, send_test_push
from receiver.upkeep.health import Code
from receiver.web.health import Overview, overview_of
from receiver.web.page.answers import answer_page, short_text
from receiver.web.page.auth import Page, failure
from receiver.web.page.charts import DayCounts, chart_of_days, chart_of_times
from receiver.web.page.flow import Step, flow_of, holds_back
from receiver.web.page.sessions import Session
from receiver.web.rules import CheckedImage, ShownRule, checked, shown_rules
from receiver.web.versions import VersionList, apps_of, lists_of

MAX_ALIKE = 5  # registrations parked for the same reason that the overview shows


def overview_page() -> Page:
    """Return the overview."""
    counts = DayCounts()

    async def show_overview(service: Service, request: Request, session: Session) -> Response:
        settings, overview = service.settings, await overview_of(service)
        edgegap = lists_of(request)
        days, took = await service.ledger.read(counts.read)
        lists = [(app, edgegap.known(app)) for app in apps_of(service)]
        steps = steps_of(overview, settings, lists)
        edgegap.wanted = bool(steps)
        return await answer_page(
            request, session, "overview.html",
            overview=overview, steps=steps,
            days=chart_of_days(days), times=chart_of_times(took),
            flows=[_newest_flow(one, settings.rules, overview) for one in overview.rules],
            answer_colour=_answer_colour(overview), strange_links=_unknown_links(overview),
            most_alike=MAX_ALIKE,
        )  # fmt: skip

    return show_overview


def _newest_flow(rule: RuleOverview, rules: Sequence[Rule], overview: Overview) -> tuple[Step, ...]:
    if rule.newest is None:
        return ()
    own = [one for one in rules if one.name == rule.rule]
    held = holds_back(overview.degraded, rule.repository)
    return flow_of(rule.newest.tag, None, rule.newest.registrations, own, held=held)


def _unknown_links(overview: Overview) -> list[RefusedLink]:
    """Return the refused requests that are no problem: anyone may have sent them."""
    named = {one.repository for one in overview.degraded if one.may_lose}
    return [one for one in overview.refused_links if one.repository not in named]


def _answer_colour(overview: Overview) -> str:
    """Return the colour of the first line."""
    if any(one.code is not Code.PAUSED for one in overview.degraded) or overview.parked_count:
        return "bad"
    if overview.degraded or overview.remarks:
        return "wait"
    return "good" if overview.last or overview.in_use else "calm"


# The first steps, each checked by itself.

TEST_SECONDS = 10.0


class FirstStep(msgspec.Struct, frozen=True):
    """One step: done, failed or still to do; `todo` says what to do for it."""

    title: str
    done: bool
    todo: str = ""
    failed: bool = False


def steps_of(
    overview: LedgerOverview, settings: Settings, lists: Sequence[tuple[str, VersionList]]
) -> tuple[FirstStep, ...]:
    """Return the steps; none once a version was created."""
    if overview.in_use:
        return ()
    used = any(one.last_use_at is not None for one in overview.repositories)
    tested = any(one.last_test_at is not None for one in overview.repositories)
    named = urlsplit(settings.public_url or "").scheme == "https"
    return (
        *(_app(app, known) for app, known in lists),
        *(_tags(one, settings) for one in overview.repositories if settings.catch_up_every),
        FirstStep(
            "A public https address is set",
            named,
            "Set `public_url` to the address at which Docker Hub reaches this receiver, then "
            "`receiver reload`. A webhook can also come over http, with the link unencrypted.",
        ),
        FirstStep(
            "The public address leads to this receiver",
            used or tested,
            "Send a test push, which creates nothing: it goes through the public address.",
        ),
        FirstStep(
            "A webhook of Docker Hub arrived",
            used,
            "Run `receiver connect`, which creates it, or paste a link below into the repository's "
            "Webhooks tab on Docker Hub. Then push a tag.",
        ),
        FirstStep("The first version was created", done=False, todo="Push a tag."),
    )


def _app(app: str, known: VersionList) -> FirstStep:
    title = f"Edgegap accepts the token and has the app {app}"
    if known.problem:
        return FirstStep(title, done=False, todo=known.problem, failed=True)
    return FirstStep(title, known.listed_at is not None, "Edgegap is being asked.")


def _tags(one: RepositoryOverview, settings: Settings) -> FirstStep:
    """Whether Docker Hub listed the tags, as catch-up requests it: with the login, if there is one.

    A login that may list the tags of a private repository may pull it.
    """
    login = credentials_for(settings.rules, one.repository) is not None
    title = f"Docker Hub shows {one.repository}" + (" to the login" if login else "")
    if one.catch_up_problem:
        return FirstStep(title, done=False, todo=one.catch_up_problem, failed=True)
    return FirstStep(title, one.caught_up_at is not None, "Docker Hub is being asked.")


async def try_public_address(service: Service, repository: str) -> str:
    """Send a test push through the public address, as `connect --prove` does; return the result."""
    base = service.settings.public_url
    if base is None:
        return "No test push was sent: set public_url first."
    link = service.links.link(base, repository)
    try:
        async with http_client(timeout=TEST_SECONDS) as http:
            delivery = await send_test_push(http, link, repository)
    except NotProven as error:
        return f"The test push did not arrive: {error}."
    except (httpx.HTTPError, ReceiverError) as error:
        return f"The test push did not arrive: {type(error).__name__}. Check public_url."
    if await service.ledger.read(lambda tx: find_push(tx, delivery)) is None:
        return (
            "The test push did not arrive here: another receiver with the same key is at "
            "public_url."
        )
    return f"The test push arrived as delivery {delivery}."


# The page of the rules: what each matches, and what would happen with a tag. The page of a link.


class RepositoryRules(msgspec.Struct, frozen=True):
    """A repository with its rules; `checked` is the result of a tag, if any."""

    repository: RepositoryOverview
    rules: tuple[ShownRule, ...]
    checked: CheckedImage | None


async def show_rules(service: Service, request: Request, session: Session) -> Response:
    """Show the rules by repository, and the result of a tag if one is given."""
    settings = service.settings
    tag = short_text(request.query_params.get("tag", ""))
    overview = await overview_of(service)
    known = {one.repository: one for one in overview.repositories}
    rules = shown_rules(settings.rules, await service.ledger.read(paused))
    ordered = sorted(rules, key=lambda rule: rule.repository)
    shown = [
        RepositoryRules(
            known[name],
            tuple(own),
            checked(name, tag, settings.rules) if tag else None,
        )
        for name, own in groupby(ordered, key=lambda rule: rule.repository)
        if name in known
    ]
    return await answer_page(
        request, session, "rules.html",
        repositories=shown, tag=tag, pauses=overview.pauses,
        catching_up=settings.catch_up_every is not None,
    )  # fmt: skip


async def show_link(service: Service, request: Request, session: Session) -> Response:
    """Show the link of one repository. Pages with more than one would be large: see `packed`."""
    settings, repository = service.settings, request.query_params.get("repository", "")
    if repository not in {rule.repository for rule in settings.rules}:
        return failure(request, 404, "There is no such link.", "No rule names the repository.")
    base = settings.public_url or str(request.base_url)
    return await answer_page(
        request, session, "link.html",
        repository=repository, link=service.links.link(base, repository),
    )  # fmt: skip
