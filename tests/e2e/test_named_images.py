"""What `--to` names, if two repositories of an app have the same tag: the right image, or none."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands, commands_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, until
from tests.support.visitor import PAGE, visitor

OTHER = "studio/other"
BOTH = 'preflight = false\nchannels = ["live"]'
NAMED = BOTH.replace("channels", 'version = "b-{tag}"\nchannels')
PLAIN = RULE.replace("preflight = false", "preflight = false\n")
TEMPLATE = RULE.replace(REPOSITORY, OTHER).replace("preflight = false", NAMED)


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    config = f"{PLAIN}\n{TEMPLATE}\n{NO_CATCH_UP}"
    with receiver_here(tmp_path, edgegap, config=config, environment=PAGE) as one:
        one.environment["PORT"] = one.url.rpartition(":")[2]
        yield one


@pytest.fixture
def commands(here: ReceiverHere) -> Commands:
    return commands_beside(here)


def moved_by_both(here: ReceiverHere) -> None:
    """From now on both repositories move the channel."""
    both = RULE.replace("preflight = false", BOTH)
    here.config.write_text(f"{both}\n{TEMPLATE}\n{NO_CATCH_UP}", "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults


def pushed(here: ReceiverHere, *tags: str) -> None:
    """Push these tags to both repositories, the other one last."""
    for tag in tags:
        here.ended(here.push(tag))
        here.ended(here.push_to(OTHER, tag))


def has(sandbox: EdgegapSandbox) -> str:
    found = sandbox.versions.get((APP, "live"), {})
    return f"{found.get('docker_image')}:{found.get('docker_tag')}"


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_name_is_of_an_image_that_the_channel_can_get(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox, command: str
) -> None:
    """It was refused: the version 1.0 is of a repository that does not move the channel."""
    pushed(here, "1.0", "1.1")
    assert has(sandbox) == f"{OTHER}:1.1"

    done = commands.json_of(command, APP, "live", "--to", "1.0", "--json")

    here.ended(done["delivery"])
    assert has(sandbox) == f"{OTHER}:1.0"


def test_a_name_of_two_images_moves_nothing_and_says_how_to_name_each(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    """The channel got the image of the version, although the tag of the other was meant."""
    moved_by_both(here)
    pushed(here, "1.0", "1.1")

    for command in ("promote", "rollback"):
        refused = commands.run(command, APP, "live", "--to", "1.0")
        assert refused.exit_code == 1, refused.output
        assert f"--to {REPOSITORY}:1.0 or --to {OTHER}:1.0" in refused.stderr
    assert has(sandbox) == f"{OTHER}:1.1"
    for image in (f"{REPOSITORY}:1.0", f"docker.io/{OTHER}:1.0"):
        done = commands.json_of("promote", APP, "live", "--to", image, "--json")
        here.ended(done["delivery"])
        assert has(sandbox) == image.removeprefix("docker.io/")
    unknown = commands.run("promote", APP, "live", "--to", f"{OTHER}:9.9")
    assert f"knows no version {OTHER}:9.9 of the app my-game" in unknown.stderr


def test_the_page_moves_a_channel_to_the_very_image_that_it_shows(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    """The previous image was shown, and another one with the same tag was promoted."""
    moved_by_both(here)
    here.ended(here.push("1.1"))
    pushed(here, "1.2")
    here.ended(commands.json_of("promote", APP, "live", "--to", "1.1", "--json")["delivery"])
    assert has(sandbox) == f"{REPOSITORY}:1.1"
    with visitor(here) as person:
        until(lambda: f"before that {OTHER}:1.2" in person.read("/channels").text)
        form = person.read("/channels").form("/do/move", channel="live")

        person.confirm("/do/move", {**form, "to": ""})

        until(lambda: has(sandbox) in {f"{REPOSITORY}:1.2", f"{OTHER}:1.2"})
        assert has(sandbox) == f"{OTHER}:1.2"
        until(lambda: f"before that {REPOSITORY}:1.1" in person.read("/channels").text)
        person.confirm("/do/move", {**form, "to": f"{REPOSITORY}:1.2"})
        until(lambda: has(sandbox) == f"{REPOSITORY}:1.2")


def test_the_api_refuses_a_name_of_two_images(here: ReceiverHere) -> None:
    moved_by_both(here)
    pushed(here, "1.0", "1.1")
    headers = {"Authorization": f"Bearer {here.api_token()}"}
    asked = {"app": APP, "channel": "live", "to": "1.0"}
    with httpx.Client(base_url=here.url, headers=headers, trust_env=False) as api:
        answers = [
            api.get("/api/promotion", params=asked),
            api.post("/api/promote", json=asked),
            api.post("/api/rollback", json=asked),
        ]
    assert {one.status_code for one in answers} == {409}
    assert {one.json()["code"] for one in answers} == {"channel_not_changed"}
