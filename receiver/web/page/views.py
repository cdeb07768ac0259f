"""The pages of the admin page. They show the same data as the API."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.doctor.run import ChecksRun
from receiver.errors import LedgerError
from receiver.ledger.gates import ALL
from receiver.ledger.queries import delivery_detail
from receiver.ledger.views import RefusedLink, RuleOverview
from receiver.pipeline.prune import Scope, outlook
from receiver.reasons import Reason, State
from receiver.rules.rule import Mode, Rule, takes
from receiver.service import Service
from receiver.upkeep.health import Code
from receiver.web.overview import Overview, overview_of
from receiver.web.page.answers import More, answer_page, short_text, unless_unchanged
from receiver.web.page.approve import links_to_approve
from receiver.web.page.auth import Page, failure, login_required, show_again
from receiver.web.page.channels import channels_page
from receiver.web.page.charts import DayCounts, chart_of_days, chart_of_times
from receiver.web.page.checks import checks_page
from receiver.web.page.deliveries import show_deliveries, status_of
from receiver.web.page.flow import Step, flow_of
from receiver.web.page.onboarding import steps_of
from receiver.web.page.rendering import serve_asset
from receiver.web.page.rules import show_rules
from receiver.web.page.sessions import Session
from receiver.web.page.versions import show_diff, versions_page
from receiver.web.versions import VersionsView

MOST_ALIKE = 5  # registrations parked for the same reason that the overview shows


def overview_page(shelf: VersionsView) -> Page:
    """Return the overview; `shelf` caches the versions at Edgegap."""
    counts = DayCounts()

    async def show_overview(service: Service, request: Request, session: Session) -> Response:
        settings, overview = service.settings, await overview_of(service)
        days, took = await service.ledger.read(counts.read)
        apps = sorted({rule.app for rule in settings.rules})
        steps = steps_of(overview, settings, [(app, shelf.lists.known(app)) for app in apps])
        shelf.lists.wanted = bool(steps)
        base = settings.public_url or str(request.base_url)
        links = {
            one.repository: service.links.link(base, one.repository)
            for one in overview.repositories
        }
        return answer_page(
            request, session, "overview.html",
            overview=overview, steps=steps, links=links if steps else {},
            approvals=links_to_approve(service, overview.waiting),
            days=chart_of_days(days), times=chart_of_times(took),
            flows=[_newest_flow(one, settings.rules, overview) for one in overview.rules],
            answer_colour=_answer_colour(overview), strange_links=_strange_links(overview),
            most_alike=MOST_ALIKE, attention=overview.parked_count + len(overview.degraded),
        )  # fmt: skip

    return show_overview


def _newest_flow(rule: RuleOverview, rules: Sequence[Rule], overview: Overview) -> tuple[Step, ...]:
    if rule.newest is None:
        return ()
    own = [one for one in rules if one.name == rule.rule]
    held = any(
        one.code in {Code.TOKEN, Code.BUSY}
        or (one.code is Code.PAUSED and one.repository in {ALL, rule.repository})
        for one in overview.degraded
    )
    return flow_of(rule.newest.tag, None, rule.newest.registrations, own, held=held)


def _strange_links(overview: Overview) -> list[RefusedLink]:
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


async def show_delivery(service: Service, request: Request, session: Session) -> Response:
    """Show the history of one delivery, and what to do now."""
    identity = short_text(request.path_params["id"])
    row = await service.ledger.read(lambda tx: delivery_detail(tx, identity))
    if row is None:
        return failure(request, 404, "There is no such delivery.", _NOT_THERE)
    own = [rule for rule in service.settings.rules if rule.repository == row.repository]
    room: dict[str, str] = {}
    for registration in row.registrations:
        if registration.reason == Reason.VERSION_LIMIT.value:
            scope = Scope(registration.app, most=1, keep=1)
            old = await outlook(service.ledger, service.settings, scope)
            room[registration.id] = old.planned[0].target.version if old.planned else ""
    return answer_page(
        request, session, "delivery.html",
        row=row, decided=_decided(row.tag, own), room=room,
        result=status_of(row),
        flow=flow_of(
            row.tag, row.digest, row.registrations, own,
            held=any(one.held_back for one in row.registrations),
        ),
        digest=next((one.digest for one in row.registrations if one.digest), row.digest),
        urgent=[one for one in row.registrations if one.state is not State.DONE or one.overwritten],
        found=_in_all([one.notes for one in row.registrations if one.mode is not Mode.TRIAL]),
    )  # fmt: skip


_NOT_THERE = "It may have been purged by age, or the address is wrong."


def page_routes(shelf: VersionsView, checks: ChecksRun) -> list[Route]:
    """Return the routes of the pages."""
    lists = _lists_of(shelf)
    pages: Mapping[str, Page] = {
        "/": unless_unchanged(overview_page(shelf), _health_and(shelf)),
        "/deliveries": unless_unchanged(show_deliveries),
        "/deliveries/{id}": unless_unchanged(show_delivery),
        "/channels": unless_unchanged(channels_page(shelf), lists),
        "/versions": unless_unchanged(versions_page(shelf), lists),
        "/versions/diff": show_diff,
        "/rules": unless_unchanged(show_rules),
        "/checks": unless_unchanged(checks_page(checks), _run_of(checks)),
    }
    return [
        *(Route(path, login_required(page), methods=["GET"]) for path, page in pages.items()),
        Route("/again", login_required(show_again), methods=["GET"]),
        Route("/static/{name}", serve_asset, methods=["GET"]),
    ]


def _health_and(shelf: VersionsView) -> More:
    """Return what else the overview depends on: the problems, and at first Edgegap's lists."""

    async def revision(service: Service) -> object:
        with suppress(LedgerError):
            await service.refused_links.flush()
        if shelf.lists.wanted:
            await shelf.lists.refresh(
                service, sorted({rule.app for rule in service.settings.rules})
            )
        return await service.health.lately(), shelf.lists.revision

    return revision


def _lists_of(shelf: VersionsView) -> More:
    """Return what else the pages with Edgegap's lists depend on; old lists are read again."""

    async def revision(service: Service) -> object:
        await shelf.lists.refresh(service, sorted({rule.app for rule in service.settings.rules}))
        return shelf.lists.revision

    return revision


def _run_of(checks: ChecksRun) -> More:
    """Return what else the page of checks depends on: the run."""

    async def revision(_: Service) -> object:
        return checks.revision

    return revision


@dataclass(frozen=True, slots=True)
class Decided:
    """A rule of the repository, and whether it matches the tag."""

    rule: str
    app: str
    takes: bool
    why: str


def _decided(tag: str | None, own: Sequence[Rule]) -> list[Decided]:
    return [
        Decided(rule.name, rule.app, bool(tag and takes(rule, tag)), _why_not(rule, tag))
        for rule in own
    ]


def _why_not(rule: Rule, tag: str | None) -> str:
    return "" if tag is None else rule.tags.why_not(tag) or ""


def _in_all(notes: Sequence[Sequence[str]]) -> list[str]:
    """Return the notes that each registration has: they are of the image."""
    return [note for note in notes[0] if all(note in each for each in notes)] if notes else []
