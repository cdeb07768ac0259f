"""The overview of the current state, for the API and the page."""

from contextlib import suppress
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import LedgerError
from receiver.ledger.queries import overview
from receiver.ledger.views import LedgerOverview, described
from receiver.reasons import Reason
from receiver.service import Service
from receiver.upkeep.health import Condition
from receiver.web.messages import json_response
from receiver.web.operation import Group, api, returns


class Overview(LedgerOverview, frozen=True):
    """The current state: problems, rules, repositories, parked registrations."""

    ready: Annotated[bool, described("Whether a push can be recorded now.")]
    degraded: Annotated[
        tuple[Condition, ...],
        described("Current problems, the most severe first; `/readyz` lists the same codes."),
    ]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person may want to act on although nothing is wrong, as sentences."""
        approvals = sum(one.reason == Reason.NEEDS_APPROVAL.value for one in self.waiting)
        tags = self.overwritten
        sentences = (
            (approvals, "1 move waits for an approval.", "{} moves wait for an approval."),
            (
                tags,
                "1 tag was overwritten in the last 24 hours.",
                "{} tags were overwritten in the last 24 hours.",
            ),
        )
        return tuple(
            one if count == 1 else more.format(count) for count, one, more in sentences if count
        )


async def overview_of(service: Service) -> Overview:
    """Return the overview: problems, rules, repositories, parked registrations."""
    rules = service.settings.rules
    with suppress(LedgerError):  # then the newest counts are missing
        await service.refused_links.flush()
    found = await service.ledger.read(lambda tx: overview(tx, rules))
    health = await service.health.now()
    return Overview(**msgspec.structs.asdict(found), ready=health.ready, degraded=health.conditions)


@api(
    "GET /api/overview", Group.OVERVIEW,
    returns(Overview, "Rules, repositories, parked work, problems."),
)  # fmt: skip
async def get_overview(service: Service, _: Request) -> Response:
    """Show the current state."""
    return json_response(await overview_of(service))
