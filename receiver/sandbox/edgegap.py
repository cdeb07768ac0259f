"""A fake of Edgegap's API, with its quirks and with faults on request."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Literal, get_args

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.sandbox.calls import Call, Recording
from receiver.sandbox.edgegap_account import EdgegapAccount, Storage, Version
from receiver.sandbox.edgegap_deployments import Deployments
from receiver.sandbox.edgegap_quirks import ListQuirks, Quirks, page_of
from receiver.sandbox.edgegap_versions import is_documented
from receiver.sandbox.faults import FAULT_HEADER, Fault, Faults, Misbehaving, control_routes

TokenState = Literal["good", "refused", "deleted"]

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
        page_size: int = 10,
        pullable: Callable[[str, str], bool] | None = None,
        registry_login: tuple[str, str] | None = None,
        hidden_value: str | None = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            apps=apps,
            version_limit=version_limit,
            pullable=pullable,
            registry_login=registry_login,
            quirks=Quirks(hidden_value=hidden_value),
        )
        self.token = token
        self.token_state: TokenState = "good"  # noqa: S105  # a state, not a token
        self.latency = latency
        self.page_size = page_size
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

    def change(self, state: dict[str, Any]) -> None:
        """Set state from JSON; an unknown key is refused before anything is set.

        `apps` (names, or objects) and `versions` are added, pairs are lists of two, `lists` has
        the quirks of all lists, `quirks` changes the named quirks, and `unpullable` lists
        the images, as `group/project:tag`, that cannot be pulled.

        `deployments` are those that are Ready in place of all others, as lists of app, version and
        tags; `lifecycles` are objects of an app, a version and the fields of a `Lifecycle`;
        `deployment_quirks` changes the named quirks, and `ahead` the time, in seconds. `storage`
        has the pull profiles of each endpoint storage.
        """
        unknown = state.keys() - _SETTERS.keys()
        if unknown:
            raise ValueError(f"no such state: {', '.join(sorted(unknown))}")
        for name, value in state.items():
            _SETTERS[name](self, value)

    def _build(self) -> Starlette:
        version = "/v1/app/{app}/version/{version}"
        routes = [
            Route("/v1/apps", self._endpoint(self._list_apps)),
            Route("/v1/app", self._endpoint(self._post_app), methods=["POST"]),
            Route("/v1/app/{app}", self._endpoint(self._get_app)),
            Route("/v1/app/{app}/versions", self._endpoint(self._list_versions)),
            Route("/v1/app/{app}/version", self._endpoint(self._post_version), methods=["POST"]),
            Route(version, self._endpoint(self._get_version)),
            Route(version, self._endpoint(self._patch_version), methods=["PATCH"]),
            Route(version, self._endpoint(self._delete_version), methods=["DELETE"]),
            *self._deployment_routes(),
        ]
        controls = control_routes(
            calls=self.calls,
            faults=self.faults,
            change=self.change,
            shows={
                "versions": self._stored_versions,
                "deployments": self.deployments.shown,
                "links": lambda: sorted(self.storage.links),
            },
        )
        return Starlette(
            routes=[*routes, *controls],
            middleware=[
                Middleware(Recording, calls=self.calls),
                Middleware(Misbehaving, faults=self.faults),
            ],
            exception_handlers={HTTPException: _refuse},
        )

    def _deployment_routes(self) -> list[Route]:
        def by_id(
            act: Callable[[str], dict[str, Any] | Response],
        ) -> Callable[[Request], Awaitable[Response]]:
            return self._endpoint(lambda request, _: act(request.path_params["id"]))

        deployments, endpoint = self.deployments, "/v1/storage/endpoint/{endpoint}"
        deploy = self._endpoint(lambda _, body: deployments.deploy(body))
        link = f"{endpoint}/pull-profile/{{profile}}/app/{{app}}/version/{{version}}"
        return [
            Route("/v2/deployments", deploy, methods=["POST"]),
            Route("/v1/deployments", self._endpoint(self._list_deployments)),
            Route("/v1/status/{id}", by_id(deployments.status)),
            Route("/v1/deployment/{id}/container-logs", by_id(deployments.logs)),
            Route("/v1/metrics/deployment/{id}", by_id(deployments.metrics)),
            Route("/v1/stop/{id}", by_id(deployments.stop), methods=["DELETE"]),
            Route("/v1/storage/endpoints", self._endpoint(self._list_endpoints)),
            Route(f"{endpoint}/pull-profiles", self._endpoint(self._list_profiles)),
            Route(link, self._endpoint(self._put_link), methods=["PUT"]),
        ]

    def _endpoint(
        self, handle: Callable[[Request, Any], dict[str, Any] | Response]
    ) -> Callable[[Request], Awaitable[Response]]:
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

    def _post_app(self, _: Request, body: Any) -> dict[str, Any]:
        return self.create_app(body)

    def _get_app(self, request: Request, _: Any) -> dict[str, Any]:
        return self.find_app(request.path_params["app"])

    def _list_versions(self, request: Request, _: Any) -> dict[str, Any]:
        rows = [self._shown(version) for version in self.versions_of(request.path_params["app"])]
        return self._page("versions", rows, request)

    def _post_version(self, request: Request, body: Any) -> dict[str, Any]:
        version = self.create_version(request.path_params["app"], body)
        return {"success": True, "version": self._shown(version)}

    def _get_version(self, request: Request, _: Any) -> dict[str, Any]:
        return self._shown(self.find_version(**_target(request)))

    def _patch_version(self, request: Request, body: Any) -> dict[str, Any]:
        version = self.patch_version(**_target(request), body=body)
        return {"success": True, "version": self._shown(version)}

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

    def _put_link(self, request: Request, _: Any) -> dict[str, Any]:
        return self.storage.link(**request.path_params)

    def _page(self, key: str, rows: list[dict[str, Any]], request: Request) -> dict[str, Any]:
        query = request.query_params
        return page_of(key, rows, query, size=self.page_size, quirks=self.lists)

    def _shown(self, version: Version) -> dict[str, Any]:
        return self.quirks.shown(version)

    def _stored_versions(self) -> list[dict[str, Any]]:
        return [{"app": app, **version} for (app, _), version in self.versions.items()]


def _is_documented(response: dict[str, Any]) -> bool:
    """Return whether the versions in a response match the API document."""
    versions = response.get("versions", [response.get("version", response)])
    return all(is_documented(version) for version in versions if "docker_tag" in version)


def _target(request: Request) -> dict[str, str]:
    return {"app": request.path_params["app"], "name": request.path_params["version"]}


async def _refuse(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)  # noqa: S101  # Starlette passes no other type
    return JSONResponse({"message": refusal.detail}, refusal.status_code, refusal.headers)


def _set_token_state(sandbox: EdgegapSandbox, value: Any) -> None:
    if value not in get_args(TokenState):
        raise ValueError(f"no such token_state: {value}")
    sandbox.token_state = value


def _set_unpullable(sandbox: EdgegapSandbox, value: Any) -> None:
    unpullable = frozenset(value)
    sandbox.pullable = lambda image, tag: f"{image}:{tag}" not in unpullable


def _set_plain(name: str, kind: Callable[[Any], Any]) -> Callable[[EdgegapSandbox, Any], None]:
    return lambda sandbox, value: setattr(sandbox, name, kind(value))


def _set_quirks(sandbox: EdgegapSandbox, value: Any) -> None:
    sandbox.quirks = sandbox.quirks.changed(value)


def _set_deployments(sandbox: EdgegapSandbox, value: Any) -> None:
    sandbox.deployments.clear()
    for app, version, *tags in value:
        sandbox.deployments.run(app, version, *tags)


def _set_lifecycles(sandbox: EdgegapSandbox, value: Any) -> None:
    for lifecycle in value:
        sandbox.deployments.set_lifecycle(**lifecycle)


def _set_storage(sandbox: EdgegapSandbox, value: Any) -> None:
    for endpoint, profiles in value.items():
        sandbox.storage.add(endpoint, *profiles)


def _set_deployment_quirks(sandbox: EdgegapSandbox, value: Any) -> None:
    sandbox.deployments.quirks = replace(sandbox.deployments.quirks, **value)


def _pairs(value: Any) -> list[tuple[str, str]]:
    return [(first, second) for first, second in value]


_SETTERS: dict[str, Callable[[EdgegapSandbox, Any], object]] = {
    "token_state": _set_token_state,
    "version_limit": _set_plain(
        "version_limit", lambda value: None if value is None else int(value)
    ),
    "latency": _set_plain("latency", float),
    **{
        name: _set_plain(name, int)
        for name in (
            *("delete_refusal_status", "taken_status"),
            *("login_refusal_status", "pull_refusal_status"),
        )
    },
    "lists": _set_plain("lists", lambda value: ListQuirks(**value)),
    "held_by_matchmaker": _set_plain("held_by_matchmaker", lambda value: set(_pairs(value))),
    "deployments": _set_deployments,
    "lifecycles": _set_lifecycles,
    "deployment_quirks": _set_deployment_quirks,
    "ahead": lambda sandbox, value: setattr(sandbox.deployments, "ahead", float(value)),
    "storage": _set_storage,
    "registry_login": _set_plain("registry_login", lambda value: value and _pairs([value])[0]),
    "unpullable": _set_unpullable,
    "quirks": _set_quirks,
    "apps": lambda sandbox, value: [
        sandbox.add_app(**app) if isinstance(app, dict) else sandbox.add_app(app) for app in value
    ],
    "versions": lambda sandbox, value: [sandbox.add_version(**version) for version in value],
}
