"""Nothing an answer says decides where a credential goes, and no answer does harm."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from receiver.dockerhub.fetching import Unavailable
from receiver.dockerhub.manifest import DOCKER_MANIFEST, OCI_INDEX, Platforms
from receiver.dockerhub.registry import Found, Registry
from receiver.preflight import Cleared, Out, Stopped
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.dockerhub_images import Image, build_image
from receiver.sandbox.faults import Fault
from receiver.sandbox.serving import serving
from tests.looking_at_images import GAME, LOGIN, TOKEN, Looking, looking_at


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_login("studio-bot", TOKEN, namespaces=["studio"])
    hub.push_image(GAME, "1.0", kind="manifest")
    hub.alter_record(GAME, "1.0", images=None)  # so that manifest and config must be read
    return hub


@pytest.fixture
def there(hub: DockerHubSandbox) -> Iterator[Looking]:
    with looking_at(hub) as one:
        yield one


@pytest.fixture
def other() -> DockerHubSandbox:
    """Somebody else's server, which would take any credential."""
    return DockerHubSandbox()


@pytest.fixture
def elsewhere(other: DockerHubSandbox) -> Iterator[str]:
    with serving(other.app) as url:
        yield url


def out(there: Looking) -> str:
    found = there.look(login=LOGIN)
    assert isinstance(found, Out), found
    assert TOKEN not in found.detail
    return found.detail


def test_another_servers_realm_is_told_of_and_never_asked(
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

    assert out(there) == "the login server answered HTTP 307"
    assert other.calls == []


def test_a_cdn_on_another_host_gets_no_authorization(hub: DockerHubSandbox, there: Looking) -> None:
    with serving(hub.app) as cdn:
        hub.redirect_blobs_to, hub.cdn_hops = cdn, 1
        assert isinstance(there.look(login=LOGIN), Cleared)

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

    assert isinstance(there.look(login=LOGIN), Cleared)
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
        "http:///etc/passwd",
        "https://a b/",
        "https://\N{SNOWMAN}\N{SNOWMAN}.example:999999/",
    ],
)
def test_a_redirect_to_nowhere_sound_is_survived_and_named(
    hub: DockerHubSandbox, there: Looking, location: str
) -> None:
    hub.blob_location = location.format(host=there.url.removeprefix("http://"))
    before = len(hub.calls)

    assert any(word in out(there) for word in ("redirects", "connection"))
    assert len(hub.calls) > before
    assert not there.calls(lambda call: call.path.startswith("/cdn/"))


