"""SIGHUP: the configuration is read again, whole, or the one before is kept and it is said why."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.faults import Fault
from tests.conftest import StartReceiver
from tests.running import APP, REPOSITORY, RULE, ReceiverProcess, until, webhook_body


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

    told = _reload(receiver, RULE + other)
    answer = receiver.post(body, repository="studio/lobby")

    assert told["rules"] == 2
    assert answer.status_code == 202
    assert receiver.ended(answer.json()["delivery"])["outcome"] == "created"
    assert ("lobby", "1.0") in sandbox.versions


def test_a_rule_taken_out_takes_effect(receiver: ReceiverProcess) -> None:
    _reload(receiver, RULE.replace(REPOSITORY, "studio/lobby"))

    assert receiver.post(webhook_body("1.0")).json()["reason"] == "no_rule"


def test_faults_keep_the_configuration_before_and_all_are_told(receiver: ReceiverProcess) -> None:
    faulty = RULE.replace(f'app = "{APP}"', "colour = 1").replace("1024", "-1")

    told = _reload(receiver, faulty, "config_refused")

    assert told["level"] == "error"
    assert told["kept"] == "the configuration before"
    faults = " ".join(told["faults"])
    for place in ("rule 1, app", "rule 1, colour", "settings.req_cpu"):
        assert place in faults
    assert receiver.ended(receiver.push("1.0.0"))["outcome"] == "created"


def test_a_refused_reload_is_told_until_one_is_taken(receiver: ReceiverProcess) -> None:
    """One log line was all that told of it: the old configuration went on, unseen."""
    _reload(receiver, RULE.replace("preflight", "colour = 1\nprefight"), "config_refused")

    told = _api(receiver, "/api/overview")["degraded"][0]
    assert told["code"] == "configuration"
    assert "colour: there is no such key" in told["message"]
    assert "(and 1 more)" in told["message"]
    assert told["since_at"] is not None
    until(lambda: any("receiver check" in one for one in _api(receiver, "/readyz")["degraded"]))

    _reload(receiver, RULE)

    left = _api(receiver, "/api/overview")["degraded"]
    assert "configuration" not in [one["code"] for one in left]


def _api(receiver: ReceiverProcess, path: str) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    return httpx.get(f"{receiver.url}{path}", headers=headers, trust_env=False).json()


def test_a_file_that_is_not_toml_or_gone_keeps_the_configuration_before(
    receiver: ReceiverProcess,
) -> None:
    told = _reload(receiver, "[[rule]\n", "config_refused")
    receiver.config.unlink()
    receiver.config.mkdir()  # whatever it is, it cannot be read
    before = len(_lines(receiver))
    assert receiver.process is not None
    os.kill(receiver.process.pid, signal.SIGHUP)

    until(lambda: any(line["event"] == "config_refused" for line in _lines(receiver)[before:]))
    assert "it is not TOML" in told["faults"][0]
    assert receiver.post(webhook_body("1.0.0")).status_code == 202


def test_a_raised_number_revokes_the_links_so_far(receiver: ReceiverProcess) -> None:
    assert receiver.post(webhook_body("1.0.0")).status_code == 202

    _reload(receiver, f'{RULE}\n[links]\n"{REPOSITORY}" = 2\n')

    revoked = receiver.post(webhook_body("1.0.1"))
    assert revoked.status_code == 404
    assert revoked.json() == {"error": "not found"}
    _reload(receiver, RULE)
    assert receiver.post(webhook_body("1.0.1")).status_code == 202


def test_what_the_configuration_mended_goes_on_by_itself(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    receiver = start(config=RULE.split("[rule.settings]")[0])
    identity = receiver.push("1.0.0")
    assert receiver.ended(identity)["reason"] == "no_settings"

    _reload(receiver, RULE)

    until(lambda: receiver.ended(identity)["outcome"] == "created")
    assert (APP, "1.0.0") in sandbox.versions


def test_what_no_configuration_can_mend_stays_parked(
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
        found = {one["app"]: one for one in receiver.story(identity)["registrations"]}
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
    until(lambda: receiver.story(identity)["registrations"][0]["state"] == "waiting")
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


def test_what_needs_a_restart_is_said(start: StartReceiver, tmp_path: Path) -> None:
    file = tmp_path / "concurrency"
    file.write_text("4", "utf-8")
    receiver = start(environment={"EDGEGAP_CONCURRENCY_FILE": str(file)})
    file.write_text("2", "utf-8")

    assert _reload(receiver, RULE)["needs_a_restart"] == ["concurrency"]
