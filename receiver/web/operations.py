"""All operations of the API, the webhook endpoint and the health endpoints, each in one place.

The router and the document are both made from this list.
"""

from functools import cache
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver.web import channels, control, deliveries, health, rules, versions
from receiver.web.document import document_of
from receiver.web.operation import (
    HTML,
    JSON,
    OK,
    Group,
    Operation,
    ResponseSpec,
    endpoint,
    returns,
)
from receiver.web.page.reference import Reference
from receiver.web.webhook import Hooks


def operations(hooks: Hooks) -> list[Operation]:
    """Return all operations."""
    listed = [
        rules.list_rules,
        rules.check_image,
        deliveries.list_deliveries,
        deliveries.push_image,
        deliveries.get_delivery,
        deliveries.replay_delivery,
        deliveries.replay_deliveries,
        deliveries.record_missed_pushes,
        deliveries.dismiss_registrations,
        deliveries.undo_dismissal,
        channels.list_channels,
        channels.roll_back_channel,
        channels.promote_channel,
        channels.release_channel,
        channels.show_promotion,
        channels.show_rollback,
        channels.try_version,
        versions.get_versions,
        versions.diff_versions,
        versions.export_version,
        versions.prune_versions,
        control.list_pauses,
        control.pause_repository,
        control.resume_repository,
        control.open_gate,
        health.get_overview,
        control.get_settings,
        control.reload_configuration,
        control.revoke_token,
        *hooks.operations(),
        health.get_liveness,
        health.get_readiness,
        health.get_metrics,
    ]

    @cache
    def document() -> bytes:
        return document_of([*listed, get_reference, get_document])

    reference = Reference(document)

    @endpoint(
        "GET /api", Group.OVERVIEW,
        ResponseSpec(OK, "All operations, errors and schemas.", {HTML: str}),
        ResponseSpec(
            HTTPStatus.TEMPORARY_REDIRECT,
            "The request accepts JSON, and no HTML.",
            headers={"Location": "/api/openapi.json"},
        ),
        slash=True,
    )  # fmt: skip
    async def get_reference(request: Request) -> Response:
        """Show this reference.

        A trailing slash is accepted, without a redirect.
        """
        return await reference.show(request)

    @endpoint(
        "GET /api/openapi.json", Group.OVERVIEW, returns(dict[str, Any], "OpenAPI 3.1.")
    )  # fmt: skip
    async def get_document(_: Request) -> Response:
        """Show the OpenAPI document."""
        return Response(document(), media_type=JSON)

    return [*listed, get_reference, get_document]
