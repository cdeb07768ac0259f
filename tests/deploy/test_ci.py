"""The last step of a pipeline: both files by their vendors' schemas, their script by curl."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.signing import ApiToken, ApiTokenSigner
from tests.conftest import StartReceiver
from tests.support.deploy import DEPLOY, ran, tool
from tests.support.receiver_process import KEY, REPOSITORY, RULE, ReceiverProcess

CI = DEPLOY / "ci"
FAR_AWAY = 4_000_000_000  # epoch seconds
HTTP_ERROR = 22  # of curl
LIMITED = ApiTokenSigner([KEY]).sign(ApiToken("cd" * 8, FAR_AWAY, REPOSITORY))
OF_ANOTHER = ApiTokenSigner([KEY]).sign(ApiToken("ef" * 8, FAR_AWAY, "studio/other"))


def read(name: str) -> Any:
    return yaml.safe_load((CI / name).read_text("utf-8"))


def github() -> tuple[str, str]:
    """The shell and the script of the action."""
    return "bash", read("action.yml")["runs"]["steps"][0]["run"]


def gitlab() -> tuple[str, str]:
    """The shell of the image, as far as this machine has one, and the script of the job."""
    return "sh", read("gitlab.yml")[".wait-for-edgegap"]["script"][0]


SCRIPTS = pytest.mark.parametrize("script", [github(), gitlab()], ids=["github", "gitlab"])


@pytest.mark.parametrize(
    ("name", "schema"),
    [("action.yml", "vendor.github-actions"), ("gitlab.yml", "vendor.gitlab-ci")],
)
def test_each_obeys_its_schema_and_a_broken_one_does_not(
    name: str, schema: str, tmp_path: Path
) -> None:
    checker = tool("check-jsonschema", "pip install check-jsonschema")
    # GitLab's schema allows anything in a hidden job.
    text = (CI / name).read_text("utf-8").replace("\n.wait-for-edgegap:", "\nwait-for-edgegap:")
    whole, broken = tmp_path / name, tmp_path / f"broken-{name}"
    whole.write_text(text, "utf-8")
    broken.write_text(text.replace("run: |", "runs: |").replace("script:", "scripts:"), "utf-8")

    checked = ran(checker, "--builtin-schema", schema, whole)
    assert checked.returncode == 0, checked.stdout
    assert ran(checker, "--builtin-schema", schema, broken).returncode == 1


def test_every_input_of_the_action_is_used() -> None:
    action = read("action.yml")
    step = action["runs"]["steps"][0]

    used = {value.removeprefix("${{ inputs.").removesuffix(" }}") for value in step["env"].values()}
    assert used == set(action["inputs"])
    assert all(f"${name}" in step["run"] for name in step["env"])
    assert "${{" not in step["run"]  # an expression would be run as part of the script


@pytest.fixture
def receiver(start: StartReceiver) -> ReceiverProcess:
    """One in whose repository a tag of the lobby parks."""
    lobby = f'[[rule]]\nrepository = "{REPOSITORY}"\napp = "lobby"\ntags = ["lobby-*"]\n'
    main = RULE.replace("preflight = false", 'preflight = false\ntags = ["1.*"]')
    return start(config=f"{main}\n{lobby}preflight = false\n")


def variables(receiver: ReceiverProcess, tag: str, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "RECEIVER_URL": receiver.url,
        "RECEIVER_API_TOKEN": LIMITED,
        "IMAGE": f"{REPOSITORY}:{tag}",
        "DIGEST": "",
        "MAX_SECONDS": "60",
        "NO_PROXY": "127.0.0.1",
        **more,
    }


def run(
    script: tuple[str, str], receiver: ReceiverProcess, tag: str, **more: str
) -> "subprocess.CompletedProcess[str]":
    tool("curl", "apt-get install curl")
    shell, text = script
    return subprocess.run(
        [shell, "-e", "-c", text],
        env=variables(receiver, tag, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@SCRIPTS
def test_it_ends_with_the_result(script: tuple[str, str], receiver: ReceiverProcess) -> None:
    receiver.push("1.0.0")
    receiver.push("lobby-1")

    done = run(script, receiver, "1.0.0")
    parked = run(script, receiver, "lobby-1")
    refused = run(script, receiver, "1.0.0", RECEIVER_API_TOKEN=OF_ANOTHER)
    wrong = run(script, receiver, "1.0.0", DIGEST="sha256:1")

    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["deliveries"][0]["registrations"][0]["outcome"] == "created"
    for ended, code in (
        (parked, "push_not_done"),
        (refused, "token_limited"),
        (wrong, "invalid_request"),
    ):
        assert ended.returncode == HTTP_ERROR
        assert json.loads(ended.stdout)["code"] == code
    assert LIMITED not in done.stdout + done.stderr + parked.stderr


@SCRIPTS
def test_it_asks_again_until_the_push_is_done(
    script: tuple[str, str], receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    tool("curl", "apt-get install curl")
    shell, text = script
    _pause(receiver, "pause")
    receiver.push("1.0.0")

    asking = subprocess.Popen(
        [shell, "-e", "-c", text.replace("wait=50", "wait=0")],
        env=variables(receiver, "1.0.0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert asking.stdout is not None
    first = os.read(asking.stdout.fileno(), 65536)
    _pause(receiver, "resume")
    rest, _ = asking.communicate(timeout=60)

    assert json.loads(first)["code"] == "still_waiting"
    assert asking.returncode == 0, rest
    assert ("my-game", "1.0.0") in sandbox.versions


def _pause(receiver: ReceiverProcess, what: str) -> None:
    httpx.post(
        f"{receiver.url}/api/{what}",
        json={"repository": REPOSITORY},
        headers={"Authorization": f"Bearer {receiver.api_token()}"},
        trust_env=False,
    ).raise_for_status()


def test_the_readmes_one_line_is_the_same_request(receiver: ReceiverProcess) -> None:
    tool("curl", "apt-get install curl")
    receiver.push("1.4.2")
    text = (CI / "README.md").read_text("utf-8")
    line = text.partition("```shell\ncurl ")[2].partition("```")[0]

    done = run(
        ("bash", f"curl -s {line}".replace("https://hooks.example.com", "$RECEIVER_URL")),
        receiver,
        "1.4.2",
    )

    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["deliveries"][0]["tag"] == "1.4.2"
