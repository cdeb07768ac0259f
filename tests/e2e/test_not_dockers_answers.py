"""What a proxy, a firewall or a CDN answers instead of Docker Hub is an outage, never a refusal."""

from collections.abc import AsyncIterator

import pytest

from receiver.dockerhub.api import HubForbidden, Page
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.images import Login
from receiver.pipeline.preflight import DockerHubOut, ImageOk, ImagePending
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from tests.support.images import GAME, LOGIN, TOKEN, Looking, cleared, out, stopped

HTML = "<html><h1>403 Forbidden</h1></html>"
REGISTRY = f"/v2/{GAME}/manifests/"


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_login("studio-bot", TOKEN, namespaces=["studio"])
    hub.push_image(GAME, "1.0")
    return hub


@pytest.mark.parametrize("login", [None, LOGIN], ids=["no login", "login"])
@pytest.mark.parametrize("status", [401, 403, 404, 407, 451])
@pytest.mark.parametrize("body", [HTML, "", '{"error": "blocked"}', "[]"])
def test_what_is_not_the_token_servers_own_error_is_an_outage(
    hub: DockerHubSandbox, there: Looking, login: Login | None, status: int, body: str
) -> None:
    """With no login set, a page of HTML parked the push: the login was said to be refused."""
    hub.misbehave(Fault("status", path_contains="/token", status=status, body=body))

    found = there.look(login=login)

    assert isinstance(found, DockerHubOut)
    assert f"HTTP {status}" in found.detail
    assert "refused" not in found.detail
    cleared(there.look(login=login))


def test_a_403_of_the_token_server_is_an_outage_whatever_it_says(
    hub: DockerHubSandbox, there: Looking
) -> None:
    body = '{"details": "access is blocked in your country"}'
    hub.misbehave(Fault("status", path_contains="/token", status=403, body=body))

    assert "access is blocked in your country" in out(there)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"details": "incorrect username or password"}', "incorrect username or password"),
        ('{"message": "no"}', "no"),
        ('{"errors": [{"code": "UNAUTHORIZED", "message": "log in"}]}', "log in"),
        ('{"errors": [{"code": "UNAUTHORIZED"}]}', "UNAUTHORIZED"),
        ('{"details": {}}', "HTTP 401"),
    ],
)
def test_a_401_of_the_token_servers_own_refuses_the_login(
    hub: DockerHubSandbox, there: Looking, body: str, detail: str
) -> None:
    hub.misbehave(Fault("status", path_contains="/token", status=401, body=body, times=None))

    reason, sentence = stopped(there.look(login=LOGIN))
    assert reason == "registry_login_refused"
    assert detail in sentence
    reason, sentence = stopped(there.look())
    assert reason == "registry_login_missing"
    assert detail in sentence


@pytest.mark.parametrize("login", [None, LOGIN], ids=["no login", "login"])
@pytest.mark.parametrize("body", ["", HTML])
@pytest.mark.parametrize("status", [400, 403, 407, 451])
def test_what_the_registry_does_not_answer_to_a_head_is_an_outage(
    hub: DockerHubSandbox, there: Looking, login: Login | None, status: int, body: str
) -> None:
    """A bare 403 parked a public image as private or missing."""
    hub.misbehave(Fault("status", path_contains=REGISTRY, status=status, body=body))

    found = there.look(login=login)

    assert isinstance(found, DockerHubOut)
    assert found.detail == (
        f"the registry responded HTTP {status}; a proxy or a firewall may have responded instead"
    )


@pytest.mark.parametrize("after_token", [False, True])
def test_a_401_without_the_registrys_challenge_is_an_outage(
    hub: DockerHubSandbox, there: Looking, *, after_token: bool
) -> None:
    if after_token:
        cleared(there.look(login=LOGIN))  # and the token is kept
        hub.calls.clear()
    fault = Fault("status", path_contains=REGISTRY, status=401, body=HTML, times=None)
    hub.misbehave(fault)

    assert "a proxy or a firewall" in out(there)
    assert not there.calls(lambda call: call.path == "/token")


def test_a_page_of_html_is_no_missing_tag(hub: DockerHubSandbox, there: Looking) -> None:
    fault = Fault("status", path_contains=REGISTRY, status=404, body=HTML)
    hub.misbehave(fault)

    assert out(there).startswith("the registry responded HTTP 404; ")
    assert isinstance(there.look("2.0", login=LOGIN), ImagePending)


