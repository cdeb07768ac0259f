"""`receiver connect`: the webhook on Docker Hub, with no token anywhere but in the call."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from click.testing import Result

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.dockerhub_account import Webhook
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.signing import LinkSigner
from tests.support.commands import NOWHERE, Commands, commands_in
from tests.support.dockerhub import hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, KEY, REPOSITORY, RULE, until, webhook_body

TOKEN = "dckr_pat_of-an-administrator"
URL = "https://hooks.example.com"
LOBBY = "studio/lobby"
PIPELINE = "webhook_pipeline"
CREATED = f'{REPOSITORY}: the webhook "edgegap-receiver" was created'


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_repository(REPOSITORY, private=True)
    hub.add_repository(LOBBY)
    hub.add_login("studio", TOKEN, "admin")
    return hub


@pytest.fixture
def commands(tmp_path: Path, hub: DockerHubSandbox) -> Iterator[Commands]:
    with hub_beside(hub) as variables:
        commands = commands_in(tmp_path)
        commands.environment.update(variables)
        yield commands


def link(number: int = 1, *, key: str = KEY, url: str = URL, repository: str = REPOSITORY) -> str:
    return LinkSigner([key], {repository: number}).link(url, repository)


def connect(
    commands: Commands, *arguments: str, token: str = TOKEN, **environment: str | None
) -> Result:
    """Run it with the token on standard input; no secret may be printed or written."""
    done = commands.run("connect", *arguments, given=f"{token}\n", **environment)
    everything = done.output + "".join(
        path.read_bytes().decode("utf-8", "replace")
        for path in commands.folder.rglob("*")
        if path.is_file() and path.suffix != ".log"
    )
    for secret in (token, "eyJ", link().rpartition(".")[2], KEY):
        assert not secret or secret not in everything
    return done


def webhooks(hub: DockerHubSandbox, repository: str = REPOSITORY) -> dict[str, str]:
    return {one.name: one.url for one in hub.repositories[repository].webhooks}


def add(hub: DockerHubSandbox, name: str, url: str) -> None:
    hub.repositories[REPOSITORY].webhooks.append(Webhook(name, url, slug=name, created_at=0))


def calls(hub: DockerHubSandbox) -> list[str]:
    return [call.method for call in hub.calls if PIPELINE in call.path]


def test_the_webhook_is_created_and_read_back(commands: Commands, hub: DockerHubSandbox) -> None:
    done = connect(commands)

    assert done.exit_code == 0, done.output
    assert f"{CREATED}, and is in Docker Hub's list." in done.stdout
    assert done.stdout.index("does not document") < done.stdout.index(CREATED)
    assert "Delete the access token" in done.stdout
    assert webhooks(hub) == {"edgegap-receiver": link()}
    assert calls(hub) == ["GET", "POST", "GET"]


def test_a_second_time_nothing_is_sent(commands: Commands, hub: DockerHubSandbox) -> None:
    connect(commands)
    hub.calls.clear()

    done = connect(commands)

    assert done.exit_code == 0
    assert 'the webhook "edgegap-receiver" exists already' in done.stdout
    assert calls(hub) == ["GET"]


def test_the_token_is_used_for_one_login_alone(commands: Commands, hub: DockerHubSandbox) -> None:
    connect(commands)

    with_token = [call.path for call in hub.calls if TOKEN in f"{call.body}{call.authorization}"]
    assert with_token == ["/v2/auth/token"]


def test_an_older_link_is_replaced_after_the_new_one_exists(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    add(hub, "ours", link(1))
    add(hub, "edgegap-receiver", link(2))
    add(hub, "ci", "https://ci.example.com/secret-of-ci")
    commands.configure(f'[links]\n"{REPOSITORY}" = 3\n{RULE}')

    done = connect(commands)

    assert done.exit_code == 0, done.output
    assert 'the webhook "ours", with an outdated link, was deleted' in done.stdout
    assert webhooks(hub) == {
        "ci": "https://ci.example.com/secret-of-ci",
        "edgegap-receiver-2": link(3),
    }
    assert calls(hub) == ["GET", "POST", "GET", "DELETE", "DELETE", "GET"]
    assert "secret-of-ci" not in done.output


def test_a_link_signed_with_an_older_key_is_replaced(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    old = "an-older-key-0123456789-0123456789"
    add(hub, "ours", link(key=old))

    done = connect(commands, RECEIVER_SECRET_KEY=f"{KEY},{old}")

    assert done.exit_code == 0, done.output
    assert list(webhooks(hub).values()) == [link()]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (link(url="https://old.example.com"), '"other" leads to another address'),
        (link(key="a-lost-key-0123456789-0123456789"), '"other" has a link that this receiver'),
        (link(), '"other" has the same link again'),
    ],
)
def test_a_webhook_that_may_be_needed_is_left_and_named(
    commands: Commands, hub: DockerHubSandbox, url: str, words: str
) -> None:
    connect(commands)
    add(hub, "other", url)

    done = connect(commands)

    assert done.exit_code == 0
    assert words in done.stdout
    assert webhooks(hub)["other"] == url


def test_without_a_slug_an_older_webhook_stays_to_be_deleted_by_hand(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.webhook_slugs = False
    add(hub, "ours", link(7))

    done = connect(commands)

    assert done.exit_code == 1
    assert CREATED in done.stdout
    assert 'the webhook "ours" has an outdated link: delete it on Docker Hub' in done.stderr


def test_a_refused_delete_is_shown(commands: Commands, hub: DockerHubSandbox) -> None:
    add(hub, "ours", link(7))
    hub.misbehave(Fault("status", method="DELETE", status=409, message="busy"))

    done = connect(commands)

    assert done.exit_code == 1
    assert "HTTP 409, application/json:\n" in done.stderr
    assert '{"message":"busy"}' in done.stderr
    assert set(webhooks(hub)) == {"ours", "edgegap-receiver"}


@pytest.mark.parametrize(
    ("method", "status"),
    [
        *(("GET", status) for status in (200, 401, 403, 404, 429, 500)),
        *(("POST", status) for status in (400, 403, 404, 418, 429, 503)),
    ],
)
def test_any_other_response_is_shown_as_it_is_with_the_steps_by_hand(
    commands: Commands, hub: DockerHubSandbox, method: str, status: int
) -> None:
    body = f'<p>Sorry: {TOKEN}\x1b[31m</p> <a href="{link()}">no</a>'
    hub.misbehave(Fault("status", method=method, path_contains=PIPELINE, status=status, body=body))

    done = connect(commands)

    assert done.exit_code == 1
    assert f"answers {method} /v2/repositories/{REPOSITORY}/{PIPELINE}/ with HTTP {status}" in (
        done.stderr
    )
    assert f"The response was HTTP {status}, text/html; charset=utf-8:" in done.stderr
    assert '<p>Sorry: ***[31m</p> <a href="https://hooks.example.com/***">no</a>' in done.stderr
    assert f"By hand: `receiver link {REPOSITORY}` prints the link." in done.stdout
    assert webhooks(hub) == {}
    assert calls(hub).count("POST") == (method == "POST")


def test_a_redirect_is_not_followed(commands: Commands, hub: DockerHubSandbox) -> None:
    headers = {"location": "/v2/elsewhere"}
    hub.misbehave(Fault("status", path_contains=PIPELINE, status=301, headers=headers))

    done = connect(commands)

    assert done.exit_code == 1
    assert "HTTP 301" in done.stderr
    assert calls(hub) == ["GET"]


@pytest.mark.parametrize("effective", [True, False])
def test_after_a_lost_response_the_list_decides(
    commands: Commands, hub: DockerHubSandbox, effective: bool
) -> None:
    hub.misbehave(Fault("hang_up", method="POST", path_contains=PIPELINE, after=effective))

    done = connect(commands)

    assert calls(hub) == ["GET", "POST", "GET"]
    assert done.exit_code == (not effective)
    assert (CREATED in done.stdout) == effective
    assert ("the connection broke" in done.stderr) == (not effective)


def test_a_webhook_that_is_not_in_the_list_is_not_connected(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.webhooks_lost = True

    done = connect(commands)

    assert done.exit_code == 1
    assert "its list does not contain it" in done.stderr
    assert "The response was HTTP 201, application/json:\n{" in done.stderr
    assert f"By hand: `receiver link {REPOSITORY}` prints the link." in done.stdout
    assert calls(hub) == ["GET", "POST", "GET"]


def test_all_pages_of_the_list_are_read(commands: Commands, hub: DockerHubSandbox) -> None:
    for number in range(150):
        add(hub, f"w{number}", f"https://ci.example.com/{number}")
    add(hub, "ours", link())

    done = connect(commands)

    assert done.exit_code == 0
    assert 'the webhook "ours" exists already' in done.stdout


def test_all_repositories_are_connected_or_those_that_are_named(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    commands.configure(RULE + RULE.replace(REPOSITORY, LOBBY))

    assert connect(commands, LOBBY).exit_code == 0
    assert (len(webhooks(hub)), len(webhooks(hub, LOBBY))) == (0, 1)
    assert connect(commands).exit_code == 0
    assert (len(webhooks(hub)), len(webhooks(hub, LOBBY))) == (1, 1)


def test_one_refused_repository_does_not_hold_up_the_next(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    commands.configure(RULE + RULE.replace(REPOSITORY, LOBBY))
    hub.misbehave(Fault("status", path_contains=PIPELINE, status=403))

    done = connect(commands)

    assert done.exit_code == 1
    assert (len(webhooks(hub)), len(webhooks(hub, LOBBY))) == (0, 1)


def test_a_refused_token_is_tried_once(commands: Commands, hub: DockerHubSandbox) -> None:
    """Docker Hub locks a user name after a few."""
    commands.configure(RULE + RULE.replace(REPOSITORY, LOBBY))

    done = connect(commands, "--immutable", "v.*", token="dckr_pat_mistyped")

    assert done.exit_code == 1
    assert "refuses the login: HTTP 401" in done.stderr
    assert [call.path for call in hub.calls] == ["/v2/auth/token"]
    assert f"By hand: `receiver link {LOBBY}`" in done.stdout


JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (Fault("status", status=403, body=f"<p>{TOKEN}</p>"), "HTTP 403, text/html"),
        (Fault("status", status=503, body="<p>***</p>"), "HTTP 503, text/html"),
        (Fault("status", status=503, message="busy"), 'HTTP 503, application/json:\n{"message"'),
        (Fault("status", status=429, message="slow"), 'HTTP 429, application/json:\n{"message"'),
        (Fault("status", status=401, message="no"), 'HTTP 401, application/json:\n{"message"'),
        (Fault("garbage", body=f'{{"token": "{JWT}"}}'), "HTTP 200, text/html"),
        (Fault("garbage", body='{"token": "0123456789abcdef0123"}'), '{"token": "***"}'),
        (Fault("garbage", body='{"access_token": "not\\u2014one"}'), '{"access_token": "***"}'),
        (Fault("garbage", body="<p>hello</p>"), "<p>hello</p>"),
    ],
)
def test_a_response_to_the_login_that_is_not_expected_is_shown_with_the_steps_by_hand(
    commands: Commands, hub: DockerHubSandbox, fault: Fault, shown: str
) -> None:
    commands.configure(RULE + RULE.replace(REPOSITORY, LOBBY))
    hub.misbehave(replace(fault, path_contains="/v2/auth/token", times=None))

    done = connect(commands, "--immutable", "v.*")

    assert done.exit_code == 1
    assert "nothing is connected: Docker Hub's API" in done.stderr
    assert "The response was HTTP " in done.stderr
    assert shown in done.stderr
    for repository in (REPOSITORY, LOBBY):
        assert f"By hand: `receiver link {repository}` prints the link." in done.stdout
        assert f"on Docker Hub, {repository} → Settings" in done.stderr
    assert [call.path for call in hub.calls] == ["/v2/auth/token"]


def test_a_token_without_the_right_is_reported_with_docker_hubs_words(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.add_login("studio", "dckr_pat_read_only", "read")

    done = connect(commands, token="dckr_pat_read_only")

    assert done.exit_code == 1
    assert "You do not have permission to perform this action." in done.stderr


def test_an_organizations_token_is_refused_with_docker_hubs_words(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.add_organization_token("studio", "dckr_oat_1", {REPOSITORY: ["pull", "admin"]})

    done = connect(commands, token="dckr_oat_1")

    assert done.exit_code == 1
    assert "token issued from organization access token is not allowed" in done.stderr


def test_the_user_name_is_the_logins_or_given(commands: Commands, hub: DockerHubSandbox) -> None:
    hub.add_login("anna", "dckr_pat_anna", "admin", namespaces=["studio"])
    login = {"DOCKERHUB_USERNAME": "anna", "DOCKERHUB_TOKEN": "dckr_pat_x"}

    assert connect(commands, token="dckr_pat_anna").exit_code == 1
    assert connect(commands, "--username", "anna", token="dckr_pat_anna").exit_code == 0
    assert connect(commands, token="dckr_pat_anna", **login).exit_code == 0


def test_without_a_token_the_steps_by_hand_are_printed(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    done = connect(commands, token="")

    assert done.exit_code == 1
    assert f"By hand: `receiver link {REPOSITORY}` prints the link." in done.stdout
    assert hub.calls == []


@pytest.mark.parametrize("arguments", [(), ("--prove",)])
def test_immutable_tags_need_a_token(
    commands: Commands, hub: DockerHubSandbox, arguments: tuple[str, ...]
) -> None:
    done = connect(commands, *arguments, "--immutable", "v.*", token="")

    assert done.exit_code == 1
    assert "no tags were made immutable: --immutable needs an access token" in done.stderr
    assert "Tag mutability settings" in done.stderr
    assert ("not proven" in done.stderr) == bool(arguments)
    assert "PATCH" not in [call.method for call in hub.calls]


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"RECEIVER_PUBLIC_URL": ""}, 3, "public_url"),
        ({"RECEIVER_PUBLIC_URL": f"{URL}{'.x' * 90}"}, 1, "Docker Hub takes 255"),
        ({"DOCKERHUB_API_URL": "http://192.0.2.1"}, 1, "is plain http to another machine"),
        ({"DOCKERHUB_API_URL": NOWHERE}, 1, "no connection"),
    ],
)
def test_an_unusable_configuration_is_reported_and_sends_nothing(
    commands: Commands,
    hub: DockerHubSandbox,
    environment: dict[str, str],
    code: int,
    words: str,
) -> None:
    done = connect(commands, **environment)

    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert hub.calls == []


def test_a_repository_of_no_rule_is_refused(commands: Commands, hub: DockerHubSandbox) -> None:
    done = connect(commands, LOBBY)

    assert done.exit_code == 2
    assert f"no rule names {LOBBY}; rules name: {REPOSITORY}" in done.stderr
    assert hub.calls == []


def test_a_token_with_strange_letters_is_refused_before_it_is_sent(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    done = commands.run("connect", given="dckr—pat\n")

    assert done.exit_code == 2
    assert "the access token: " in done.stderr
    assert hub.calls == []


def test_immutable_tags_are_added_to_those_there_are(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    repository = hub.repositories[REPOSITORY]
    repository.immutable, repository.immutable_rules = True, ("release-.*",)
    hub.push_image(REPOSITORY, "v1.0")
    hub.push_image(REPOSITORY, "latest")

    done = connect(commands, "--immutable", "v.*", "--immutable", "la.*")

    assert done.exit_code == 0, done.output
    assert "tags that match release-.* or v.* or la.* are immutable now" in done.stdout
    assert "v.* matches: v1.0" in done.stdout
    assert "latest is among them: a push cannot change it any more" in done.stdout
    assert list(repository.immutable_rules) == ["release-.*", "v.*", "la.*"]


def test_tags_that_are_immutable_already_stay_so(commands: Commands, hub: DockerHubSandbox) -> None:
    repository = hub.repositories[REPOSITORY]
    repository.immutable = True

    done = connect(commands, "--immutable", "v.*")

    assert done.exit_code == 0
    assert "tags with any name were immutable already" in done.stdout
    assert "v.* matches: no tag yet" in done.stdout
    assert "PATCH" not in [call.method for call in hub.calls]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("status", method="PATCH", status=400, message="not yet"), '{"message":"not yet"}'),
        (Fault("garbage", path_contains="verify", body="{}"), "The response was HTTP 200"),
        (Fault("garbage", method="PATCH", body="{}"), "returns other settings now"),
        (Fault("garbage", method="PATCH", body="{}"), "The response was HTTP 200, application"),
        (Fault("garbage", path_contains="/v2/namespaces/", body="{}"), "returns no settings"),
        (Fault("garbage", path_contains="/v2/namespaces/", body="{}"), "charset=utf-8:\n{}\n"),
        (Fault("hang_up", method="PATCH"), "the connection broke"),
    ],
)
def test_immutable_tags_that_are_not_set_are_reported(
    commands: Commands, hub: DockerHubSandbox, fault: Fault, words: str
) -> None:
    hub.misbehave(fault)

    done = connect(commands, "--immutable", "v.*")

    assert done.exit_code == 1
    assert words in done.stderr
    assert "Tag mutability settings" in done.stderr
    assert CREATED in done.stdout


def in_terminal(commands: Commands, *typed: bytes) -> str:
    """Run `connect` on a terminal, answer each question, and return what it showed."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "receiver", "connect"],
        cwd=commands.folder,
        env={**os.environ, **commands.environment},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    out = b""

    def asks() -> bool:
        nonlocal out
        if select.select([leader], [], [], 0.1)[0]:
            out += os.read(leader, 4096)
        return out.endswith(b": ")

    for answer in typed:
        until(asks)
        os.write(leader, answer + b"\n")
        out += b"\n"
    with suppress(OSError):  # the terminal is gone with the process
        while part := os.read(leader, 4096):
            out += part
    process.wait(60)
    os.close(leader)
    return out.decode()


