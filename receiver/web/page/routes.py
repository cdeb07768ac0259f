"""The routes of the admin page, and what each page depends on."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.doctor.finding import ChecksRun, Health
from receiver.errors import LedgerError
from receiver.logs import Source, log_operation
from receiver.service import Service
from receiver.web.page.actions import action_routes
from receiver.web.page.answers import answer_page, unless_unchanged
from receiver.web.page.approve import Approving, to_approval
from receiver.web.page.auth import (
    Form,
    Login,
    Page,
    Redirect,
    form_action,
    login_required,
    show_again,
)
from receiver.web.page.deliveries import show_deliveries, show_delivery
from receiver.web.page.overview import overview_page, show_link, show_rules
from receiver.web.page.rendering import serve_asset
from receiver.web.page.sessions import Session
from receiver.web.page.versions import show_channels, show_diff, show_promotion, show_versions
from receiver.web.versions import apps_of, lists_of

COLOURS = {Health.PASS: "good", Health.WARN: "wait", Health.FAIL: "bad"}


def page_routes() -> list[Route]:
    """Return the routes of the page: views, login, approvals, actions."""
    pages: Mapping[str, Page] = {
        "/": unless_unchanged(overview_page(), _health_and_lists),
        "/deliveries": unless_unchanged(show_deliveries),
        "/deliveries/{id}": unless_unchanged(show_delivery),
        "/channels": unless_unchanged(show_channels, _lists),
        "/versions": unless_unchanged(show_versions, _lists),
        "/versions/diff": show_diff,
        "/rules": unless_unchanged(show_rules),
        "/rules/link": show_link,
        "/moves/{id}": to_approval,
        "/checks": unless_unchanged(show_checks, _last_run),
        "/again": show_again,
        "/promote": show_promotion,
    }
    return [
        *(Route(path, login_required(page), methods=["GET"]) for path, page in pages.items()),
        Route("/static/{name}", serve_asset, methods=["GET"]),
        *Login().routes(),
        *Approving().routes(),
        *action_routes(),
        Route("/do/run-checks", _run_checks, methods=["POST"]),
    ]


async def _health_and_lists(service: Service, request: Request) -> object:
    """Return what else the overview depends on: the problems, and at first Edgegap's lists."""
    lists = lists_of(request)
    with suppress(LedgerError):
        await service.refused_links.flush()
    if lists.wanted:
        await lists.refresh(service, apps_of(service))
    return await service.health.cached(), lists.revision


async def _lists(service: Service, request: Request) -> object:
    """Return what else the pages with Edgegap's lists depend on; old lists are read again."""
    lists = lists_of(request)
    await lists.refresh(service, apps_of(service))
    return lists.revision


async def _last_run(_: Service, request: Request) -> object:
    """Return what else the page of checks depends on: the run."""
    return _checks_of(request).revision


def _checks_of(request: Request) -> ChecksRun:
    checks: ChecksRun = request.app.state.checks
    return checks


async def show_checks(service: Service, request: Request, session: Session) -> Response:
    """Show the last run of `receiver doctor` in this process, with the buttons to run it."""
    checks = _checks_of(request)
    counts = Counter(finding.health for finding in checks.findings)
    return await answer_page(
        request, session, "checks.html",
        checks=checks, colours=COLOURS, failed=counts[Health.FAIL], warned=counts[Health.WARN],
        catching_up=service.settings.catch_up_every is not None,
        notices=[notice.name for notice in service.settings.notices],
    )  # fmt: skip


async def _run_checks(request: Request) -> Response:
    async def start(_: Service, __: Form) -> Redirect:
        _checks_of(request).start()
        log_operation("checks_requested", source=Source.PAGE)
        return Redirect("/checks")

    return await form_action(start)(request)
