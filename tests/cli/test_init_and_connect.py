"""`receiver init` explains, offers to create the webhook, and adds repositories later."""

import os
import stat
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import OURS
from tests.support.dockerhub import hub_beside
from tests.support.receiver_process import APP, REPOSITORY, ReceiverProcess, until

URL = "https://hooks.example.com"
TOKEN = "dckr_pat_of-an-administrator"
LOBBY = "studio/lobby"
ANSWERS = ("sandbox-token", APP, "")


class Newcomer:
    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def run(self, *arguments: str, typed: tuple[str, ...] = (), **environment: str) -> Result:
        unset = dict.fromkeys(name for name in os.environ if name.startswith(OURS))
        variables = {**unset, **self.environment, **environment}
        given = "".join(f"{line}\n" for line in typed)
        with chdir(self.folder):
            return CliRunner().invoke(
                main, arguments, input=given, env=variables, catch_exceptions=False
            )

    def init(self, *typed: str, url: str = URL) -> Result:
        return self.run("init", typed=(REPOSITORY, url, *ANSWERS, *typed))

    def config(self) -> str:
        return (self.folder / "receiver.toml").read_text("utf-8")


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_repository(REPOSITORY)
    hub.add_repository(LOBBY, private=True)
    hub.add_login("studio", TOKEN, "admin")
    hub.add_login("builder", "dckr_pat_1", namespaces=["studio"])
    return hub


@pytest.fixture
def newcomer(tmp_path: Path, edgegap: str, hub: DockerHubSandbox) -> Iterator[Newcomer]:
    folder = tmp_path / "new"
    folder.mkdir()
    with hub_beside(hub) as variables:
        yield Newcomer(folder, {"EDGEGAP_BASE_URL": edgegap, **variables})


def webhooks(hub: DockerHubSandbox, repository: str = REPOSITORY) -> list[str]:
    return [webhook.url for webhook in hub.repositories[repository].webhooks]


def test_each_question_is_explained_before_it_is_asked(newcomer: Newcomer) -> None:
    shown = newcomer.init("n").stdout

    positions = [
        shown.index(words)
        for words in (
            "For example: studio/game-server",
            "Docker Hub repository:",
            "For example: https://hooks.example.com",
            "Public URL of this receiver:",
            "app.edgegap.com/user-settings?tab=tokens",
            "Edgegap API token:",
            "The Edgegap app that gets the versions.",
            "Edgegap app (",
            "Only private repositories need one.",
            "Docker Hub username",
            "`receiver connect` creates it",
            "Create the webhook of studio/game-server now?",
        )
    ]
    assert positions == sorted(positions)


def test_what_is_given_is_neither_explained_nor_asked(newcomer: Newcomer) -> None:
    flags = ("--repository", REPOSITORY, "--public-url", URL, "--app", APP)

    newcomer.environment |= {"DOCKERHUB_USERNAME": "builder", "DOCKERHUB_TOKEN": "dckr_pat_1"}
    done = newcomer.run("init", *flags, EDGEGAP_TOKEN="sandbox-token")

    assert done.exit_code == 0, done.output
    assert "For example" not in done.stdout
    assert "now?" not in done.stdout


def test_a_link_is_not_to_be_pasted_if_the_webhook_may_be_created_next(
    newcomer: Newcomer,
) -> None:
    """A newcomer pasted it, then was asked whether to create the webhook: Docker Hub had two."""
    shown = newcomer.init("n").stdout

    before, _, after = shown.partition("Create the webhook")
    assert "/hooks/dockerhub/" in before
    assert "Paste this link" not in before
    assert after


def test_the_webhook_is_created_if_that_is_wanted(
    newcomer: Newcomer, hub: DockerHubSandbox
) -> None:
    done = newcomer.init("y", TOKEN)

    assert done.exit_code == 0, done.output
    assert webhooks(hub) == [newcomer.run("link", REPOSITORY).stdout.strip()]
    assert TOKEN not in done.output
    assert all(TOKEN not in path.read_text() for path in newcomer.folder.iterdir())


@pytest.mark.parametrize("typed", [("n",), (), ("y",), ("y", "dckr_pat_mistyped")])
def test_without_it_the_files_are_written_all_the_same(
    newcomer: Newcomer, hub: DockerHubSandbox, typed: tuple[str, ...]
) -> None:
    done = newcomer.init(*typed)

    assert done.exit_code == 0, done.output
    assert webhooks(hub) == []
    assert newcomer.run("check").exit_code == 0
    assert "Next: receiver doctor" in done.stdout


def test_the_file_says_what_else_it_may_contain(newcomer: Newcomer) -> None:
    newcomer.init("n")

    written = newcomer.config()
    assert "# where Docker Hub reaches this receiver" in written
    assert "then `receiver reload`" in written
    for key in ("tags", "version", "channels", "keep"):
        assert f"# {key} = " in written


def test_each_comment_is_valid_when_it_is_a_setting(newcomer: Newcomer) -> None:
    newcomer.init("n")
    lines = [
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line
        for line in newcomer.config().splitlines()
    ]
    (newcomer.folder / "receiver.toml").write_text("\n".join(lines))

    done = newcomer.run("check")

    assert done.exit_code == 0, done.output
    assert f"{APP}/staging" in done.stdout


