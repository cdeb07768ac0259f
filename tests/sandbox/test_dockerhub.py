"""The Docker Hub stand-in, over real HTTP: who gets which token, and what it opens."""

import base64
import json
from typing import Any

import httpx
import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from tests.support.dockerhub_client import GAME, MANIFESTS, Clock, ask_token, bearer

MANIFEST = f"{MANIFESTS}/1.0"


@pytest.fixture
def hub(clock: Clock) -> DockerHubSandbox:
    return DockerHubSandbox(clock=clock)


def claims(answer: httpx.Response) -> dict[str, Any]:
    middle = answer.json()["token"].split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return read


def granted(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [action for one in claims(answer)["access"] for action in one["actions"]]


# The auth server


def test_an_anonymous_token_says_what_it_is_good_for(
    hub: DockerHubSandbox, asking: httpx.Client, clock: Clock
) -> None:
    hub.push_image(GAME, "1.0")

    answer = ask_token(asking)

    result, said = answer.json(), claims(answer)
    assert result["token"] == result["access_token"]
    assert result["expires_in"] == 300
    assert (said["iss"], said["aud"], said["sub"]) == ("auth.docker.io", "registry.docker.io", "")
    assert (said["exp"] - said["iat"], said["iat"] - said["nbf"]) == (300, 300)
    assert said["access"] == [
        {
            "type": "repository",
            "name": GAME,
            "actions": ["pull"],
            "parameters": {"pull_limit": "100", "pull_limit_interval": "21600"},
        }
    ]


@pytest.mark.parametrize(
    "scope", ["repository:game-server:pull", "repository:studio/none:pull", "registry:catalog:*"]
)
def test_a_scope_that_nobody_may_have_gives_an_empty_token(
    hub: DockerHubSandbox, asking: httpx.Client, scope: str
) -> None:
    hub.push_image(GAME, "1.0")

    assert granted(ask_token(asking, scope=scope)) == []
    assert asking.get(MANIFEST, headers=bearer(asking, scope=scope)).status_code == 401


def test_a_wrong_login_is_refused(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.add_login("studio", "good")

    answers = [ask_token(asking, "studio", "bad"), ask_token(asking, "other", "good")]
    answers.append(asking.get("/token", headers={"authorization": "Basic studio:good"}))

    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert answers[0].json() == {"details": "incorrect username or password"}


@pytest.mark.parametrize(
    ("level", "private", "pull", "push"),
    [
        ("public-read", False, ["pull"], 401),
        ("public-read", True, [], 401),
        ("read", False, ["pull"], 401),
        ("read", True, ["pull"], 401),
        ("write", True, ["pull"], ["pull", "push"]),
    ],
)
def test_what_a_personal_token_may_do_and_that_it_is_never_reduced(
    hub: DockerHubSandbox,
    asking: httpx.Client,
    *,
    level: Any,
    private: bool,
    pull: list[str],
    push: Any,
) -> None:
    hub.add_repository(GAME, private=private)
    hub.add_login("studio", "pat", level)

    both = ask_token(asking, "studio", "pat", scope=f"repository:{GAME}:pull,push")

    assert granted(ask_token(asking, "studio", "pat")) == pull
    if push == 401:
        assert both.status_code == 401
        assert both.json() == {"details": "access token has insufficient scopes"}
    else:
        assert granted(both) == push


def test_an_organization_token_is_good_for_what_it_lists(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    hub.add_repository(GAME, private=True)
    hub.add_repository("studio/lobby", private=True)
    hub.add_organization_token("studio", "oat", {GAME: ["pull"]})
    push = f"repository:{GAME}:pull,push"

    assert granted(ask_token(asking, "studio", "oat")) == ["pull"]
    assert granted(ask_token(asking, "studio", "oat", scope="repository:studio/lobby:pull")) == []
    assert ask_token(asking, "somebody", "oat").status_code == 401
    assert ask_token(asking, "studio", "oat", scope=push).status_code == 401
    hub.organization_push = "reduced"
    assert granted(ask_token(asking, "studio", "oat", scope=push)) == ["pull"]


# The challenge, and how long a token holds


def test_the_challenge_says_where_to_go(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.push_image(GAME, "1.0")
    realm = f'Bearer realm="{asking.base_url}/token",service="registry.docker.io"'

    without = asking.head(MANIFEST)
    nonsense = asking.get(MANIFEST, headers={"authorization": "Bearer nonsense"})

    assert (without.status_code, without.content) == (401, b"")
    assert asking.get("/v2/").headers["www-authenticate"] == realm
    scope = f'{realm},scope="repository:{GAME}:pull"'
    assert without.headers["www-authenticate"] == scope
    assert nonsense.headers["www-authenticate"] == f'{scope},error="invalid_token"'
    assert nonsense.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert asking.get("/v2/", headers=bearer(asking)).status_code == 200
    hub.realm = "https://evil.example/token"
    assert 'realm="https://evil.example/token"' in asking.get(MANIFEST).headers["www-authenticate"]
    hub.challenge = "Basic"
    assert asking.get(MANIFEST).headers["www-authenticate"] == "Basic"
    hub.challenge = ""
    assert "www-authenticate" not in asking.get(MANIFEST).headers


def test_a_private_repository_gives_a_token_and_then_401(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    hub.push_image(GAME, "1.0")
    hub.add_repository(GAME, private=True)
    hub.add_login("studio", "pat", "read")
    hub.add_login("else", "pat", "write")

    for login in [(), ("else", "pat")]:
        refused = asking.get(MANIFEST, headers=bearer(asking, *login))
        assert refused.status_code == 401
        assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert asking.get(MANIFEST, headers=bearer(asking, "studio", "pat")).status_code == 200


@pytest.mark.parametrize(("expires_in", "holds"), [(300, 300), (None, 60)])
def test_a_token_grows_old(
    hub: DockerHubSandbox,
    asking: httpx.Client,
    clock: Clock,
    expires_in: int | None,
    holds: int,
) -> None:
    hub.push_image(GAME, "1.0")
    hub.expires_in = expires_in
    token = bearer(asking)
    assert ask_token(asking).json().get("expires_in") == expires_in

    clock.now += holds - 1
    assert asking.head(MANIFEST, headers=token).status_code == 200
    clock.now += 1
    assert asking.head(MANIFEST, headers=token).status_code == 401
    again = bearer(asking)
    hub.expire_tokens()
    assert asking.head(MANIFEST, headers=again).status_code == 401


def test_a_token_may_be_opaque_and_under_one_name(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    hub.push_image(GAME, "1.0")
    hub.opaque_tokens, hub.token_names = True, ("access_token",)

    answer = ask_token(asking).json()

    assert answer.keys() == {"access_token", "expires_in", "issued_at"}
    assert "." not in answer["access_token"]
    headers = {"authorization": f"bearer {answer['access_token']}"}
    assert asking.head(MANIFEST, headers=headers).status_code == 200


def test_a_redirect_or_nonsense_may_befall_the_login(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    elsewhere = {"location": "http://evil.example/token"}
    hub.misbehave(Fault("status", path_contains="/token", status=302, headers=elsewhere))
    hub.misbehave(Fault("garbage", path_contains="/token"))

    assert ask_token(asking, "studio", "pat").headers["location"] == "http://evil.example/token"
    assert ask_token(asking).text.startswith("<html>")
    assert [call.status for call in hub.calls] == [302, 200]
    sent = base64.b64encode(b"studio:pat").decode()
    assert [call.authorization for call in hub.calls] == [f"Basic {sent}", None]
    assert {call.host for call in hub.calls} == {f"127.0.0.1:{asking.base_url.port}"}
