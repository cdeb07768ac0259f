"""Whatever Docker Hub, its login server and Edgegap answer: it is read, or refused."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dockerhub.api import Hub, Page, seconds_to_wait
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.manifest import OCI_INDEX, OCI_MANIFEST
from receiver.dockerhub.registry import Registry
from receiver.edgegap import deployments, pull_profiles
from receiver.edgegap.client import EdgegapClient, RateLimiter
from receiver.edgegap.deployment_answers import Coordinates, Meaning, Read
from receiver.edgegap.listing import MAX_PAGES, Listing
from receiver.edgegap.pull_profiles import PullProfile
from receiver.images import ImageReference, Login, is_digest, is_tag
from receiver.pipeline.preflight import (
    DockerHubOut,
    ImageOk,
    ImagePending,
    ImageRejected,
    Preflight,
)
from receiver.rules.rule import Rule
from receiver.secret import Secret
from tests.support.images import GAME, LOGIN, TOKEN
from tests.support.streams import Parts

T = TypeVar("T")

REGISTRY = "https://registry.example"
AUTH = "https://auth.example/token"
API = "https://hub.example"

WORDS = st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"), max_size=30)
NUMBERS = st.integers(-1, 2**70).map(str) | st.floats().map(str)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no others
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=10)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)


def objects(*names: str) -> st.SearchStrategy[Any]:
    """Objects that have some of these names, of whatever value."""
    return st.dictionaries(st.sampled_from(names), ANY_JSON)


def bodies(answer: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """What may come as an answer's body: mostly JSON of that kind."""
    as_json = answer.map(lambda value: json.dumps(value).encode())
    return as_json | as_json | as_json | st.binary(max_size=40)


# A token that can be read, as far as it can be: its claims decide how long it is used.
JWTS = (objects("exp", "access") | ANY_JSON).map(
    lambda claims: f"a.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.c"
)
TOKENS = bodies(
    objects("token", "access_token", "expires_in", "details", "message")
    | st.fixed_dictionaries(
        {"token": JWTS | JWTS | WORDS, "access_token": JWTS | JWTS | WORDS},
        optional={"expires_in": ANY_JSON},
    )
)
DATES = st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT"))
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("retry-after", "x-retry-after", "date", "ratelimit-limit", "ratelimit-remaining"),
            *("x-ratelimit-remaining", "x-ratelimit-reset", "location", "www-authenticate"),
            *("content-type", "docker-content-digest"),
        ]
    ),
    st.sampled_from(
        [
            f'Bearer realm="{AUTH}",service="registry"',
            f'Bearer realm="{AUTH}',
            OCI_MANIFEST,
            OCI_INDEX,
            f"sha256:{'0' * 64}",
            "0",
            "100;w=60",
            "https://[",
            "//elsewhere.example:0/x",
            "http://a:99999/",
        ]
    )
    | NUMBERS
    | DATES
    | WORDS,
)
# Most often as it should be, so that what comes behind is reached as well.
GOOD = {"content-type": OCI_MANIFEST, "docker-content-digest": f"sha256:{'0' * 64}"}
STATUSES = st.sampled_from([*[200] * 12, 204, 301, 307, 401, 401, 403, 404, 429, 500, 599])
ROWS = objects("name", "digest", "images", "media_type", "last_updated", "tag_last_pushed")
FOLLOWING = st.sampled_from([f"?page={number}" for number in range(1, 9)])
PAGES = st.fixed_dictionaries(
    {
        "results": st.lists(ROWS | ANY_JSON, min_size=1, max_size=3) | ANY_JSON,
        "next": SCALARS | FOLLOWING | st.text("?&page=0123456789²[/:h", max_size=12),
    },
    optional={"count": ANY_JSON},
)
VERSIONS = st.fixed_dictionaries(
    {},
    optional={
        "versions": st.lists(objects("name") | ANY_JSON, max_size=3) | ANY_JSON,
        "pagination": objects("has_next") | ANY_JSON,
        "total_count": ANY_JSON,
    },
)
Answers = list[tuple[int, dict[str, str], bytes]]


