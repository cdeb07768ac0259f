"""`receiver init`: asks the few things needed and writes what `check` and `serve` then take."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from receiver.config.dotenv import parse_dotenv
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.signing import LinkSigner
from tests.support.commands import NOWHERE, OURS
from tests.support.dockerhub import hub_beside
from tests.support.receiver_process import APP, REPOSITORY, ReceiverProcess, until, webhook_body

URL = "https://hooks.example.com"
FLAGS = ("--repository", REPOSITORY, "--app", APP, "--public-url", URL)
TOKENS = {
    "EDGEGAP_TOKEN": "sandbox-token",
    "DOCKERHUB_USERNAME": "builder",
    "DOCKERHUB_TOKEN": "dckr_pat_1",
}


class Beginner:
    """A newcomer in an empty folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def init(self, *arguments: str, typed: str = "", **environment: str) -> Result:
        """Run `receiver init`, typing what it asks for."""
        unset = dict.fromkeys(name for name in os.environ if name.startswith(OURS))
        given = {**unset, **self.environment, **environment}
        with chdir(self.folder):
            return CliRunner().invoke(
                main, ["init", *arguments], input=typed, env=given, catch_exceptions=False
            )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command in the folder: what it needs must stand in the files."""
        return subprocess.run(
            [sys.executable, "-m", "receiver", *arguments],
            cwd=self.folder,
            env=self.inherited(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def inherited(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return {**others, **self.environment}

    def variables(self) -> Mapping[str, str]:
        return parse_dotenv((self.folder / ".env").read_text("utf-8")).values

    def written(self) -> dict[str, str]:
        return {path.name: path.read_text("utf-8") for path in self.folder.iterdir()}


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_repository(REPOSITORY, private=True)
    hub.add_login("builder", "dckr_pat_1", namespaces=["studio"])
    return hub


@pytest.fixture
def beginner(tmp_path: Path, edgegap: str, hub: DockerHubSandbox) -> Iterator[Beginner]:
    folder = tmp_path / "new"
    folder.mkdir()
    with hub_beside(hub) as variables:
        yield Beginner(folder, {"EDGEGAP_BASE_URL": edgegap, **variables})


def test_with_flags_and_variables_it_asks_nothing(beginner: Beginner) -> None:
    done = beginner.init(*FLAGS, **TOKENS)

    assert done.exit_code == 0, done.output
    assert set(beginner.written()) == {"receiver.toml", "receiver.schema.json", ".env"}


def test_it_asks_for_what_is_not_given_and_lists_the_apps(beginner: Beginner) -> None:
    typed = [REPOSITORY, URL, "sandbox-token", APP, "builder", "dckr_pat_1"]

    done = beginner.init(typed="\n".join(typed) + "\n")

    assert done.exit_code == 0, done.output
    assert "my-game, lobby" in done.output
    assert "sandbox-token" not in done.output
    assert "dckr_pat_1" not in done.output
    assert "DOCKERHUB_TOKEN=dckr_pat_1" in beginner.written()[".env"]


def test_the_only_app_is_taken_by_return(beginner: Beginner, sandbox: EdgegapSandbox) -> None:
    """It asked again, without a word."""
    for app in {*sandbox.apps} - {APP}:
        del sandbox.apps[app]
    typed = [REPOSITORY, URL, "sandbox-token", "", "", ""]

    done = beginner.init(typed="\n".join(typed) + "\n")

    assert done.exit_code == 0, done.output
    assert f'app = "{APP}"' in beginner.written()["receiver.toml"]


def test_for_public_images_no_login_is_needed(beginner: Beginner, hub: DockerHubSandbox) -> None:
    done = beginner.init(*FLAGS, typed="\n", EDGEGAP_TOKEN="sandbox-token")

    assert done.exit_code == 0, done.output
    assert not {"DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN"} & {*beginner.variables()}
    assert hub.calls == []


def test_the_files_are_for_their_owner_alone(beginner: Beginner) -> None:
    beginner.init(*FLAGS, **TOKENS)

    for path in beginner.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_time_the_key_is_another(beginner: Beginner) -> None:
    beginner.init(*FLAGS, "--folder", "one", **TOKENS)
    beginner.init(*FLAGS, "--folder", "two", **TOKENS)

    one, two = ((beginner.folder / name / ".env").read_text() for name in ("one", "two"))
    assert one != two


@pytest.mark.parametrize("name", ["receiver.toml", ".env"])
def test_it_never_overwrites(beginner: Beginner, name: str) -> None:
    (beginner.folder / name).write_text("mine")

    done = beginner.init(*FLAGS, **TOKENS)

    assert done.exit_code == 1
    assert f"{name} already exists" in done.stderr
    assert beginner.written() == {name: "mine"}


def test_a_dangling_symbolic_link_is_not_written_through(beginner: Beginner) -> None:
    (beginner.folder / ".env").symlink_to(beginner.folder.parent / "elsewhere")

    done = beginner.init(*FLAGS, **TOKENS)

    assert done.exit_code == 1
    assert not (beginner.folder.parent / "elsewhere").exists()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"EDGEGAP_TOKEN": "wrong"}, "Edgegap does not accept the token"),
        ({"EDGEGAP_TOKEN": "no\u2014ascii"}, "(U+2014)"),
        ({"EDGEGAP_BASE_URL": NOWHERE}, "Edgegap could not be reached: no connection"),
        ({"DOCKERHUB_TOKEN": "wrong"}, "Docker Hub does not accept the login"),
        ({"DOCKERHUB_API_URL": NOWHERE}, "Docker Hub could not be reached: no connection"),
    ],
)
def test_a_token_that_is_not_accepted_ends_it_before_anything_is_written(
    beginner: Beginner, environment: dict[str, str], words: str
) -> None:
    done = beginner.init(*FLAGS, **{**TOKENS, **environment})

    assert done.exit_code != 0
    assert words in done.stderr
    assert beginner.written() == {}


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--repository", "NoRepository"), 2, "write group/project"),
        (("--app", "no-such-app"), 1, "it has my-game, lobby"),
        (("--public-url", "hooks.example.com"), 2, "https://hooks.example.com"),
        (("--repository", "studio/other"), 1, "builder cannot see studio/other on Docker Hub"),
    ],
)
def test_invalid_flags_are_refused_with_a_message(
    beginner: Beginner, flags: tuple[str, str], code: int, words: str
) -> None:
    done = beginner.init(*FLAGS, *flags, **TOKENS)

    assert done.exit_code == code
    assert words in done.stderr
    assert beginner.written() == {}


def test_a_token_that_may_not_read_the_private_repository_is_refused(
    beginner: Beginner, hub: DockerHubSandbox
) -> None:
    hub.add_login("builder", "dckr_pat_public", "public-read", namespaces=["studio"])

    done = beginner.init(*FLAGS, **{**TOKENS, "DOCKERHUB_TOKEN": "dckr_pat_public"})

    assert done.exit_code == 1
    assert "private repositories" in done.stderr


def test_the_word_token_that_edgegaps_dashboard_copies_along_is_left_out(
    beginner: Beginner,
) -> None:
    done = beginner.init(*FLAGS, **{**TOKENS, "EDGEGAP_TOKEN": " token sandbox-token\n"})

    assert done.exit_code == 0, done.output
    assert "EDGEGAP_TOKEN=sandbox-token\n" in beginner.written()[".env"]


def test_an_app_may_have_any_name(beginner: Beginner, sandbox: EdgegapSandbox) -> None:
    sandbox.add_app('my "own" \\ game')

    beginner.init(*FLAGS, "--app", 'my "own" \\ game', **TOKENS)

    assert 'my "own" \\ game' in beginner.run("check").stdout


def test_it_ends_with_the_link_that_the_command_link_prints_too(beginner: Beginner) -> None:
    done = beginner.init(*FLAGS, **TOKENS)

    link = beginner.run("link", REPOSITORY).stdout.strip()
    assert link.startswith(f"{URL}/hooks/dockerhub/")
    assert link in done.stdout
    assert "Webhooks" in done.stdout
    assert "receiver doctor" in done.stdout
    key = next(
        line.partition("=")[2]
        for line in beginner.written()[".env"].splitlines()
        if line.startswith("RECEIVER_SECRET_KEY=")
    )
    assert LinkSigner([key], {}).repository(link.rpartition("/")[2]) == REPOSITORY


def test_a_link_too_long_for_docker_hub_is_reported(beginner: Beginner) -> None:
    done = beginner.init(*FLAGS, "--public-url", f"{URL}{'.x' * 90}", **TOKENS)

    assert done.exit_code == 0
    assert "Docker Hub takes 255" in done.stderr


def test_what_it_wrote_passes_check_and_serves_a_push(
    beginner: Beginner, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    sandbox.add_version(APP, "0.9")
    hub.push_image(REPOSITORY, "1.0.0")
    beginner.init(*FLAGS, **TOKENS)

    checked = beginner.run("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr

    link = beginner.run("link", REPOSITORY).stdout.strip()
    config = beginner.written()["receiver.toml"]
    receiver = ReceiverProcess(beginner.folder, "", config=config)
    receiver.environment = {**beginner.inherited(), "PORT": "0"}
    receiver.start()
    try:
        answer = httpx.post(
            link.replace(URL, receiver.url), json=webhook_body("1.0.0"), trust_env=False
        )
        assert answer.status_code == 202
        until(lambda: (APP, "1.0.0") in sandbox.versions)
    finally:
        receiver.stop()
    assert sandbox.versions[APP, "1.0.0"]["private_token"] == "dckr_pat_1"


def test_what_is_set_already_goes_before_what_stands_in_the_file(beginner: Beginner) -> None:
    beginner.init(*FLAGS, **TOKENS)
    before = beginner.run("link", REPOSITORY).stdout
    beginner.environment["RECEIVER_SECRET_KEY"] = "another-key-0123456789-0123456789"

    assert beginner.run("link", REPOSITORY).stdout != before


def test_beside_a_ledger_it_makes_no_new_key(beginner: Beginner) -> None:
    """Each link that was pasted into Docker Hub would end."""
    (beginner.folder / "receiver.db").touch()

    refused = beginner.init(*FLAGS, **TOKENS)
    done = beginner.init(*FLAGS, **TOKENS, RECEIVER_SECRET_KEY="the-key-of-before-0123456789")

    assert refused.exit_code == 1
    assert "set RECEIVER_SECRET_KEY to that key" in refused.stderr
    assert done.exit_code == 0, done.output
    assert beginner.variables()["RECEIVER_SECRET_KEY"] == "the-key-of-before-0123456789"


def test_beside_a_ledger_elsewhere_it_makes_no_new_key(beginner: Beginner) -> None:
    ledger = beginner.folder.parent / "elsewhere.db"
    ledger.touch()

    refused = beginner.init(*FLAGS, **TOKENS, DATABASE_URL=f"sqlite:///{ledger}")

    assert refused.exit_code == 1
    assert f"{ledger} already exists" in refused.stderr
    assert beginner.written() == {}


SHARED = "postgresql://receiver:password@db.example/receiver"


def test_with_a_database_that_may_have_links_it_advises_to_look_for_the_key(
    beginner: Beginner,
) -> None:
    done = beginner.init(*FLAGS, **TOKENS, DATABASE_URL=SHARED)

    assert done.exit_code == 0, done.output
    assert "DATABASE_URL names a PostgreSQL: if it has a ledger, another key" in done.stderr
    assert "Look first for the key that made the existing links" in done.stderr
    assert len(beginner.variables()["RECEIVER_SECRET_KEY"]) == 43


@pytest.mark.parametrize("key", ["", "the-key-of-before-0123456789,the-key-before-that-012345"])
def test_with_a_database_that_may_have_links_it_asks_for_the_key(
    beginner: Beginner, key: str
) -> None:
    typed = f"{key}\n{REPOSITORY}\n{URL}\n"

    done = beginner.init("--app", APP, typed=typed, **TOKENS, DATABASE_URL=SHARED)

    assert "Secret key of that ledger" in done.output
    assert done.exit_code == 0, done.output
    written = beginner.variables()["RECEIVER_SECRET_KEY"]
    assert written == key if key else len(written) == 43
    link = next(line.strip() for line in done.stdout.splitlines() if "/hooks/" in line)
    signer = LinkSigner([written.partition(",")[0]], {})
    assert signer.repository(link.rpartition("/")[2]) == REPOSITORY


def test_an_old_key_that_cannot_be_one_is_refused_at_once(beginner: Beginner) -> None:
    done = beginner.init("--app", APP, typed="short\n", **TOKENS, DATABASE_URL=SHARED)

    assert done.exit_code == 3
    assert "shorter than 16 characters" in done.stderr
    assert beginner.written() == {}


@pytest.mark.parametrize(
    "written",
    [
        f"docker.io/{REPOSITORY}",
        f"{REPOSITORY}:1.5.0",
        f"https://hub.docker.com/r/{REPOSITORY}/",
        f"HTTPS://Hub.Docker.com/r/{REPOSITORY}",
        f" registry-1.docker.io/{REPOSITORY} ",
    ],
)
def test_a_repository_may_be_pasted_as_docker_shows_it(beginner: Beginner, written: str) -> None:
    done = beginner.init("--repository", written, *FLAGS[2:], **TOKENS)

    assert done.exit_code == 0, done.output
    assert f'repository = "{REPOSITORY}" ' in beginner.written()["receiver.toml"]


def test_a_secret_with_any_characters_reads_back(beginner: Beginner, hub: DockerHubSandbox) -> None:
    password = 'it\'s #1 \\ "$x"'.replace(" ", "_")
    hub.add_login("builder", password, namespaces=["studio"])

    done = beginner.init(*FLAGS, **{**TOKENS, "DOCKERHUB_TOKEN": password})

    assert done.exit_code == 0, done.output
    assert beginner.variables()["DOCKERHUB_TOKEN"] == password


@pytest.mark.parametrize("name", ["EDGEGAP_BASE_URL", "DOCKERHUB_API_URL"])
def test_no_token_is_tried_over_plain_http_to_another_machine(
    beginner: Beginner, name: str
) -> None:
    done = beginner.init(*FLAGS, **TOKENS, **{name: "http://192.0.2.1"})

    assert done.exit_code == 3
    assert f"{name}: it is plain http" in done.stderr
    assert beginner.written() == {}


def test_a_slip_of_the_finger_is_asked_for_again(beginner: Beginner) -> None:
    """Each ended the whole dialogue, and nothing of it was kept."""
    typed = [
        *("http://bad", REPOSITORY, "hooks.example.com", URL, "mistyped", "sandbox-token", APP),
        *("builder", "mistyped", "dckr_pat_1"),
    ]

    done = beginner.init(typed="\n".join(typed) + "\n")

    assert done.exit_code == 0, done.output
    assert "EDGEGAP_TOKEN=sandbox-token" in beginner.written()[".env"]
    assert "DOCKERHUB_TOKEN=dckr_pat_1" in beginner.written()[".env"]
    assert "mistyped" not in done.output


def test_the_page_is_on_and_what_was_asked_is_asked_later(beginner: Beginner) -> None:
    done = beginner.init(*FLAGS, **TOKENS)

    variables = beginner.variables()
    assert len(variables["RECEIVER_ADMIN_PASSWORD"]) >= 16
    assert variables["RECEIVER_ADMIN_PASSWORD"] not in done.output
    assert f"The admin page: {URL}/" in done.output
    assert variables["EDGEGAP_BASE_URL"] == beginner.environment["EDGEGAP_BASE_URL"]


def test_where_nobody_answers_it_says_how_else_to_answer(beginner: Beginner) -> None:
    """It said "Aborted!"."""
    done = beginner.init(typed="")

    assert done.exit_code == 1
    assert "pass every answer as an option" in done.output
    assert beginner.written() == {}
