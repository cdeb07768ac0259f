"""Calls that administrate a repository: its webhooks, and its immutable tags.

Docker documents the second, and who may do the first; the paths and bodies of the first are those
of public clients. So no call is repeated, and a response that is not expected is kept as it is.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from receiver.dockerhub.api import Hub, repository_path
from receiver.dockerhub.http import DockerHubUnavailable, HttpResponse
from receiver.dockerhub.login import Login
from receiver.dockerhub.records import (
    ImmutableTags,
    Webhook,
    new_webhook,
    read_immutable_tags,
    read_webhooks,
)
from receiver.secret import Secret

T = TypeVar("T")

MOST_PAGES = 20
CREATED = frozenset({HTTPStatus.OK, HTTPStatus.CREATED})
DELETED = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT})


class UnexpectedResponse(DockerHubUnavailable):
    """A response that the call does not expect; `exact` is the response with masked secrets."""

    def __init__(self, call: str, response: HttpResponse, secrets: Iterable[Secret]) -> None:
        sentence = f"Docker Hub's API answers {call} with HTTP {response.status}"
        super().__init__(sentence, status=response.status, exact=response.exact(secrets))


class RepositoryAdmin:
    """The calls for one repository. Each raises DockerHubUnavailable or UnexpectedResponse."""

    def __init__(self, hub: Hub, repository: str, login: Login | None) -> None:
        self._hub = hub
        self._login = login
        self.repository = repository
        self._record = repository_path(repository)
        self._immutable = f"{self._record}/immutabletags"
        self._webhooks = f"/v2/repositories/{quote(repository)}/webhook_pipeline/"
        self._last: tuple[HttpResponse, list[Secret]] | None = None

    def last_response(self) -> str | None:
        """Return the exact response to the last call that had one, with masked secrets."""
        return None if self._last is None else self._last[0].exact(self._last[1])

    async def webhooks(self) -> list[Webhook]:
        """Return all webhooks of the repository."""
        found: list[Webhook] = []
        for number in range(1, MOST_PAGES + 1):
            query = "?page_size=100" + (f"&page={number}" if number > 1 else "")
            page = await self._call("GET", self._webhooks, read_webhooks, query=query)
            found += page.webhooks
            if not page.has_next:
                break
        return found

    async def create_webhook(self, name: str, url: str) -> None:
        """Create a webhook. Whether it exists is known only from the list."""
        body = new_webhook(name, url)
        token = Secret(url.rpartition("/")[2])
        await self._send("POST", self._webhooks, CREATED, body, secrets=[token])

    async def delete_webhook(self, slug: str) -> None:
        """Delete a webhook by its slug."""
        await self._send("DELETE", f"{self._webhooks}{quote(slug, safe='')}/", DELETED)

    async def immutable_tags(self) -> ImmutableTags | None:
        """Return the settings; None if Docker Hub does not return them."""
        (found,) = await self._call("GET", self._record, lambda body: [read_immutable_tags(body)])
        return found

    async def matching_tags(self, rule: str) -> list[str]:
        """Return the tags in the repository that Docker Hub matches with a rule."""
        return await self._call("POST", f"{self._immutable}/verify", _tags, {"regex": rule})

    async def set_immutable_tags(self, settings: ImmutableTags) -> None:
        """Set the settings, replacing the present ones."""
        await self._send("PATCH", self._immutable, {HTTPStatus.OK}, settings.body())

    async def _call(
        self,
        method: str,
        path: str,
        read: Callable[[Mapping[str, Any]], T | None],
        body: object = None,
        *,
        query: str = "",
    ) -> T:
        """Make a call and return what `read` finds in the response; None is not expected."""
        response = await self._send(method, path, {HTTPStatus.OK}, body, query=query)
        try:
            found = read(response.json())
        except DockerHubUnavailable:  # not a JSON object
            found = None
        if found is None:
            secrets = self._hub.secrets_of(self._login)
            raise UnexpectedResponse(f"{method} {path}", response, secrets)
        return found

    async def _send(
        self,
        method: str,
        path: str,
        expected: Container[int],
        body: object = None,
        *,
        query: str = "",
        secrets: Iterable[Secret] = (),
    ) -> HttpResponse:
        response = await self._hub.send(method, f"{path}{query}", self._login, body)
        known = [*self._hub.secrets_of(self._login), *secrets]
        self._last = response, known
        if response.status not in expected:
            raise UnexpectedResponse(f"{method} {path}", response, known)
        return response


def _tags(body: Mapping[str, Any]) -> list[str] | None:
    tags = body.get("tags")
    if not isinstance(tags, list):
        return None
    return [tag for tag in tags if isinstance(tag, str)]
