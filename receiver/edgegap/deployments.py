"""Calls about deployments: deploy, look, read logs and metrics, stop, list by tag."""

from collections.abc import Callable, Iterable
from typing import TypeVar
from urllib.parse import quote

from receiver.edgegap.client import CREATE_SECONDS, EdgegapClient
from receiver.edgegap.deployment_answers import (
    Call,
    Deployment,
    Deployments,
    Logs,
    Meaning,
    Near,
    Read,
    Usage,
    deployment_accepted,
    deployment_body,
    logs_shape,
    meaning_of,
    metrics_shape,
    read_deployments,
    read_logs,
    read_status,
    read_usage,
    request_id_of,
    status_of,
    stop_shape,
)
from receiver.edgegap.listing import equal_to
from receiver.edgegap.responses import Answer, Body, Success
from receiver.secret import Secret

T = TypeVar("T")

ROWS_PER_PAGE = 100
_ACCEPTED = Success(frozenset({200, 201, 202}), by_field=False)
_STATUS = Success(or_null=True)
_STOPPED = Success(frozenset({200, 202, 204}), by_field=False)


async def deploy(
    client: EdgegapClient, app: str, version: str, near: Near, tags: Iterable[str]
) -> Read[str]:
    """POST a deployment; the value is its request id.

    A response without capacity may have an id as well: its deployment may exist, and is stopped
    like any other.
    """
    answer = await client.call(
        "POST",
        "/v2/deployments",
        body=deployment_body(app, version, near, tags),
        seconds=CREATE_SECONDS,
        shape=deployment_accepted,
        success=_ACCEPTED,
    )
    meaning = meaning_of(Call.DEPLOY, answer)
    named = meaning in {Meaning.DONE, Meaning.NO_CAPACITY}
    return Read(meaning, answer, request_id_of(answer.body) if named else None)


async def status(client: EdgegapClient, request_id: str) -> Read[Deployment]:
    """GET a deployment's status. A terminated deployment may be shown for a while, or be gone."""
    path = f"/v1/status/{_quoted(request_id)}"
    answer = await client.call("GET", path, shape=status_of(request_id), success=_STATUS)
    return _read(Call.STATUS, answer, lambda body: read_status(body, client.secrets))


async def logs(client: EdgegapClient, request_id: str, hidden: Iterable[Secret] = ()) -> Read[Logs]:
    """GET a deployment's logs and its last crash; they are gone once it is stopped.

    The `hidden` values of its version are masked, as the client's own secrets are.
    """
    path = f"/v1/deployment/{_quoted(request_id)}/container-logs"
    answer = await client.call("GET", path, shape=logs_shape)
    secrets = (*client.secrets, *hidden)
    return _read(Call.LOGS, answer, lambda body: read_logs(body, secrets))


async def usage(client: EdgegapClient, request_id: str) -> Read[Usage]:
    """GET a deployment's metrics since its start."""
    path = f"/v1/metrics/deployment/{_quoted(request_id)}"
    answer = await client.call("GET", path, shape=metrics_shape)
    return _read(Call.METRICS, answer, read_usage)


async def stop(client: EdgegapClient, request_id: str) -> Read[None]:
    """Stop a deployment. `DONE` is not the end: one that is not yet Ready is stopped later."""
    path = f"/v1/stop/{_quoted(request_id)}"
    answer = await client.call("DELETE", path, shape=stop_shape, success=_STOPPED)
    return Read(meaning_of(Call.STOP, answer), answer)


async def deployments_of(client: EdgegapClient, app: str, version: str) -> Read[Deployments]:
    """List the active deployments of a version."""
    return await _list(client, application=app, version=version)


async def deployments_tagged(client: EdgegapClient, tag: str) -> Read[Deployments]:
    """List the active deployments with a tag; see `Deployments.tagged`.

    Whether the filter finds one of several tags is not documented.
    """
    return await _list(client, tags=tag)


async def _list(client: EdgegapClient, **fields: str) -> Read[Deployments]:
    query = equal_to(**fields)
    listing = await client.list_all(
        "/v1/deployments", "data", ROWS_PER_PAGE, id_field="request_id", query=query
    )
    return _read(Call.LIST, listing.answer, lambda _: read_deployments(listing))


def _read(call: Call, answer: Answer, read: Callable[[Body], T]) -> Read[T]:
    meaning = meaning_of(call, answer)
    if meaning is not Meaning.DONE or answer.body is None:
        return Read(meaning, answer)
    return Read(meaning, answer, read(answer.body))


def _quoted(request_id: str) -> str:
    return quote(request_id, safe="")