def test_from_nothing_to_a_version_with_init_serve_and_a_push(
    newcomer: Newcomer, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "0.9")
    newcomer.init("n")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    receiver = ReceiverProcess(newcomer.folder, "", config=newcomer.config())
    receiver.environment = {**inherited, **newcomer.environment, "PORT": "0"}
    receiver.start()
    try:
        done = newcomer.run("connect", "--prove", typed=(TOKEN,), RECEIVER_PUBLIC_URL=receiver.url)
        assert done.exit_code == 0, done.output
        hub.push_image(REPOSITORY, "1.0.0")
        until(lambda: (APP, "1.0.0") in sandbox.versions)
        written = receiver.everything_written() + done.output
    finally:
        receiver.stop()
    assert TOKEN not in written
    assert webhooks(hub)[0].rpartition(".")[2] not in written


def add(newcomer: Newcomer, *typed: str, options: tuple[str, ...] = ()) -> Result:
    return newcomer.run("init", "--add", *options, typed=typed)


def test_a_repository_is_added_later(newcomer: Newcomer, hub: DockerHubSandbox) -> None:
    newcomer.init("n")
    file = newcomer.folder / "receiver.toml"
    file.write_text(f'{file.read_text()}\n[links]\n"{REPOSITORY}" = 2')
    before, mode = newcomer.config(), stat.S_IMODE(file.stat().st_mode)

    done = add(newcomer, f"docker.io/{LOBBY}:latest", "lobby", "y", TOKEN)

    assert done.exit_code == 0, done.output
    assert newcomer.config().startswith(before)
    assert stat.S_IMODE(file.stat().st_mode) == mode
    checked = newcomer.run("check").stdout
    assert f"rule  {LOBBY} → lobby  {LOBBY}  lobby/{{tag}}" in checked
    assert "receiver reload" in done.stdout
    assert "warn" not in done.output
    assert webhooks(hub, LOBBY) == [newcomer.run("link", LOBBY).stdout.strip()]
    names = {path.name for path in newcomer.folder.iterdir()}
    assert names == {"receiver.toml", "receiver.schema.json", ".env"}


def test_what_is_probably_not_meant_about_the_rule_is_shown_at_once(newcomer: Newcomer) -> None:
    newcomer.init("n", url="http://127.0.0.1:8000")

    done = add(newcomer, options=("--repository", LOBBY, "--app", APP))

    assert done.exit_code == 0, done.output
    assert f"create the same version of {APP} from two repositories" in done.stderr
    assert done.stderr.count("warn  ") == 1  # not that public_url is not https
    for line in done.stderr.splitlines():
        assert line in newcomer.run("check").stdout


def test_with_options_nothing_is_asked(newcomer: Newcomer) -> None:
    newcomer.init("n")

    done = add(newcomer, options=("--repository", LOBBY, "--app", "lobby"))

    assert done.exit_code == 0, done.output
    assert f"Next: receiver connect {LOBBY}" in done.stdout


def test_it_is_added_in_the_folder_that_is_named(newcomer: Newcomer) -> None:
    newcomer.init("n")
    folder = newcomer.folder
    newcomer.folder = folder.parent

    done = add(newcomer, options=("--repository", LOBBY, "--app", "lobby", "--folder", "new"))

    assert done.exit_code == 0, done.output
    assert LOBBY in (folder / "receiver.toml").read_text()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--repository", REPOSITORY, "--app", APP), 1, f"has a rule for {REPOSITORY} and {APP}"),
        (("--repository", "NoRepository", "--app", APP), 2, "write group/project"),
        (("--repository", LOBBY, "--app", "none"), 1, "Edgegap has no app none"),
    ],
)
def test_what_cannot_be_added_changes_nothing(
    newcomer: Newcomer, options: tuple[str, ...], code: int, words: str
) -> None:
    newcomer.init("n")
    before = newcomer.config()

    done = add(newcomer, options=options)

    assert done.exit_code == code
    assert words in done.stderr
    assert newcomer.config() == before


def test_a_login_that_does_not_see_the_repository_is_reported(newcomer: Newcomer) -> None:
    newcomer.run("init", typed=(REPOSITORY, URL, *ANSWERS[:2], "builder", "dckr_pat_1", "n"))

    done = add(newcomer, options=("--repository", "studio/none", "--app", APP))

    assert done.exit_code == 1
    assert "builder cannot see studio/none on Docker Hub" in done.stderr


def test_a_file_in_which_a_rule_cannot_be_appended_stays(newcomer: Newcomer) -> None:
    newcomer.init("n")
    text = f'rule = [{{ repository = "{REPOSITORY}", app = "{APP}" }}]\n'
    (newcomer.folder / "receiver.toml").write_text(text)

    done = add(newcomer, options=("--repository", LOBBY, "--app", "lobby"))

    assert done.exit_code == 3
    assert "Add it by hand:\n\n[[rule]]" in done.stderr
    assert newcomer.config() == text
    assert len(list(newcomer.folder.iterdir())) == 3


def test_add_without_a_file_is_refused(newcomer: Newcomer) -> None:
    done = add(newcomer, options=("--repository", LOBBY, "--app", "lobby"))

    assert done.exit_code == 3
    assert "there is no such file" in done.stderr


def test_a_configuration_in_a_variable_cannot_be_added_to(newcomer: Newcomer) -> None:
    done = newcomer.run("init", "--add", RECEIVER_CONFIG_TOML='public_url = "https://x.example"')

    assert done.exit_code == 1
    assert "add a [[rule]] to its text" in done.stderr
