"""The API's operations on the receiver itself: configuration, tokens, pauses and gates."""

from starlette.requests import Request
from starlette.responses import Response

from receiver.config.settings import setting_hashes, suspicious_settings
from receiver.config.variables import variables_of
from receiver.images import is_repository
from receiver.ledger import gates
from receiver.ledger.links import revoke
from receiver.logs import log_operation
from receiver.service import Service
from receiver.signing import MAX_LIFETIME_SECONDS
from receiver.upkeep.channels import UnknownRepository
from receiver.upkeep.operations import PausedRepositories, Resumed
from receiver.web.bodies import (
    OpenedGate,
    OpenGateRequest,
    PauseRequest,
    Reloaded,
    Revoked,
    RevokeRequest,
    SettingsHashes,
)
from receiver.web.messages import BadRequest, ProblemCode, json_response, problem
from receiver.web.operation import Group, api, fails, returns, source_of

PAUSES = returns(PausedRepositories, "The current pauses.")


@api("GET /api/settings", Group.OVERVIEW, returns(SettingsHashes, "A keyed hash of each setting."))
async def get_settings(service: Service, _: Request) -> Response:
    """Show hashes of the active settings."""
    return json_response(SettingsHashes(setting_hashes(service.settings)))


@api(
    "POST /api/reload", Group.OVERVIEW,
    returns(Reloaded, "The new configuration is in force."),
    fails(
        ProblemCode.CONFIGURATION_REFUSED,
        why="It has faults, or is not safe without a restart; the one before stays.",
    ),
)  # fmt: skip
async def reload_configuration(service: Service, request: Request) -> Response:
    """Reload the configuration.

    As a SIGHUP does; with replicas, only this one reads it again.
    """
    environ = variables_of(request.app.state.environ)
    done = await service.reload(environ, source_of(request))
    if done.faults:
        listed = "\n".join(done.faults)
        what = "the configuration has faults"
        if done.restart_first:
            what = "the configuration is valid, but unsafe with settings that need a restart"
        detail = f"{what}, so the one before stays in force:\n{listed}"
        return problem(ProblemCode.CONFIGURATION_REFUSED, detail)
    settings = service.settings
    warnings = tuple(suspicious_settings(settings))
    return json_response(Reloaded(len(settings.rules), tuple(done.needs_a_restart), warnings))


@api("POST /api/tokens/revoke", Group.TOKENS, returns(Revoked, "The token is revoked."))
async def revoke_token(service: Service, request: Request, body: RevokeRequest) -> Response:
    """Revoke an API token."""
    revoked = await service.ledger.write(
        lambda tx: revoke(tx, body.id, tx.now + MAX_LIFETIME_SECONDS * 1000)
    )
    if revoked:
        log_operation("api_token_revoked", source=source_of(request), id=body.id)
    return json_response(Revoked(body.id, revoked))


@api("GET /api/pauses", Group.PAUSES, PAUSES)
async def list_pauses(service: Service, _: Request) -> Response:
    """List pauses."""
    return json_response(PausedRepositories(await service.ledger.read(gates.paused)))


@api(
    "POST /api/pause", Group.PAUSES, PAUSES,
    fails(
        ProblemCode.REPOSITORY_UNKNOWN,
        why="No rule names the repository, and the ledger has no push to it.",
    ),
)  # fmt: skip
async def pause_repository(service: Service, request: Request, body: PauseRequest) -> Response:
    """Pause a repository."""
    try:
        paused = await service.manual.pause(_repository(body), source_of(request))
    except UnknownRepository as error:
        return problem(ProblemCode.REPOSITORY_UNKNOWN, str(error))
    return json_response(paused)


@api(
    "POST /api/resume", Group.PAUSES,
    returns(Resumed, "Whether it was paused, and the current pauses."),
)  # fmt: skip
async def resume_repository(service: Service, request: Request, body: PauseRequest) -> Response:
    """Resume a repository.

    * ends every pause.
    """
    return json_response(await service.manual.resume(_repository(body), source_of(request)))


def _repository(body: PauseRequest) -> str:
    if body.repository != gates.ALL and not is_repository(body.repository):
        raise BadRequest(
            f"{body.repository!r} is not a repository; write group/project, or * for all"
        )
    return body.repository


@api(
    "POST /api/open-gate", Group.PAUSES,
    returns(OpenedGate, "The gate was opened."),
    fails(ProblemCode.GATE_NOT_CLOSED, why="The gate was already open."),
)  # fmt: skip
async def open_gate(service: Service, request: Request, body: OpenGateRequest) -> Response:
    """Open a gate.

    Registrations that wait for Edgegap are tried now. If Edgegap refuses again, the gate closes
    again.
    """
    if not await service.manual.open_gate(body.gate, source_of(request)):
        detail = f"the gate {body.gate} is already open"
        return problem(ProblemCode.GATE_NOT_CLOSED, detail)
    return json_response(OpenedGate(body.gate))
