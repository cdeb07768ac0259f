"""SIGHUP: the configuration is read again, whole, or the one before is kept and it is said why."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.config.dotenv import dotenv_line
from receiver.config.settings import NAMES, Settings, after_reload, setting_hashes
from receiver.edgegap.client import RateLimiter
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.secret import Secret
from tests.conftest import StartReceiver
from tests.support.receiver_process import (
    APP,
    KEY,
    NO_CATCH_UP,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    until,
    webhook_body,
)
from tests.support.visitor import PAGE, Visitor


def _reload(receiver: ReceiverProcess, config: str, event: str = "config_reloaded") -> Any:
    """Write another configuration, send SIGHUP, and return what the log says of it."""
    before = len(_lines(receiver))
    receiver.config.write_text(config, "utf-8")
    assert receiver.process is not None
    os.kill(receiver.process.pid, signal.SIGHUP)

    def look() -> dict[str, Any] | None:
        new = _lines(receiver)[before:]
        return next((line for line in new if line["event"] == event), None)

    return until(look)


def _lines(receiver: ReceiverProcess) -> list[dict[str, Any]]:
    text = receiver.log.read_text("utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def test_a_new_rule_takes_effect(receiver: ReceiverProcess, sandbox: EdgegapSandbox) -> None:
    other = RULE.replace(REPOSITORY, "studio/lobby").replace(APP, "lobby")
    body = webhook_body("1.0", "studio/lobby")
    assert receiver.post(body, repository="studio/lobby").json()["reason"] == "no_rule"

    result = _reload(receiver, RULE + other)
    answer = receiver.post(body, repository="studio/lobby")

    assert result["rules"] == 2
    assert answer.status_code == 202
    assert receiver.ended(answer.json()["delivery"])["outcome"] == "created"
    assert ("lobby", "1.0") in sandbox.versions


def test_a_rule_taken_out_takes_effect(receiver: ReceiverProcess) -> None:
    _reload(receiver, RULE.replace(REPOSITORY, "studio/lobby"))

    assert receiver.post(webhook_body("1.0")).json()["reason"] == "no_rule"


def test_faults_keep_the_configuration_before_and_all_are_logged(receiver: ReceiverProcess) -> None:
    faulty = RULE.replace(f'app = "{APP}"', "colour = 1").replace("1024", "-1")

    answer = _reload(receiver, faulty, "config_refused")

    assert answer["level"] == "error"
    assert answer["kept"] == "the configuration before"
    faults = " ".join(answer["faults"])
    for place in ("rule 1, app", "rule 1, colour", "settings.req_cpu"):
        assert place in faults
    assert receiver.ended(receiver.push("1.0.0"))["outcome"] == "created"


def test_a_refused_reload_is_reported_until_one_succeeds(start: StartReceiver) -> None:
    """Only one log line reported it: the old configuration stayed in use, unseen."""
    receiver = start(config=RULE + NO_CATCH_UP)
    _reload(receiver, RULE.replace("preflight", "colour = 1\nprefight"), "config_refused")

    answer = _api(receiver, "/api/overview")["degraded"][0]
    assert answer["code"] == "configuration"
    assert "colour: there is no such key" in answer["message"]
    assert "(and 1 more)" in answer["message"]
    assert answer["since_at"] is not None
    until(lambda: any("receiver check" in one for one in _api(receiver, "/readyz")["degraded"]))

    _reload(receiver, RULE + NO_CATCH_UP)

    left = _api(receiver, "/api/overview")["degraded"]
    assert "configuration" not in [one["code"] for one in left]


def _api(receiver: ReceiverProcess, path: str) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    return httpx.get(f"{receiver.url}{path}", headers=headers, trust_env=False).json()


def test_a_file_that_is_not_toml_or_gone_keeps_the_configuration_before(
    receiver: ReceiverProcess,
) -> None:
    answer = _reload(receiver, "[[rule]\n", "config_refused")
    receiver.config.unlink()
    receiver.config.mkdir()  # whatever it is, it cannot be read
    before = len(_lines(receiver))
    assert receiver.process is not None
    os.kill(receiver.process.pid, signal.SIGHUP)

    until(lambda: any(line["event"] == "config_refused" for line in _lines(receiver)[before:]))
    assert "it is not TOML" in answer["faults"][0]
    assert receiver.post(webhook_body("1.0.0")).status_code == 202


def test_a_raised_number_revokes_the_links_so_far(receiver: ReceiverProcess) -> None:
    assert receiver.post(webhook_body("1.0.0")).status_code == 202

    _reload(receiver, f'{RULE}\n[links]\n"{REPOSITORY}" = 2\n')

    revoked = receiver.post(webhook_body("1.0.1"))
    assert revoked.status_code == 404
    assert revoked.json()["code"] == "not_found"
    _reload(receiver, RULE)
    assert receiver.post(webhook_body("1.0.1")).status_code == 202


def test_a_registration_that_the_configuration_fixed_goes_on_by_itself(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    receiver = start(config=RULE.split("[rule.settings]")[0])
    identity = receiver.push("1.0.0")
    assert receiver.ended(identity)["reason"] == "no_settings"

    _reload(receiver, RULE)

    until(lambda: receiver.ended(identity)["outcome"] == "created")
    assert (APP, "1.0.0") in sandbox.versions


def test_a_registration_that_no_configuration_can_fix_stays_parked(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "1.0.0", docker_tag="other")
    identity = receiver.push("1.0.0")
    assert receiver.ended(identity)["reason"] == "name_taken"
    sandbox.versions.clear()

    _reload(receiver, RULE + "\n")

    assert receiver.ended(identity)["reason"] == "name_taken"
    assert sandbox.versions == {}


def test_a_rule_that_now_names_another_app_supersedes_what_is_open(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", method="POST", status=400, message="No such thing"))
    identity = receiver.push("1.0.0")
    assert receiver.ended(identity)["state"] == "parked"

    named = RULE.replace("app =", f'name = "{REPOSITORY} → {APP}"\napp =')
    _reload(receiver, named.replace(f'app = "{APP}"', 'app = "lobby"'))

    def both() -> dict[str, Any] | None:
        found = {one["app"]: one for one in receiver.details(identity)["registrations"]}
        ended = {one["outcome"] for one in found.values()}
        return found if len(found) == 2 and None not in ended else None

    found = until(both)
    assert found is not None
    assert found[APP]["outcome"] == "superseded"
    assert found[APP]["sentence"]
    assert found["lobby"]["outcome"] == "created"
    assert (APP, "1.0.0") not in sandbox.versions


def test_what_waits_follows_a_rule_that_now_names_another_app(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", method="POST", status=424, message="not there", times=None))
    identity = receiver.push("1.0.0")
    until(lambda: receiver.details(identity)["registrations"][0]["state"] == "waiting")
    sandbox.behave()

    _reload(receiver, RULE.replace(f'app = "{APP}"', 'app = "lobby"'))

    until(lambda: ("lobby", "1.0.0") in sandbox.versions)
    assert receiver.ended(identity)["outcome"] == "superseded"


def test_a_secret_in_a_file_is_read_again(
    start: StartReceiver, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("sandbox-token\n", "utf-8")
    receiver = start(environment={"EDGEGAP_TOKEN": "", "EDGEGAP_TOKEN_FILE": str(file)})
    sandbox.token = "another-token"
    file.write_text("token another-token\n", "utf-8")

    _reload(receiver, RULE)

    assert receiver.ended(receiver.push("1.0.0"))["outcome"] == "created"
    assert {call.authorization for call in sandbox.calls} == {"token another-token"}


FIXED = {
    "PORT": "7",
    "HOST": "127.0.0.2",
    "DATABASE_URL": "sqlite:///other.db",
    "FORWARDED_ALLOW_IPS": "10.0.0.0/8",
    "DOCKERHUB_REGISTRY_URL": "http://127.0.0.1:7",
    "DOCKERHUB_AUTH_URL": "http://127.0.0.1:7/token",
    "DOCKERHUB_API_URL": "http://127.0.0.1:7",
    "HTTPS_PROXY": "http://127.0.0.1:7",
}


class WithDotenv(ReceiverProcess):
    """A receiver that has of its own environment only what no test changes."""

    def __init__(self, folder: Path, edgegap_url: str, **values: str) -> None:
        super().__init__(folder, edgegap_url)
        self.values = {"EDGEGAP_TOKEN": "sandbox-token", **values}
        for name in [*self.values, *FIXED, "RECEIVER_PUBLIC_URL"]:
            self.environment.pop(name, None)
        self.write()

    def write(self) -> None:
        lines = [dotenv_line(name, value) for name, value in self.values.items()]
        (self.folder / ".env").write_text("".join(lines), "utf-8")

    def change(self, event: str = "config_reloaded", /, **values: str | None) -> Any:
        """Write another `.env`, send SIGHUP, and return what the log says of it."""
        self.values = {k: v for k, v in {**self.values, **values}.items() if v is not None}
        self.write()
        return _reload(self, RULE, event)


@pytest.fixture
def changing(edgegap: str, tmp_path: Path) -> Iterator[Callable[..., WithDotenv]]:
    begun: list[WithDotenv] = []

    def begin(**values: str) -> WithDotenv:
        begun.append(WithDotenv(tmp_path, edgegap, **{"PORT": "0", **values}))
        begun[0].start()
        return begun[0]

    yield begin
    for receiver in begun:
        receiver.stop()


def test_a_token_in_dotenv_is_read_again(
    changing: Callable[..., WithDotenv], sandbox: EdgegapSandbox
) -> None:
    receiver = changing()
    sandbox.token = "another-token"

    logged = receiver.change(EDGEGAP_TOKEN="token another-token")

    assert logged["needs_a_restart"] == []
    assert receiver.ended(receiver.push("1.0.0"))["outcome"] == "created"


def test_a_password_in_dotenv_is_read_again_and_the_sessions_of_the_old_one_end(
    changing: Callable[..., WithDotenv],
) -> None:
    """The old one stayed valid."""
    receiver = changing(**PAGE)
    with Visitor(receiver) as person:
        person.sign_in()
        assert person.get("/").status_code == 200

        receiver.change(RECEIVER_ADMIN_PASSWORD="another password of theirs")

        assert person.get("/").status_code == 303
        assert person.sign_in().status_code == 403
        assert person.sign_in("another password of theirs").status_code == 303

        receiver.change(RECEIVER_ADMIN_PASSWORD=None)

        assert person.get("/").status_code == 404  # what is no longer in the file is not set


def test_a_key_in_dotenv_is_read_again(changing: Callable[..., WithDotenv]) -> None:
    receiver = changing()
    del receiver.environment["RECEIVER_SECRET_KEY"]
    receiver.stop()
    receiver.values["RECEIVER_SECRET_KEY"] = KEY
    receiver.write()
    receiver.start()

    receiver.change(RECEIVER_SECRET_KEY="another-key-entirely-0123456789-abc")

    assert receiver.post(webhook_body("1.0.0")).status_code == 404


def test_what_needs_a_restart_is_named_each_time_and_nothing_else(
    changing: Callable[..., WithDotenv],
) -> None:
    """Concurrency was named and half of it was in force; a second reload named nothing at all."""
    receiver = changing()
    at_once = {"EDGEGAP_CONCURRENCY": "2", "EDGEGAP_REQUESTS_PER_SECOND": "400"}

    first = receiver.change(**FIXED, **at_once, RECEIVER_PUBLIC_URL="https://new.example.com")
    second = receiver.change(EDGEGAP_CONCURRENCY="3")

    assert sorted(first["needs_a_restart"]) == sorted(FIXED)
    assert sorted(second["needs_a_restart"]) == sorted(FIXED)
    assert receiver.ended(receiver.push("1.0.0"))["outcome"] == "created"

    as_before: dict[str, str | None] = {**dict.fromkeys(FIXED), "PORT": "0"}

    assert receiver.change(**as_before)["needs_a_restart"] == []


ELSEWHERE = "http://127.1:9"  # another machine, by its name
LOGIN = {"DOCKERHUB_USERNAME": "studio", "DOCKERHUB_TOKEN": "pull-only"}
OVER_PLAIN_HTTP = dict.fromkeys(["DOCKERHUB_REGISTRY_URL", "DOCKERHUB_AUTH_URL"], ELSEWHERE)
OVER_TLS = dict.fromkeys(OVER_PLAIN_HTTP, "https://registry.example.com")
VALID = (
    "receiver: the configuration is valid, but unsafe with settings that need a restart, "
    "so the one before stays in force:\n"
)
ALLOWED = {"RECEIVER_ALLOW_PLAIN_HTTP": "true"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OVER_PLAIN_HTTP, {**OVER_TLS, **LOGIN}),
        ({**OVER_PLAIN_HTTP, **LOGIN, **ALLOWED}, {**OVER_TLS, "RECEIVER_ALLOW_PLAIN_HTTP": ""}),
    ],
)
def test_no_reload_sends_a_login_to_the_plain_http_url_that_stays_in_force(
    changing: Callable[..., WithDotenv], before: dict[str, str], after: dict[str, str]
) -> None:
    """The new login and the old URLs were in force together: the token went unencrypted."""
    receiver = changing(**before)

    refused = receiver.change("config_refused", **after, EDGEGAP_CONCURRENCY="2")

    assert [fault.partition(":")[0] for fault in refused["faults"]] == [*OVER_PLAIN_HTTP]
    assert "until a restart it is plain http" in refused["faults"][0]
    assert "Restart the receiver" in refused["faults"][0]
    done = receiver.run("reload")
    assert done.returncode == 3
    assert done.stderr.startswith(VALID)
    degraded = _api(receiver, "/readyz")["degraded"]
    [shown] = [one for one in degraded if "Reload failed" in one]
    assert "Restart the receiver" in shown
    assert "receiver check" not in shown
    receiver.change(**{**dict.fromkeys(LOGIN, ""), **after, **ALLOWED})


def test_what_the_command_line_says_needs_no_restart(
    edgegap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = WithDotenv(tmp_path, edgegap)
    receiver.start("--port", "0", "--host", "127.0.0.1")
    try:
        assert receiver.change(PORT="7")["needs_a_restart"] == []
    finally:
        receiver.stop()


def test_a_dotenv_that_cannot_be_read_keeps_the_configuration_before(
    changing: Callable[..., WithDotenv],
) -> None:
    receiver = changing(**PAGE)
    (receiver.folder / ".env").unlink()
    (receiver.folder / ".env").mkdir()

    logged = _reload(receiver, RULE, "config_refused")

    assert ".env: it is a directory, not a file" in logged["faults"][0]
    with Visitor(receiver) as person:
        assert person.sign_in().status_code == 303


def test_what_check_warns_of_is_logged_at_the_start_and_after_a_reload(
    changing: Callable[..., WithDotenv],
) -> None:
    receiver = changing(EDGEGAP_TOKN="x")
    sentence = "EDGEGAP_TOKN is not a variable of the receiver; did you mean EDGEGAP_TOKEN?"
    assert sentence in _warnings(receiver)

    receiver.change(EDGEGAP_TOKN=None, DOCKERHUB_PASSWORD="x")

    until(lambda: any("DOCKERHUB_PASSWORD" in one for one in _warnings(receiver)))


def _warnings(receiver: ReceiverProcess) -> list[str]:
    lines = _lines(receiver)
    return [line["sentence"] for line in lines if line["event"] == "config_warning"]


def test_the_settings_in_force_after_a_reload_are_the_read_ones_but_for_what_is_fixed() -> None:
    running = Settings(port=1, concurrency=1, keep=1)

    in_force, differ = after_reload(running, Settings(port=2, concurrency=2, keep=2))

    assert in_force == Settings(port=1, concurrency=2, keep=2)
    assert differ == ("PORT",)


def test_each_setting_has_the_name_by_which_it_is_written() -> None:
    """`doctor` and the log name by it what is not in force."""
    assert {field.name for field in fields(Settings)} - set(NAMES) == {"warnings"}
    assert set(setting_hashes(Settings())) == set(NAMES.values())


def test_a_mark_changes_with_its_setting_alone_and_says_nothing_without_the_key() -> None:
    key = (Secret("a-secret-key-of-the-test"),)
    one, other = Settings(secret_keys=key), Settings(secret_keys=key, port=1)
    another_key = Settings(secret_keys=(Secret("another-secret-key"),))

    differ = {
        name for name, mark in setting_hashes(one).items() if setting_hashes(other)[name] != mark
    }

    assert differ == {"PORT"}
    assert not set(setting_hashes(one).values()) & set(setting_hashes(another_key).values())


def test_a_changed_pace_takes_over_with_what_was_called_so_far() -> None:
    async def scenario() -> tuple[int, int]:
        old = RateLimiter(1000, 1)
        async with old:  # a call under way holds its own place only
            new = old.changed(1000, 2)
            async with new, new:
                third = asyncio.create_task(new.__aenter__())
                done, waiting = await asyncio.wait([third], timeout=0.05)
                third.cancel()
                return len(done), len(waiting)

    assert asyncio.run(scenario()) == (0, 1)
