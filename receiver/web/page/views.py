"""The pages of the admin page. They show the same data as the API."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.ledger.queries import DEPTH, Filter, delivery_detail, search_deliveries
from receiver.ledger.views import Registration, RuleOverview
from receiver.pipeline.prune import Scope, plan
from receiver.reasons import Reason, State, Verdict
from receiver.rules.rule import Mode, Rule, takes
from receiver.service import Service
from receiver.upkeep.health import Code
from receiver.web.overview import Overview, overview_of
from receiver.web.page.auth import (
    FLASH,
    FRAGMENT,
    LONGEST_FLASH,
    Page,
    Session,
    failure,
    forget_cookie,
    login_required,
    read_cookie,
)
from receiver.web.page.charts import (
    durations,
    last_registrations,
    push_to_version,
    said_of,
    said_of_times,
    standing,
)
from receiver.web.page.flow import MADE, Step, flow_of
from receiver.web.page.rendering import HEADERS, render, serve_asset
from receiver.web.page.versions import VersionsView

UNCHANGED = 304


def answer_page(request: Request, session: Session, template: str, **facts: Any) -> Response:
    """Return the page, or only its live parts if the script requests them."""
    here = request.url.path + _query_of(request)
    if FRAGMENT in request.query_params:
        response: Response = render(
            template, layout="fragment.html", csrf=session.csrf, here=here, flash="", **facts
        )
        tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == tag:
            response = Response(status_code=UNCHANGED, headers=HEADERS)
        response.headers["ETag"] = tag
        return response
    flash = unquote(read_cookie(request, FLASH))[:LONGEST_FLASH]
    response = render(
        template, layout="base.html", csrf=session.csrf, here=here, flash=flash, **facts
    )
    if flash:
        forget_cookie(request, response, FLASH)
    return response


def _query_of(request: Request) -> str:
    kept = [part for part in request.url.query.split("&") if part and part != f"{FRAGMENT}=1"]
    return f"?{'&'.join(kept)}" if kept else ""


ROWS = 50
LONGEST_FILTER = 200
FILTERS = ("repository", "tag", "verdict", "state", "text")
CHOICES: Mapping[str, Sequence[str]] = {"verdict": tuple(Verdict), "state": tuple(State)}


async def show_overview(service: Service, request: Request, session: Session) -> Response:
    """Show the overview: whether the last pushes became versions."""
    settings = service.settings
    overview = await overview_of(service)
    base = settings.public_url or str(request.base_url)
    attention = overview.parked_count + len(overview.degraded)
    links = {one.repository: service.links.link(base, one.repository)
             for one in overview.repositories}  # fmt: skip
    return answer_page(
        request, session, "overview.html",
        overview=overview, links=links, catching_up=settings.catch_up_every is not None,
        registrations_picture=last_registrations(overview.last),
        registrations_said=said_of(overview.last),
        times_picture=push_to_version(overview.last),
        times_said=said_of_times(durations(overview.last)),
        standing=standing, flows=[_newest_flow(one, settings.rules) for one in overview.rules],
        newest=_newest_version(overview), attention=attention,
        answer_colour=_answer_colour(overview),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewestVersion:
    """The newest version, and the delivery that led to it."""

    delivery: str
    registration: Registration


def _newest_version(overview: Overview) -> NewestVersion | None:
    made = [
        NewestVersion(rule.newest.delivery, one)
        for rule in overview.rules
        if rule.newest is not None
        for one in rule.newest.registrations
        if one.finished_at is not None and one.outcome in MADE and one.mode is Mode.CREATE
    ]
    return max(made, key=lambda one: one.registration.finished_at or 0, default=None)


def _newest_flow(rule: RuleOverview, rules: Sequence[Rule]) -> tuple[Step, ...]:
    if rule.newest is None:
        return ()
    own = [one for one in rules if one.name == rule.rule]
    return flow_of(rule.newest.tag, None, rule.newest.registrations, own)


def _answer_colour(overview: Overview) -> str:
    """Return the colour of the first line."""
    if any(one.code is not Code.PAUSED for one in overview.degraded) or overview.parked_count:
        return "bad"
    if overview.degraded:
        return "wait"
    return "good" if overview.last else "calm"


async def show_deliveries(service: Service, request: Request, session: Session) -> Response:
    """Show a page of deliveries, newest first."""
    query = request.query_params
    chosen = {name: _text(query.get(name, "")) for name in FILTERS}
    for name, choices in CHOICES.items():
        if chosen[name] and chosen[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}")
    before = _text(query.get("before", "")) or None
    search = Filter(
        repository=chosen["repository"] or None,
        tag=chosen["tag"] or None,
        verdict=Verdict(chosen["verdict"]) if chosen["verdict"] else None,
        state=State(chosen["state"]) if chosen["state"] else None,
        text=chosen["text"] or None,
        before=before,
        limit=ROWS,
    )
    page = await service.ledger.read(lambda tx: search_deliveries(tx, search))
    full = len(page.deliveries) == ROWS
    return answer_page(
        request, session, "deliveries.html",
        rows=page.deliveries, chosen=chosen, before=before, depth=DEPTH,
        older=page.next if full else None, further=None if full else page.next,
        repositories=sorted({rule.repository for rule in service.settings.rules}),
        choices=CHOICES, standing=standing,
    )  # fmt: skip


async def show_delivery(service: Service, request: Request, session: Session) -> Response:
    """Show the history of one delivery, and what to do now."""
    identity = _text(request.path_params["id"])
    row = await service.ledger.read(lambda tx: delivery_detail(tx, identity))
    if row is None:
        return failure(request, 404, "There is no such delivery.", _NOT_THERE)
    own = [rule for rule in service.settings.rules if rule.repository == row.repository]
    room: dict[str, str] = {}
    for registration in row.registrations:
        if registration.reason == Reason.VERSION_LIMIT.value:
            scope = Scope(registration.app, most=1, keep=1)
            planned = await plan(service.ledger, service.settings, scope)
            room[registration.id] = planned[0].made.version if planned else ""
    return answer_page(
        request, session, "delivery.html",
        row=row, decided=_decided(row.tag, own), room=room, standing=standing,
    )  # fmt: skip


_NOT_THERE = "It may have been purged by age, or the address is wrong."


def page_routes(shelf: VersionsView) -> list[Route]:
    """Return the routes of the pages."""
    return [
        Route("/", login_required(show_overview), methods=["GET"]),
        Route("/deliveries", login_required(show_deliveries), methods=["GET"]),
        Route("/deliveries/{id}", login_required(show_delivery), methods=["GET"]),
        Route("/versions", login_required(versions_page(shelf)), methods=["GET"]),
        Route("/static/{name}", serve_asset, methods=["GET"]),
    ]


def versions_page(shelf: VersionsView) -> Page:
    """Return the page of versions; `shelf` caches the versions at Edgegap."""

    async def show_versions(service: Service, request: Request, session: Session) -> Response:
        apps = sorted({rule.app for rule in service.settings.rules})
        shown = await shelf.of_all(service, apps)
        return answer_page(request, session, "versions.html", apps=shown)

    return show_versions


@dataclass(frozen=True, slots=True)
class Decided:
    """A rule of the repository, and whether it matches the tag."""

    rule: str
    app: str
    takes: bool


def _decided(tag: str | None, own: Sequence[Rule]) -> list[Decided]:
    return [Decided(rule.name, rule.app, bool(tag and takes(rule, tag))) for rule in own]


def _text(value: str) -> str:
    if len(value) > LONGEST_FILTER or not value.isprintable():
        raise ValueError("ids and filters must be short printable text")
    return value.strip()
