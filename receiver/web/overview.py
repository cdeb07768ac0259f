"""The API's read routes: overview, settings, versions of an app."""

from contextlib import suppress
from typing import Annotated

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.config.settings import marks_of
from receiver.errors import LedgerError
from receiver.ledger.queries import overview
from receiver.ledger.views import LedgerOverview, described
from receiver.service import Service
from receiver.upkeep.health import Condition
from receiver.web.api_auth import answer, guarded, refusal
from receiver.web.bodies import SettingsHashes
from receiver.web.page.versions import VersionsView


class Overview(LedgerOverview, frozen=True):
    """The current state: problems, rules, repositories, parked registrations."""

    ready: Annotated[bool, described("Whether a push can be recorded now.")]
    degraded: Annotated[
        tuple[Condition, ...],
        described("Current problems, the most severe first; `/readyz` lists the same codes."),
    ]


def overview_routes(shelf: VersionsView) -> list[Route]:
    """Return the routes; `shelf` caches the versions at Edgegap."""

    async def versions(service: Service, request: Request) -> Response:
        app = request.query_params.get("app", "")
        known = sorted({rule.app for rule in service.settings.rules})
        if not app:
            return refusal(400, f"pass an app: ?app=…; rules name: {', '.join(known)}")
        if app not in known:
            return refusal(404, f"no rule names this app; rules name: {', '.join(known)}")
        return answer(await shelf.of(service, app))

    return [
        Route("/api/overview", guarded(_overview), methods=["GET"]),
        Route("/api/settings", guarded(_settings), methods=["GET"]),
        Route("/api/versions", guarded(versions), methods=["GET"]),
    ]


async def _overview(service: Service, _: Request) -> Response:
    return answer(await overview_of(service))


async def _settings(service: Service, _: Request) -> Response:
    """Return hashes of the active settings, which `doctor` compares with its own."""
    return answer(SettingsHashes(marks_of(service.settings)))


async def overview_of(service: Service) -> Overview:
    """Return the overview: problems, rules, repositories, parked registrations."""
    rules = service.settings.rules
    with suppress(LedgerError):  # then the newest counts are missing
        await service.refused_links.flush()
    found = await service.ledger.read(lambda tx: overview(tx, rules))
    health = await service.health.now()
    return Overview(
        rules=found.rules,
        repositories=found.repositories,
        parked=found.parked,
        parked_count=found.parked_count,
        last=found.last,
        pauses=found.pauses,
        refused_links=found.refused_links,
        ready=health.ready,
        degraded=health.conditions,
    )
