"""The pages that a person reads. They show what the API tells, from the same functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.ledger import stories
from receiver.ledger.stories import Filter
from receiver.reasons import Reason, State, Verdict
from receiver.rules import Rule, takes
from receiver.service import Service
from receiver.upkeep.pruning import Scope, plan
from receiver.web.assets import serve_asset
from receiver.web.doorkeeping import Page, failure, for_a_person
from receiver.web.fragments import answer_page
from receiver.web.looking import overview_of
from receiver.web.pictures import (
    durations,
    last_registrations,
    push_to_version,
    said_of,
    said_of_times,
    standing,
)
from receiver.web.sessions import Session
from receiver.web.versions import Shelf

ROWS = 50
DEPTH = 20_000  # deliveries looked through for one page where no index leads to what is wanted
LONGEST_FILTER = 200
FILTERS = ("repository", "tag", "verdict", "state", "text")
CHOICES: Mapping[str, Sequence[str]] = {"verdict": tuple(Verdict), "state": tuple(State)}


async def show_overview(service: Service, request: Request, session: Session) -> Response:
    """Show in one look whether the last pushes became versions."""
    settings = service.settings
    found = await overview_of(service)
    base = settings.public_url or str(request.base_url)
    links = {row["repository"]: service.links.link(base, row["repository"])
             for row in found["repositories"]}  # fmt: skip
    return answer_page(
        request, session, "overview.html",
        **found, links=links, catching_up=settings.catch_up_every is not None,
        registrations_picture=last_registrations(found["last"]),
        registrations_said=said_of(found["last"]),
        times_picture=push_to_version(found["last"]),
        times_said=said_of_times(durations(found["last"])),
        standing=standing,
    )  # fmt: skip


async def show_deliveries(service: Service, request: Request, session: Session) -> Response:
    """Show deliveries, newest first, a page at a time."""
    query = request.query_params
    chosen = {name: _text(query.get(name, "")) for name in FILTERS}
    for name, words in CHOICES.items():
        if chosen[name] and chosen[name] not in words:
            raise ValueError(f"{name} is one of {', '.join(words)}")
    before = _text(query.get("before", "")) or None
    slow = bool(chosen["tag"] or chosen["text"] or chosen["state"] == State.DONE)
    texts: dict[str, Any] = {name: value for name, value in chosen.items() if value}
    wanted = Filter(
        **texts,
        before=before, limit=ROWS + 1, depth=DEPTH if slow else None,
    )  # fmt: skip
    rows = await service.ledger.read(lambda tx: stories.list_deliveries(tx, wanted))
    more = len(rows) > ROWS
    older = rows[ROWS - 1]["id"] if more else None
    further = None
    if not more and slow:
        further = await service.ledger.read(lambda tx: stories.end_of_depth(tx, wanted))
    return answer_page(
        request, session, "deliveries.html",
        rows=rows[:ROWS], chosen=chosen, before=before, older=older, further=further, depth=DEPTH,
        repositories=sorted({rule.repository for rule in service.settings.rules}),
        choices=CHOICES, standing=standing,
    )  # fmt: skip


async def show_delivery(service: Service, request: Request, session: Session) -> Response:
    """Show one delivery's story, and what to do now."""
    identity = _text(request.path_params["id"])
    row = await service.ledger.read(lambda tx: stories.story(tx, identity))
    if row is None:
        return failure(request, 404, "There is no such delivery.", _NOT_THERE)
    own = [rule for rule in service.settings.rules if rule.repository == row["repository"]]
    room: dict[str, str] = {}
    for one in row["registrations"]:
        if one["reason"] == Reason.VERSION_LIMIT:
            scope = Scope(one["app"], most=1, keep=1)
            planned = await plan(service.ledger, service.settings, scope)
            room[one["id"]] = planned[0].made.version if planned else ""
    return answer_page(
        request, session, "delivery.html",
        row=row, decided=_decided(row, own), room=room, standing=standing,
    )  # fmt: skip


_NOT_THERE = "It may have been purged by age, or the address is wrong."


def page_routes(shelf: Shelf) -> list[Route]:
    """Return the routes of the pages."""
    return [
        Route("/", for_a_person(show_overview), methods=["GET"]),
        Route("/deliveries", for_a_person(show_deliveries), methods=["GET"]),
        Route("/deliveries/{id}", for_a_person(show_delivery), methods=["GET"]),
        Route("/versions", for_a_person(versions_page(shelf)), methods=["GET"]),
        Route("/static/{name}", serve_asset, methods=["GET"]),
    ]


def versions_page(shelf: Shelf) -> Page:
    """Return the page of versions over what Edgegap was asked last."""

    async def show_versions(service: Service, request: Request, session: Session) -> Response:
        apps = sorted({rule.app for rule in service.settings.rules})
        shown = [await shelf.of(service, app) for app in apps]
        return answer_page(request, session, "versions.html", apps=shown)

    return show_versions


def _decided(row: Mapping[str, Any], own: Sequence[Rule]) -> list[dict[str, Any]]:
    """Return the repository's rules as they are now, and whether each takes the tag."""
    return [
        {
            "rule": rule.name,
            "app": rule.app,
            "takes": bool(row["tag"] and takes(rule, row["tag"])),
        }
        for rule in own
    ]


def _text(value: str) -> str:
    if len(value) > LONGEST_FILTER or not value.isprintable():
        raise ValueError("ids and filters are short printable text")
    return value.strip()