def test_a_mirror_without_head_gives_no_digest(hub: DockerHubSandbox, there: Looking) -> None:
    hub.misbehave(Fault("status", method="HEAD", status=405, times=None))

    found = there.look(login=LOGIN)

    assert isinstance(found, ImageOk)
    assert found.digest is None


@pytest.mark.parametrize("where", ["/blobs/", "/manifests/sha256"])
def test_a_403_of_a_cdn_is_an_outage(hub: DockerHubSandbox, there: Looking, where: str) -> None:
    hub.push_image(GAME, "1.0", kind="manifest")
    hub.alter_record(GAME, "1.0", images=None)
    hub.misbehave(Fault("status", path_contains=where, status=403, body=HTML))

    assert "HTTP 403" in out(there)


async def listed(pages: AsyncIterator[Page]) -> int:
    return sum([len(page.tags) async for page in pages])


@pytest.mark.parametrize("path", ["/tags", "/v2/auth/token"])
@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("body", [HTML, "", "{}"])
def test_the_api_refuses_in_its_own_form_only(
    hub: DockerHubSandbox, there: Looking, path: str, status: int, body: str
) -> None:
    hub.misbehave(Fault("status", path_contains=path, status=status, body=body))

    with pytest.raises(DockerHubUnavailable, match="a proxy or a firewall") as raised:
        there.run(listed(there.preflight.hub.pages(GAME, LOGIN)))

    assert not isinstance(raised.value, HubForbidden)
    hub.misbehave(Fault("status", path_contains="/tags", status=status, times=2))
    with pytest.raises(HubForbidden, match="Something went wrong"):
        there.run(listed(there.preflight.hub.pages(GAME, LOGIN)))


def test_a_page_of_html_does_not_end_the_list_of_tags(
    hub: DockerHubSandbox, there: Looking
) -> None:
    """It was treated as the end, and the pushes on later pages as not missed."""
    for number in range(150):
        hub.push_image(GAME, f"1.0.{number}", build="x")

    async def list_and_break() -> None:
        async for _ in there.preflight.hub.pages(GAME, LOGIN):
            hub.misbehave(Fault("status", path_contains="/tags", status=404, body=HTML))

    with pytest.raises(DockerHubUnavailable, match="HTTP 404"):
        there.run(list_and_break())
    assert there.run(listed(there.preflight.hub.pages(GAME, LOGIN))) == 151


def test_a_page_of_html_does_not_decide_whether_a_repository_exists(
    hub: DockerHubSandbox, there: Looking
) -> None:
    api = there.preflight.hub
    assert there.run(api.sees(GAME, LOGIN)) is True
    assert there.run(api.sees("studio/none", LOGIN)) is False
    for status in (200, 403, 404):
        hub.misbehave(Fault("status", path_contains="/v2/namespaces", status=status, body=HTML))
        with pytest.raises(DockerHubUnavailable):
            there.run(api.sees(GAME, LOGIN))


@pytest.mark.parametrize("where", ["/token", "/manifests/sha256", "/blobs/"])
def test_a_compressed_bomb_is_not_unpacked(
    hub: DockerHubSandbox, there: Looking, where: str
) -> None:
    """1,142 bytes grew to 1.3 GB and stopped everything for seconds."""
    hub.push_image(GAME, "1.0", kind="manifest")
    hub.alter_record(GAME, "1.0", images=None)
    hub.misbehave(Fault("bomb", path_contains=where))

    assert out(there) == "the response is encoded, although it was requested unencoded"


@pytest.mark.parametrize("where", ["/v2/auth/token", "/tags"])
def test_a_compressed_bomb_of_the_api_is_not_unpacked(
    hub: DockerHubSandbox, there: Looking, where: str
) -> None:
    hub.misbehave(Fault("bomb", path_contains=where))

    with pytest.raises(DockerHubUnavailable, match="the response is encoded"):
        there.run(listed(there.preflight.hub.pages(GAME, LOGIN)))


@pytest.mark.parametrize(
    ("where", "most"), [("/token", 2**18), ("/v2/auth/token", 2**20), ("/tags", 2**23)]
)
def test_no_answer_is_read_past_its_limit(
    hub: DockerHubSandbox, there: Looking, where: str, most: int
) -> None:
    hub.misbehave(Fault("huge", path_contains=where, size=most))

    async def ask() -> object:
        if where == "/token":
            return await there.preflight.registry.logins.token(GAME, LOGIN)
        return await listed(there.preflight.hub.pages(GAME, LOGIN))

    with pytest.raises(DockerHubUnavailable, match=f"the response is over {most} bytes"):
        there.run(ask())
