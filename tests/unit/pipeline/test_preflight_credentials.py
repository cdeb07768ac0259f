"""Nothing an answer says decides where a credential goes, be it realm, `next` or redirect."""

import asyncio
import json
import re
from collections.abc import Iterator

import httpx
import pytest

from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.manifest import Platforms
from receiver.dockerhub.registry import Registry
from receiver.pipeline.preflight import ImageOk
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.dockerhub_images import Image, build_image
from receiver.sandbox.serving import serving
from tests.support.images import GAME, LOGIN, TOKEN, Looking, out
from tests.support.streams import Parts


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_login("studio-bot", TOKEN, namespaces=["studio"])
    hub.push_image(GAME, "1.0", kind="manifest")
    hub.alter_record(GAME, "1.0", images=None)  # so that manifest and config must be read
    return hub


@pytest.fixture
def other() -> DockerHubSandbox:
    """Somebody else's server, which would take any credential."""
    return DockerHubSandbox()


@pytest.fixture
def elsewhere(other: DockerHubSandbox) -> Iterator[str]:
    with serving(other.app) as url:
        yield url


def test_another_servers_realm_is_reported_and_never_asked(
    hub: DockerHubSandbox, there: Looking, other: DockerHubSandbox, elsewhere: str
) -> None:
    hub.realm = f"{elsewhere}/token"

    assert "names a login server that is not DOCKERHUB_AUTH_URL" in out(there)
    assert other.calls == []
    assert [call.authorization for call in hub.calls] == [None]


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Bearer",
        'Basic realm="{url}/token"',
        'Bearer realm="{url}/token/"',
        'Bearer realm="{url}/v2/token"',
        'Bearer realm="{url}/token?to=elsewhere"',
        'Bearer realm="http://somebody@{host}/token"',
        'Bearer realm="{url}.example.com/token"',
        'Bearer realm="https://{host}/token"',
        'Bearer realm="http://[::1/token"',
        "Bearer realm={url}/token",
    ],
)
def test_a_challenge_that_is_not_ours_to_the_letter_gets_no_login(
    hub: DockerHubSandbox, there: Looking, challenge: str
) -> None:
    hub.challenge = challenge.format(url=there.url, host=there.url.removeprefix("http://"))

    assert "login server" in out(there)
    assert [call.authorization for call in hub.calls] == [None]


def test_of_next_only_the_page_number_is_used(
    hub: DockerHubSandbox, there: Looking, other: DockerHubSandbox, elsewhere: str
) -> None:
    hub.next_base = elsewhere
    for number in range(250):
        hub.push_image(GAME, f"0.{number}")

    async def listed() -> int:
        return sum([len(page.tags) async for page in there.preflight.hub.pages(GAME, LOGIN)])

    assert there.run(listed()) == 251
    assert other.calls == []
    own = there.url.removeprefix("http://")
    assert {call.host for call in hub.calls} == {own}


def test_a_login_server_that_redirects_is_not_followed(
    hub: DockerHubSandbox, there: Looking, other: DockerHubSandbox, elsewhere: str
) -> None:
    headers = {"location": f"{elsewhere}/token"}
    hub.misbehave(Fault("status", path_contains="/token", status=307, headers=headers))

    assert out(there).startswith("the login server responded HTTP 307")
    assert other.calls == []


def test_a_cdn_on_another_host_gets_no_authorization(hub: DockerHubSandbox, there: Looking) -> None:
    with serving(hub.app) as cdn:
        hub.redirect_blobs_to, hub.cdn_hops = cdn, 1
        assert isinstance(there.look(login=LOGIN), ImageOk)

    host = cdn.removeprefix("http://")
    at_cdn = there.calls(lambda call: call.host == host)
    assert [call.authorization for call in at_cdn] == [None, None]
    assert all(call.path.startswith("/cdn/") for call in at_cdn)
    blob = there.calls(lambda call: "/blobs/" in call.path)[0]
    assert (blob.authorization or "").startswith("Bearer ")


def test_a_redirect_to_the_registry_itself_gets_no_authorization_either(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.redirect_blobs_to = there.url

    assert isinstance(there.look(login=LOGIN), ImageOk)
    at_cdn = there.calls(lambda call: call.path.startswith("/cdn/"))
    assert [call.authorization for call in at_cdn] == [None]


@pytest.mark.parametrize("hops", [2, None], ids=["one too many", "a loop"])
def test_more_than_two_redirects_are_not_followed(
    hub: DockerHubSandbox, there: Looking, hops: int | None
) -> None:
    hub.redirect_blobs_to, hub.cdn_hops = there.url, hops

    assert out(there) == "the registry redirects more than 2 times"
    assert len(there.calls(lambda call: call.path.startswith("/cdn/"))) == 2


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/blob",
        "http://[::1",
        "https://",
        "javascript:alert(1)",
        "http://somebody:secret@{host}/cdn/x",
        "https://127.0.0.1:999999/",
    ],
)
def test_a_redirect_to_an_invalid_url_is_survived_and_named(
    hub: DockerHubSandbox, there: Looking, location: str
) -> None:
    hub.blob_location = location.format(host=there.url.removeprefix("http://"))

    assert re.search("redirects to|the connection broke", out(there))
    assert not there.calls(lambda call: call.path.startswith("/cdn/"))


def behind_https(locations: dict[str, str], asked: list[httpx.Request], image: Image) -> Registry:
    """A registry that speaks https, and the targets of its blobs' redirects."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        url = str(request.url)
        if url in locations:
            return httpx.Response(307, headers={"location": locations[url]}, stream=Parts([]))
        content = {**image.blobs, **{k: v.body for k, v in image.manifests.items()}}
        return httpx.Response(200, stream=Parts([content[url.rpartition("/")[2]]]))

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Registry(http, "https://registry.example", "https://auth.example/token")


@pytest.mark.parametrize(
    ("to", "followed"),
    [("https://cdn.example", True), ("http://cdn.example", False), ("//cdn.example", True)],
)
def test_from_https_a_blob_may_not_be_fetched_in_clear(to: str, *, followed: bool) -> None:
    image = build_image("manifest", ["linux/amd64"])
    config = json.loads(image.top.body)["config"]["digest"]
    asked: list[httpx.Request] = []
    start = f"https://registry.example/v2/{GAME}/blobs/{config}"
    registry = behind_https({start: f"{to}/{config}"}, asked, image)

    async def look() -> Platforms:
        return await registry.platforms(GAME, image.top.digest, None)

    if followed:
        assert asyncio.run(look()) == Platforms(("linux/amd64",))
        assert str(asked[-1].url) == f"https://cdn.example/{config}"
    else:
        with pytest.raises(DockerHubUnavailable, match="redirects to a URL that is not https"):
            asyncio.run(look())
        assert {one.url.host for one in asked} == {"registry.example"}
