"""A fake of Edgegap's API, with its quirks and with faults on request."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.sandbox.calls import (
    FAULT_HEADER,
    Call,
    Fault,
    Faults,
    Misbehaving,
    Recording,
    calls_route,
)
from receiver.sandbox.edgegap_account import EdgegapAccount, Storage, is_documented
from receiver.sandbox.edgegap_deployments import Deployments
from receiver.sandbox.edgegap_quirks import ListQuirks, page_of

TokenState = Literal["good", "refused", "deleted"]

_Result = dict[str, Any] | Response
_Endpoint = Callable[[Request], Awaitable[Response]]

_TOKEN_REFUSALS = {"refused": 401, "deleted": 403}


class EdgegapSandbox(EdgegapAccount):
    """One Edgegap organisation behind its API; serve its `app`.

    A test's thread may read and set attributes while the app is served: no response is computed
    across an `await`.
    """

    def __init__(
        self,
        *,
        token: str = "sandbox-token",  # noqa: S107  # valid only here
        apps: Iterable[str] = ("my-game",),
        version_limit: int | None = None,
        latency: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(apps, version_limit)
        self.token = token
        self.token_state: TokenState = "good"  # noqa: S105  # a state, not a token
        self.latency = latency
        self.page_size = 10
        self.lists = ListQuirks()
        self.deployments = Deployments(self.find_version, clock)
        self.storage = Storage(self.find_version)
        self.calls: list[Call] = []
        self.faults = Faults()
        self.app = self._build()

    def misbehave(self, *faults: Fault) -> None:
        """Queue faults for the next calls."""
        self.faults.add(*faults)

    def behave(self) -> None:
        """Clear the queued faults."""
        self.faults.clear()

    def proceed(self) -> None:
        """Go on now with the calls that `slow` and `late` faults hold back."""
        self.faults.proceed()

    def _build(self) -> Starlette:
        version = "/v1/app/{app}/version/{version}"
        create_app = self._endpoint(lambda _, body: self.create_app(body))
        routes = [
            Route("/v1/apps", self._endpoint(self._list_apps)),
            Route("/v1/app", create_app, methods=["POST"]),
            Route("/v1/app/{app}", self._named(self.find_app)),
            Route("/v1/app/{app}/versions", self._endpoint(self._list_versions)),
            Route("/v1/app/{app}/version", self._endpoint(self._post_version), methods=["POST"]),
            Route(version, self._endpoint(self._get_version)),
            Route(version, self._endpoint(self._patch_version), methods=["PATCH"]),
            Route(version, self._endpoint(self._delete_version), methods=["DELETE"]),
            *self._deployment_routes(),
        ]
        return Starlette(
            routes=[*routes, calls_route(self.calls)],
            middleware=[
                Middleware(Recording, calls=self.calls),
                Middleware(Misbehaving, faults=self.faults),
            ],
            exception_handlers={HTTPException: _refuse},
        )

    def _deployment_routes(self) -> list[Route]:
        deployments, endpoint = self.deployments, "/v1/storage/endpoint/{endpoint}"
        deploy = self._endpoint(lambda _, body: deployments.deploy(body))
        link = f"{endpoint}/pull-profile/{{profile}}/app/{{app}}/version/{{version}}"
        return [
            Route("/v2/deployments", deploy, methods=["POST"]),
            Route("/v1/deployments", self._endpoint(self._list_deployments)),
            Route("/v1/status/{id}", self._named(deployments.status)),
            Route("/v1/deployment/{id}/container-logs", self._named(deployments.logs)),
            Route("/v1/metrics/deployment/{id}", self._named(deployments.metrics)),
            Route("/v1/stop/{id}", self._named(deployments.stop), methods=["DELETE"]),
            Route("/v1/storage/endpoints", self._endpoint(self._list_endpoints)),
            Route(f"{endpoint}/pull-profiles", self._endpoint(self._list_profiles)),
            Route(link, self._named(self.storage.link), methods=["PUT"]),
        ]

    def _named(self, act: Callable[..., _Result]) -> _Endpoint:
        """Return 200 with the result of `act` for the names in the path."""
        return self._endpoint(lambda request, _: act(*request.path_params.values()))

    def _endpoint(self, handle: Callable[[Request, Any], _Result]) -> _Endpoint:
        """Check the token, read the body, and return 200 with the result of `handle`.

        A result with another status is a response itself.
        """

        async def endpoint(request: Request) -> Response:
            if self.latency:
                await asyncio.sleep(self.latency)
            self._check_token(request.headers.get("authorization"))
            text = await request.body()
            try:
                body = json.loads(text) if text else None
            except ValueError as error:
                raise HTTPException(400, "The body is not JSON") from error
            result = handle(request, body)
            if isinstance(result, Response):
                return result
            strange = {} if _is_documented(result) else {FAULT_HEADER: "quirk"}
            return JSONResponse(result, headers=strange)

        return endpoint

    def _check_token(self, authorization: str | None) -> None:
        if authorization != f"token {self.token}":
            raise HTTPException(401, "Invalid or missing token")
        if self.token_state in _TOKEN_REFUSALS:
            raise HTTPException(
                _TOKEN_REFUSALS[self.token_state], "The token is not valid any more"
            )

    def _list_apps(self, request: Request, _: Any) -> dict[str, Any]:
        return self._page("applications", list(self.apps.values()), request)

    def _list_versions(self, request: Request, _: Any) -> dict[str, Any]:
        rows = [
            self.quirks.shown(version) for version in self.versions_of(request.path_params["app"])
        ]
        return self._page("versions", rows, request)

    def _post_version(self, request: Request, body: Any) -> dict[str, Any]:
        version = self.create_version(request.path_params["app"], body)
        return {"success": True, "version": self.quirks.shown(version)}

    def _get_version(self, request: Request, _: Any) -> dict[str, Any]:
        return self.quirks.shown(self.find_version(**_target(request)))

    def _patch_version(self, request: Request, body: Any) -> dict[str, Any]:
        version = self.patch_version(**_target(request), body=body)
        return {"success": True, "version": self.quirks.shown(version)}

    def _delete_version(self, request: Request, _: Any) -> dict[str, Any]:
        self.delete_version(**_target(request))
        return {"success": True, "message": "Application version deleted"}

    def _list_deployments(self, request: Request, _: Any) -> dict[str, Any]:
        rows, messages = self.deployments.rows(request.query_params.get("query"))
        page = self._page("data", rows, request)
        return {**page, "message": messages} if messages else page

    def _list_endpoints(self, request: Request, _: Any) -> dict[str, Any]:
        page = self._page("endpoints", self.storage.endpoints(), request)
        page.pop("total_count", None)  # not documented for this list
        return page

    def _list_profiles(self, request: Request, _: Any) -> dict[str, Any]:
        rows = self.storage.profiles(request.path_params["endpoint"])
        return self._page("pull_profiles", rows, request)

    def _page(self, key: str, rows: list[dict[str, Any]], request: Request) -> dict[str, Any]:
        query = request.query_params
        return page_of(key, rows, query, size=self.page_size, quirks=self.lists)


def _is_documented(response: dict[str, Any]) -> bool:
    """Return whether the versions in a response match the API document."""
    versions = response.get("versions", [response.get("version", response)])
    return all(is_documented(version) for version in versions if "docker_tag" in version)


def _target(request: Request) -> dict[str, str]:
    return {"app": request.path_params["app"], "name": request.path_params["version"]}


async def _refuse(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)  # noqa: S101  # Starlette passes no other type
    return JSONResponse({"message": refusal.detail}, refusal.status_code, refusal.headers)