def test_on_a_terminal_the_token_is_not_shown(commands: Commands, hub: DockerHubSandbox) -> None:
    shown = in_terminal(commands, TOKEN.encode(), b"")

    assert "[studio]" in shown
    assert CREATED in shown
    assert TOKEN not in shown
    assert webhooks(hub) == {"edgegap-receiver": link()}


HELD = """
import contextlib, gc, sys
from receiver.cli import main
needle = sys.argv.pop()[::-1]
with contextlib.suppress(SystemExit):
    main(["connect", "--immutable", "("], standalone_mode=False)
gc.collect()
holders = [
    type(holder)
    for holder in gc.get_objects()
    for text in gc.get_referents(holder)
    if isinstance(text, str | bytes) and text is not needle and needle in str(text)
]
print("held by", holders)
"""


def test_after_the_last_call_nothing_holds_the_token(commands: Commands) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD, TOKEN[::-1]],
        cwd=commands.folder,
        env={**os.environ, **commands.environment},
        input=f"{TOKEN}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert CREATED in done.stdout
    assert "invalid regex" in done.stderr  # a response that was masked
    assert done.stdout.endswith("held by []\n")


def test_only_the_line_of_the_token_is_read(commands: Commands, hub: DockerHubSandbox) -> None:
    """What follows it is not in a buffer of ours, so the token is not either."""
    read_end, write_end = os.pipe()
    os.write(write_end, f"{TOKEN}\r\nof another program\n".encode())
    os.close(write_end)

    done = subprocess.run(
        [sys.executable, "-m", "receiver", "connect"],
        cwd=commands.folder,
        env={**os.environ, **commands.environment},
        stdin=read_end,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert CREATED in done.stdout
    assert os.read(read_end, 4096) == b"of another program\n"
    os.close(read_end)


@pytest.mark.parametrize("given", [b"a1" * 2500, b"\xff\xfe\n", b""])
def test_standard_input_that_is_no_token_is_refused(
    commands: Commands, hub: DockerHubSandbox, given: bytes
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "connect"],
        cwd=commands.folder,
        env={**os.environ, **commands.environment},
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == (2 if given else 1), done.stderr
    assert b"Traceback" not in done.stderr
    assert hub.calls == []


@pytest.fixture
def receiver(
    tmp_path: Path, edgegap: str, hub: DockerHubSandbox
) -> Iterator[tuple[ReceiverHere, Commands]]:
    """A running receiver at its public URL, and commands beside it."""
    with (
        hub_beside(hub) as variables,
        receiver_here(tmp_path, edgegap, environment=variables) as running,
    ):
        commands = Commands(tmp_path, {**running.environment, "RECEIVER_PUBLIC_URL": running.url})
        yield running, commands


def prove(commands: Commands, **environment: str | None) -> Result:
    return connect(commands, "--prove", token="", **environment)


def test_a_test_push_reaches_this_receiver_and_registers_nothing(
    receiver: tuple[ReceiverHere, Commands], sandbox: EdgegapSandbox
) -> None:
    running, commands = receiver
    asked = len(sandbox.calls)

    done = prove(commands)

    assert done.exit_code == 0, done.output
    assert "By hand" not in done.stdout
    (row,) = commands.rows("deliveries", "--json")
    assert f"reached this receiver: delivery {row['id']}." in done.stdout
    assert (row["source"], row["verdict"], row["reason"]) == ("test", "ignored", "test_push")
    assert row["registrations"] == []
    replayed = commands.run("replay", row["id"], PORT=running.url.rpartition(":")[2])
    assert "ignored test_push" in replayed.stdout
    assert len(sandbox.calls) == asked
    assert running.details(row["id"])["registrations"] == []


def test_a_test_push_is_no_sign_that_docker_hubs_webhooks_arrive(
    receiver: tuple[ReceiverHere, Commands],
) -> None:
    running, commands = receiver

    prove(commands)

    assert last_use(running) is None
    running.post(webhook_body("1.0.0"))
    assert last_use(running) is not None


def last_use(running: ReceiverHere) -> object:
    headers = {"Authorization": f"Bearer {running.api_token()}"}
    answer = httpx.get(f"{running.url}/api/overview", headers=headers, trust_env=False)
    return next(
        one["last_use_at"]
        for one in answer.json()["repositories"]
        if one["repository"] == REPOSITORY
    )


def test_connect_and_prove_in_one(
    receiver: tuple[ReceiverHere, Commands], hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    running, commands = receiver
    commands.configure(RULE)

    done = connect(commands, "--prove")

    assert done.exit_code == 0, done.output
    assert CREATED in done.stdout
    assert "reached this receiver" in done.stdout
    hub.push_image(REPOSITORY, "1.0.0")
    until(lambda: (APP, "1.0.0") in sandbox.versions)
    assert running.url in hub.repositories[REPOSITORY].webhooks[0].url


def test_a_receiver_with_another_key_does_not_accept_it(
    receiver: tuple[ReceiverHere, Commands],
) -> None:
    _, commands = receiver

    done = prove(commands, RECEIVER_SECRET_KEY="another-key-0123456789-0123456789")

    assert done.exit_code == 1
    assert "it does not accept the link" in done.stderr


def test_a_receiver_with_the_same_key_and_another_ledger_is_another(
    receiver: tuple[ReceiverHere, Commands], tmp_path: Path, edgegap: str
) -> None:
    _, commands = receiver
    other = tmp_path / "other"
    other.mkdir()
    with receiver_here(other, edgegap) as elsewhere:
        done = prove(commands, RECEIVER_PUBLIC_URL=elsewhere.url)

    assert done.exit_code == 1
    assert "another receiver with the same key answers there" in done.stderr


def test_where_the_ledger_is_not_it_says_to_come_to_it(
    receiver: tuple[ReceiverHere, Commands], tmp_path: Path
) -> None:
    _, commands = receiver

    done = prove(commands, DATABASE_URL=f"sqlite:///{tmp_path / 'none.db'}")

    assert done.exit_code == 1
    assert "Run this command where the receiver runs" in done.stderr


def test_no_answer_at_the_public_url_is_reported(commands: Commands) -> None:
    done = prove(commands, RECEIVER_PUBLIC_URL=NOWHERE)

    assert done.exit_code == 1
    assert "nothing answers at the public URL http://127.0.0.1:9 from this machine" in done.stderr
    assert "receiver serve" in done.stderr


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("garbage"), "what answers at"),
        (Fault("status", status=404), "what answers at"),
        (Fault("status", status=302, headers={"location": "/x"}), "redirects (HTTP 302)"),
        (Fault("status", status=503), "did not accept the test (HTTP 503)"),
        (Fault("hang_up"), "nothing answers at"),
    ],
)
def test_another_server_at_the_public_url_is_reported(
    commands: Commands, hub: DockerHubSandbox, fault: Fault, words: str
) -> None:
    """The sandbox stands for any server."""
    hub.misbehave(fault)

    done = prove(commands, RECEIVER_PUBLIC_URL=commands.environment["DOCKERHUB_API_URL"])

    assert done.exit_code == 1
    assert words in done.stderr