def answers(answer: st.SearchStrategy[Any]) -> st.SearchStrategy[Answers]:
    """Some answers, given in turn, the last for all that follow."""
    return st.lists(
        st.tuples(STATUSES, st.just(GOOD) | HEADERS, bodies(answer)), min_size=1, max_size=4
    )


LOGINS = st.tuples(STATUSES, HEADERS, TOKENS)


class StandIn:
    """A stand-in for all of them: the login server's answer, and the others' in turn."""

    def __init__(self, answer: Answers, login: tuple[int, dict[str, str], bytes]) -> None:
        self._answers = list(answer)
        self._login = login
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        login = request.url.host == "auth.example" or request.url.path.endswith("/auth/token")
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return _response(*(self._login if login else answer))


def _response(status: int, headers: Mapping[str, str], content: bytes) -> httpx.Response:
    raw = [(name.encode(), value.strip().encode("latin-1")) for name, value in headers.items()]
    return httpx.Response(status, headers=raw, stream=Parts([content]))


def answered(answer: StandIn, ask: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    """The result of asking."""

    async def run() -> T:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return await ask(http)

    return asyncio.run(run())


def asked(answer: StandIn, ask: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T | None:
    """The same; nothing but `DockerHubUnavailable` may be raised."""
    with suppress(DockerHubUnavailable):
        return answered(answer, ask)
    return None


@given(answers(objects("mediaType", "manifests", "config", "layers")), LOGINS)
def test_whatever_a_registry_answers_an_image_is_looked_at_in_peace(
    answer: Answers, login: tuple[int, dict[str, str], bytes]
) -> None:
    stand_in = StandIn(answer, login)

    async def look(http: httpx.AsyncClient) -> object:
        preflight = Preflight(Registry(http, REGISTRY, AUTH), Hub(http, API))
        rule = Rule(repository=GAME, app="my-game", name="a rule", login=LOGIN)
        return await preflight.check(ImageReference(GAME, "1.0"), rule)

    found = asked(stand_in, look)

    assert isinstance(found, ImageOk | ImagePending | ImageRejected | DockerHubOut)
    assert TOKEN not in repr(found)
    for request in stand_in.asked:  # the login goes to its own server, and nowhere else
        assert request.headers["accept-encoding"] == "identity"
        basic = request.headers.get("authorization", "").startswith("Basic ")
        assert not basic or request.url.host == "auth.example"
        if request.url.host not in {"registry.example", "hub.example", "auth.example"}:
            assert "authorization" not in request.headers


@given(LOGINS)
def test_whatever_a_login_server_answers_the_right_to_push_is_known_or_not(
    login: tuple[int, dict[str, str], bytes],
) -> None:
    found = asked(
        StandIn([login], login), lambda http: Registry(http, REGISTRY, AUTH).may_push(GAME, LOGIN)
    )

    assert found in {True, False, None}


@given(HEADERS, DATES | NUMBERS | WORDS)
def test_whatever_a_429_says_the_wait_is_some_seconds_or_unknown(
    headers: dict[str, str], until: str
) -> None:
    refused = (429, {"x-retry-after": until, **headers}, b"")

    async def ask(http: httpx.AsyncClient) -> object:
        return await Hub(http, API).tag(GAME, "1.0", None)

    with pytest.raises(DockerHubUnavailable) as answer:
        answered(StandIn([refused], refused), ask)

    assert answer.value.status == 429
    assert answer.value.wait is None or 0 <= answer.value.wait <= 120
    assert 1 <= (seconds_to_wait(answer.value) or 0) <= 121


@given(answers(PAGES), LOGINS, st.sampled_from([None, None, LOGIN]))
def test_whatever_docker_hub_lists_only_valid_tags_are_read(
    answer: Answers, login: tuple[int, dict[str, str], bytes], as_whom: Login | None
) -> None:
    stand_in = StandIn(answer, login)

    async def listed(http: httpx.AsyncClient) -> list[Page]:
        return [page async for page in Hub(http, API).pages(GAME, as_whom)]

    for page in asked(stand_in, listed) or []:
        assert isinstance(page.total, int)
        assert all(is_tag(tag.tag) for tag in page.tags)
        assert all(tag.digest is None or is_digest(tag.digest) for tag in page.tags)
    assert {request.url.host for request in stand_in.asked} == {"hub.example"}


@given(answers(VERSIONS))
def test_whatever_edgegap_lists_the_versions_are_objects_and_there_is_an_end(
    answer: Answers,
) -> None:
    stand_in = StandIn(answer, (500, {}, b""))

    async def listed(http: httpx.AsyncClient) -> Listing:
        http.base_url = httpx.URL("https://edgegap.example")
        client = EdgegapClient(http, Secret("a-token"), RateLimiter(100_000, 4))
        return await client.versions("my-game")

    found = asked(stand_in, listed)

    assert found is not None
    names = [row["name"] for row in found.rows]
    assert len(set(names)) == len(names)
    assert 0 < len(stand_in.asked) <= MAX_PAGES
    # An answer that is given again and again brings nothing new the second time.
    assert len(stand_in.asked) <= len(answer) + 1


DEPLOYMENT_ID = "f68e011bfb01"
OF_DEPLOYMENTS = st.fixed_dictionaries(
    {},
    optional={
        "request_id": st.just(DEPLOYMENT_ID) | ANY_JSON,
        "message": ANY_JSON,
        "success": st.booleans() | ANY_JSON,
        "running": st.booleans() | ANY_JSON,
        "error": st.booleans() | ANY_JSON,
        "current_status": st.sampled_from(["Status.READY", "Status.ERROR"]) | ANY_JSON,
        "tags": st.lists(st.text(max_size=4)) | ANY_JSON,
        "logs": st.text() | ANY_JSON,
        "crash_data": objects("exit_code", "message", "restart_count") | ANY_JSON,
        "cpu": objects("datasets") | ANY_JSON,
        "mem": objects("datasets") | ANY_JSON,
        "data": st.lists(objects("request_id", "tags") | ANY_JSON, max_size=3) | ANY_JSON,
        "endpoints": st.lists(objects("name") | ANY_JSON, max_size=3) | ANY_JSON,
        "pull_profiles": st.lists(objects("name") | ANY_JSON, max_size=3) | ANY_JSON,
        "pull_profile": st.just("maps") | ANY_JSON,
        "total_count": ANY_JSON,
        "pagination": objects("has_next", "number") | ANY_JSON,
    },
)


@given(answers(OF_DEPLOYMENTS))
def test_whatever_edgegap_answers_about_deployments_means_something(answer: Answers) -> None:
    stand_in = StandIn(answer, (500, {}, b""))
    near, profile = Coordinates(45.5, -73.6), PullProfile("bucket", "maps")

    async def call(http: httpx.AsyncClient) -> list[Read[Any]]:
        http.base_url = httpx.URL("https://edgegap.example")
        client = EdgegapClient(http, Secret("a-token"), RateLimiter(100_000, 4))
        return [
            await deployments.deploy(client, "my-game", "1.0", near, ["a tag"]),
            await deployments.status(client, DEPLOYMENT_ID),
            await deployments.logs(client, DEPLOYMENT_ID),
            await deployments.usage(client, DEPLOYMENT_ID),
            await deployments.deployments_tagged(client, "a tag"),
            await pull_profiles.pull_profiles(client),
            await deployments.stop(client, DEPLOYMENT_ID),
            await pull_profiles.link(client, profile, "my-game", "1.0"),
        ]

    found = answered(stand_in, call)

    for one in found[:6]:
        if one.meaning is Meaning.DONE:
            assert one.value is not None
            assert one.answer.ok
        elif one.meaning is not Meaning.NO_CAPACITY:
            assert one.value is None
    assert all(isinstance(one.meaning, Meaning) for one in found)