def behind_https(locations: dict[str, str], asked: list[httpx.Request], image: Image) -> Registry:
    """A registry that speaks https, and what its blobs' redirects lead to."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        url = str(request.url)
        if url in locations:
            return httpx.Response(307, headers={"location": locations[url]})
        content = {**image.blobs, **{k: v.body for k, v in image.manifests.items()}}
        return httpx.Response(200, content=content[url.rpartition("/")[2]])

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
        with pytest.raises(Unavailable, match="redirects to what is not https"):
            asyncio.run(look())
        assert {one.url.host for one in asked} == {"registry.example"}


def test_a_config_over_a_mebibyte_is_not_read(hub: DockerHubSandbox, there: Looking) -> None:
    hub.misbehave(Fault("huge", path_contains="/blobs/", size=2**20))

    assert out(there) == "the answer is over 1048576 bytes"


def test_a_mebibyte_is_the_limit_behind_a_redirect_too(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.redirect_blobs_to = there.url
    hub.misbehave(Fault("huge", path_contains="/cdn/", size=2**20))

    assert out(there) == "the answer is over 1048576 bytes"


def test_a_huge_manifest_is_not_read(hub: DockerHubSandbox, there: Looking) -> None:
    hub.push_image(GAME, "1.0", padding=4 * 2**20)

    assert out(there) == "the answer is over 4194304 bytes"


def test_what_does_not_match_its_digest_is_not_believed(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.tampered = True

    assert out(there) == "what the registry gave does not match its digest"


def test_a_digest_of_nothing_there_is_survived(hub: DockerHubSandbox, there: Looking) -> None:
    hub.content_digest = f"sha256:{'0' * 64}"

    assert out(there).startswith("the registry did not give manifests/sha256:")


@pytest.mark.parametrize("digest", ["", "sha256:short", f"md5:{'0' * 32}"])
def test_without_a_sound_digest_it_goes_on_and_says_so(
    hub: DockerHubSandbox, there: Looking, digest: str
) -> None:
    hub.content_digest = digest

    found = there.look(login=LOGIN)

    assert isinstance(found, Cleared)
    assert found.digest is None
    assert "no digest" in found.notes[0]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[" * 50_000,
        b'{"mediaType": ["x"], "config": {"mediaType": {}}',
        b'{"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "../.."}}',
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(
    hub: DockerHubSandbox, there: Looking, body: bytes
) -> None:
    hub.push_manifest(GAME, "1.0", body, OCI_INDEX)

    assert out(there).startswith("the registry's manifest cannot be read: ")


def test_a_platform_made_to_forge_a_line_is_none(hub: DockerHubSandbox, there: Looking) -> None:
    row = {"mediaType": DOCKER_MANIFEST, "platform": {"os": "\ud800\n", "architecture": "amd64"}}
    hub.push_manifest(GAME, "1.0", json.dumps({"manifests": [row]}).encode(), OCI_INDEX)

    found = there.look(login=LOGIN)

    assert isinstance(found, Stopped)
    assert found.parking.reason == "not_an_image"
    assert found.parking.sentence.isprintable()


@pytest.mark.parametrize("kind", ["reset", "hang_up", "truncated", "garbage"])
@pytest.mark.parametrize("where", ["/token", "/blobs/", "/manifests/sha256"])
def test_a_broken_answer_is_survived(
    hub: DockerHubSandbox, there: Looking, kind: Any, where: str
) -> None:
    hub.misbehave(Fault(kind, path_contains=where, times=None))

    assert out(there)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"token": ""},
        {"token": 7},
        {"token": "a b"},
        {"token": "a\r\nX-Forged: 1"},
        {"token": "tök"},
        [],
    ],
)
def test_what_is_no_token_is_not_sent_as_one(
    hub: DockerHubSandbox, there: Looking, told: Any
) -> None:
    hub.misbehave(Fault("garbage", path_contains="/token", body=json.dumps(told), times=None))

    assert out(there)
    assert there.told == [f"HEAD /v2/{GAME}/manifests/1.0", "GET /token"]


@pytest.mark.parametrize("life", ["-5", "0", "1e3", '"300"', "null", "true", "9" * 400])
def test_whatever_a_tokens_life_is_said_to_be(
    hub: DockerHubSandbox, there: Looking, life: str
) -> None:
    token = there.run(there.preflight.registry._token(GAME, LOGIN))
    body = f'{{"token": "{token}", "expires_in": {life}}}'
    hub.misbehave(Fault("garbage", path_contains="/token", body=body))

    found = there.run(there.preflight.registry.see(GAME, "1.0", None))

    assert isinstance(found, Found)


def test_a_login_that_is_told_back_to_us_is_masked(hub: DockerHubSandbox, there: Looking) -> None:
    told = json.dumps({"details": f"{'x' * 150} studio-bot:{TOKEN}", "message": TOKEN})
    hub.misbehave(Fault("status", path_contains="/token", status=401, body=told, times=None))

    found = there.look(login=LOGIN)

    assert isinstance(found, Stopped)
    assert "studio-bot:***" in found.parking.sentence
    assert TOKEN[:12] not in f"{found}"
    with pytest.raises(Unavailable, match=r"\*\*\*") as refused:
        there.run(there.preflight.hub.tag(GAME, "1.0", LOGIN))
    assert TOKEN[:12] not in str(refused.value)
