"""Docker Hub's registry for reading images, and `GET /token`, which issues the tokens for it."""

from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from receiver.sandbox.dockerhub_account import Bearer, DockerHubAccount, Login, basic, user_id
from receiver.sandbox.dockerhub_images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
)
from receiver.sandbox.dockerhub_records import timestamp

PULL_WINDOW = 21_600  # seconds: 6 hours

_DEFAULT_EXPIRY = 60  # seconds, by the registry's token specification
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
USED_UP = (
    "You have reached your pull rate limit. You may increase the limit by authenticating and "
    "upgrading: https://www.docker.com/increase-rate-limits"
)

_VERSION = {"docker-distribution-api-version": "registry/2.0"}
_OCI = {OCI_INDEX: "OCI index", OCI_MANIFEST: "OCI manifest"}


class AuthServer:
    """Issues tokens for the allowed part of the requested scopes, which may be empty."""

    def __init__(self, hub: DockerHubAccount) -> None:
        self._hub = hub

    async def token(self, request: Request) -> Response:
        """Answer `GET /token?service=&scope=`, with a login or anonymously."""
        hub = self._hub
        login = None
        authorization = request.headers.get("authorization")
        if authorization is not None:
            given = basic(authorization)
            login = None if given is None else hub.find_login(*given)
            if login is None:
                return _refused("incorrect username or password")
        access: list[dict[str, Any]] = []
        scopes = " ".join(request.query_params.getlist("scope")).split()
        for name, asked in _repositories(scopes):
            if login is not None and self._refuses(login, name, asked):
                return _refused("access token has insufficient scopes")
            actions = [action for action in asked if action in hub.allowed(login, name)]
            if actions:
                access.append(_access(name, actions, hub.pull_limit_of(login)))
        seconds = _DEFAULT_EXPIRY if hub.expires_in is None else hub.expires_in
        claims = {
            "iss": "auth.docker.io",
            "sub": "" if login is None else user_id(login.username),
            "aud": request.query_params.get("service", ""),
            "access": access,
        }
        hub.bearers.opaque = hub.opaque_tokens
        token = hub.bearers.give(login, claims, seconds=seconds)
        body: dict[str, Any] = dict.fromkeys(hub.token_names, token)
        if hub.expires_in is not None:
            body["expires_in"] = hub.expires_in
        return JSONResponse({**body, "issued_at": timestamp(hub.clock())})

    def _refuses(self, login: Login, name: str, asked: Sequence[str]) -> bool:
        """Return whether a push is requested with a token that was not made for pushing.

        The specification would have the token reduced; see docker/cli#4511.
        """
        if "push" not in asked:
            return False
        if login.is_organization_token:
            denied = "push" not in self._hub.allowed(login, name)
            return denied and self._hub.organization_push == "refused"
        return login.level not in {"write", "admin"}


