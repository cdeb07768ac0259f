"""`receiver reload`: what a SIGHUP does, with an answer."""

import httpx

from tests.support.commands import Commands, commands_beside
from tests.support.receiver_process import REPOSITORY, RULE, ReceiverProcess, webhook_body

LOBBY = RULE.replace(REPOSITORY, "studio/lobby").replace('"my-game"', '"lobby"')


def test_a_new_rule_is_in_force_when_the_command_ends(receiver: ReceiverProcess) -> None:
    receiver.config.write_text(RULE + LOBBY, "utf-8")

    done = receiver.run("reload")

    assert (done.returncode, done.stdout, done.stderr) == (0, "Reloaded: 2 rules.\n", "")
    answer = receiver.post(webhook_body("1.0", "studio/lobby"), repository="studio/lobby")
    assert answer.status_code == 202
    assert '"source":"command"' in receiver.log.read_text("utf-8").replace(" ", "")


def test_what_needs_a_restart_is_named(receiver: ReceiverProcess) -> None:
    (receiver.folder / ".env").write_text("FORWARDED_ALLOW_IPS=10.0.0.1\nEDGEGAP_CONCURENCY=2\n")
    beside = commands_beside(receiver)

    done = beside.run("reload")

    assert done.exit_code == 0, done.stderr
    assert done.stdout == (
        "Reloaded: 1 rule.\nIn force only after a restart: FORWARDED_ALLOW_IPS.\n"
    )
    assert "warn  " in done.stderr
    assert "EDGEGAP_CONCURENCY" in done.stderr
    assert beside.json_of("reload", "--json")["needs_a_restart"] == ["FORWARDED_ALLOW_IPS"]


def test_all_faults_are_printed_and_the_configuration_before_stays(
    receiver: ReceiverProcess,
) -> None:
    receiver.config.write_text(RULE.replace("1024", "-1").replace("app =", "colour ="), "utf-8")

    done = commands_beside(receiver).run("reload")

    assert (done.exit_code, done.stdout) == (3, "")
    lines = done.stderr.splitlines()
    assert lines[0] == ("receiver: the configuration has faults, so the one before stays in force:")
    assert len(lines) >= 3
    assert "req_cpu" in done.stderr
    assert receiver.post(webhook_body("1.0")).status_code == 202


def test_a_token_for_one_repository_reloads_nothing(receiver: ReceiverProcess) -> None:
    token = receiver.run("api-token", "--repository", REPOSITORY).stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}

    answer = httpx.post(f"{receiver.url}/api/reload", headers=headers, trust_env=False)

    assert (answer.status_code, answer.json()["code"]) == (403, "token_limited")


def test_without_a_server_there_is_nothing_to_reload(commands: Commands) -> None:
    commands.push()

    done = commands.run("reload")

    assert done.exit_code == 1
    assert done.stderr == (
        "receiver: no server is running: it reads the configuration at its start\n"
    )