def _repositories(scopes: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Parse `repository:group/project:pull,push`; skip scopes of another form."""
    parts = [scope.split(":") for scope in scopes]
    return [
        (part[1], part[2].split(","))
        for part in parts
        if len(part) == 3 and part[0] == "repository"  # noqa: PLR2004
    ]


def _access(name: str, actions: list[str], pull_limit: int | None) -> dict[str, Any]:
    access: dict[str, Any] = {"type": "repository", "name": name, "actions": actions}
    if pull_limit is not None and "pull" in actions:
        access["parameters"] = {
            "pull_limit": str(pull_limit),
            "pull_limit_interval": str(PULL_WINDOW),
        }
    return access


def _refused(why: str) -> Response:
    return JSONResponse({"details": why}, 401)


class Registry:
    """Returns manifests and blobs to callers with a valid token."""

    def __init__(self, hub: DockerHubAccount) -> None:
        self._hub = hub

    def routes(self) -> list[Route]:
        """Return the registry's routes, and the CDN route to which blobs may redirect."""
        return [
            Route("/v2/", self._greet),
            Route("/v2/{name:path}/manifests/{reference}", self._manifest),
            Route("/v2/{name:path}/blobs/{digest}", self._blob),
            Route("/cdn/{digest}", self._cdn),
        ]

    async def _greet(self, request: Request) -> Response:
        if self._bearer(request) is None:
            return self._challenge(request)
        return JSONResponse({}, headers=_VERSION)

    async def _manifest(self, request: Request) -> Response:
        hub, name = self._hub, request.path_params["name"]
        bearer = self._bearer(request)
        if bearer is None or not _may_pull(bearer, name):
            return self._challenge(request, name)
        refused, limits = self._count(request, bearer)
        if refused:
            return _errors(429, "TOOMANYREQUESTS", USED_UP, headers=limits)
        repository = hub.repositories.get(name)
        if repository is None:
            return _errors(404, "NAME_UNKNOWN", "repository name not known to registry")
        reference = request.path_params["reference"]
        manifest = repository.manifest(reference, hub.clock())
        if manifest is None:
            detail = f"unknown tag={reference}"
            return _errors(404, "MANIFEST_UNKNOWN", "manifest unknown", detail, headers=limits)
        accepted = _accepted(request.headers)
        if manifest.media_type in _OCI and manifest.media_type not in accepted:
            kind = _OCI[manifest.media_type]
            message = f"{kind} found, but Accept header does not support {kind}s"
            return _errors(404, "MANIFEST_UNKNOWN", message, headers=limits)
        if ":" not in reference:
            manifest = self._downgraded(manifest, accepted, name)
        if request.method == "GET" and limits:
            hub.pulls[_puller(bearer)] += 1
            _, limits = self._count(request, bearer)
        digest = manifest.digest if hub.content_digest is None else hub.content_digest
        headers = {"docker-content-digest": digest, "etag": f'"{digest}"'} if digest else {}
        body = manifest.body + b"\n" if hub.tampered else manifest.body
        return Response(body, 200, {**_VERSION, **headers, **limits}, manifest.media_type)

    def _downgraded(self, manifest: Manifest, accepted: set[str], name: str) -> Manifest:
        """Return an older format to clients that ask by tag and accept no lists or schema 2."""
        repository = self._hub.repositories[name]
        if manifest.media_type == DOCKER_LIST and DOCKER_LIST not in accepted:
            for push in repository.pushes:
                children = [part for part in push.image.parts if part.architecture == "amd64"]
                if push.image.top is manifest and children:
                    manifest = push.image.manifests[children[0].digest]
        if manifest.media_type == DOCKER_MANIFEST and DOCKER_MANIFEST not in accepted:
            return Manifest(SCHEMA_1, b'{"schemaVersion": 1, "architecture": "amd64"}')
        return manifest

    async def _blob(self, request: Request) -> Response:
        hub, name, digest = self._hub, request.path_params["name"], request.path_params["digest"]
        bearer = self._bearer(request)
        if bearer is None or not _may_pull(bearer, name):
            return self._challenge(request, name)
        repository = hub.repositories.get(name)
        blob = None if repository is None else repository.blob(digest, hub.clock())
        if blob is None:
            return _errors(404, "BLOB_UNKNOWN", "blob unknown to registry", digest)
        if hub.blob_location is not None:
            return RedirectResponse(hub.blob_location, 307)
        if hub.redirect_blobs_to is not None:
            return RedirectResponse(f"{hub.redirect_blobs_to}/cdn/{digest}?verify=sandbox", 307)
        return self._blob_itself(blob)

    async def _cdn(self, request: Request) -> Response:
        hub, digest = self._hub, request.path_params["digest"]
        # The URL is signed; storage refuses a second authorization.
        if "authorization" in request.headers:
            return Response("Only one auth mechanism allowed", 400)
        hop = int(request.query_params.get("hop", "0"))
        if hub.cdn_hops is None or hop < hub.cdn_hops:
            return RedirectResponse(f"/cdn/{digest}?verify=sandbox&hop={hop + 1}", 307)
        for repository in hub.repositories.values():
            blob = repository.blob(digest, hub.clock())
            if blob is not None:
                return self._blob_itself(blob)
        return Response("Not Found", 404)

    def _blob_itself(self, blob: bytes) -> Response:
        body = blob + b"\n" if self._hub.tampered else blob
        return Response(body, media_type="application/octet-stream")

    def _bearer(self, request: Request) -> Bearer | None:
        authorization = request.headers.get("authorization", "")
        return self._hub.bearers.read(authorization, audience=self._hub.service)

    def _challenge(self, request: Request, name: str | None = None) -> Response:
        """Return a 401 with the challenge, and the error of the given token."""
        hub = self._hub
        realm = f"{request.base_url}token" if hub.realm is None else hub.realm
        challenge = f'Bearer realm="{realm}",service="{hub.service}"'
        if name is not None:
            challenge += f',scope="repository:{name}:pull"'
        if "authorization" in request.headers:
            known = self._bearer(request) is not None
            challenge += f',error="{"insufficient_scope" if known else "invalid_token"}"'
        challenge = challenge if hub.challenge is None else hub.challenge
        detail = [{"Type": "repository", "Class": "", "Name": name, "Action": "pull"}]
        return _errors(
            401,
            "UNAUTHORIZED",
            "authentication required",
            detail if name is not None else None,
            headers={"www-authenticate": challenge} if challenge else {},
        )

    def _count(self, request: Request, bearer: Bearer) -> tuple[bool, dict[str, str]]:
        """Return whether the pull limit refuses a manifest, and the rate limit headers."""
        hub, login = self._hub, bearer.login
        limit = hub.pull_limit_of(login)
        if limit is None:
            return False, {}
        left = max(0, limit - hub.pulls[_puller(bearer)])
        here = request.client.host if request.client else ""
        headers = {
            "ratelimit-limit": f"{limit};w={PULL_WINDOW}",
            "ratelimit-remaining": f"{left};w={PULL_WINDOW}",
            "docker-ratelimit-source": here if login is None else user_id(login.username),
        }
        return left == 0 and (request.method == "GET" or hub.heads_are_limited), headers


def _puller(bearer: Bearer) -> str:
    return "" if bearer.login is None else bearer.login.username


def _may_pull(bearer: Bearer, name: str) -> bool:
    return any(
        access["name"] == name and "pull" in access["actions"] for access in bearer.claims["access"]
    )


def _accepted(headers: Headers) -> set[str]:
    listed = ",".join(headers.getlist("accept")).split(",")
    return {media_type.partition(";")[0].strip() for media_type in listed}


def _errors(
    status: int, code: str, message: str, detail: Any = None, headers: dict[str, str] | None = None
) -> Response:
    error = {"code": code, "message": message, **({"detail": detail} if detail else {})}
    return JSONResponse({"errors": [error]}, status, {**_VERSION, **(headers or {})})
