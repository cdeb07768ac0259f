"""`receiver doctor`: it finds what will go wrong before it does, and writes nothing anywhere."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.dockerhub_account import Webhook
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_quirks import ListQuirks
from receiver.sandbox.serving import serving
from tests.support.commands import Commands, commands_beside, commands_in
from tests.support.dockerhub import ago, hub_beside
from tests.support.receiver_here import receiver_here
from tests.support.receiver_process import APP, KEY, REPOSITORY, RULE, ReceiverProcess

TWO_LINES = f'[[rule]]\nrepository = "{REPOSITORY}"\napp = "{APP}"\n'
LOGIN = {"DOCKERHUB_USERNAME": "builder", "DOCKERHUB_TOKEN": "dckr_pat_1"}
Findings = dict[str, dict[str, str]]


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.push_image(REPOSITORY, "1.0.0", pushed_at=ago(60))
    hub.add_login("builder", "dckr_pat_1", namespaces=["studio"], pull_limit=None)
    return hub


@pytest.fixture
def commands(edgegap: str, tmp_path: Path, hub: DockerHubSandbox) -> Iterator[Commands]:
    with hub_beside(hub) as variables:
        commands = commands_in(tmp_path, edgegap)
        commands.environment.update(variables, **LOGIN)
        yield commands


def said(commands: Commands, **environment: str | None) -> tuple[Findings, int]:
    """Each finding by what was looked at, and the exit code."""
    done = commands.run("doctor", "--json", **environment)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(row["hint"] for row in rows if row["health"] != "pass"), rows
    worst: Findings = {}
    for row in rows:
        order = ("pass", "warn", "fail")
        held = worst.setdefault(row["what"], row)
        if order.index(row["health"]) > order.index(held["health"]):
            worst[row["what"]] = row
    return worst, done.exit_code


def test_a_valid_installation_passes_and_the_public_url_is_really_asked(
    commands: Commands, edgegap: str, hub: DockerHubSandbox
) -> None:
    serving_folder = commands.folder / "serving"
    serving_folder.mkdir()
    with receiver_here(serving_folder, edgegap) as receiver:
        repository = hub.repositories[REPOSITORY]
        repository.webhooks.append(Webhook("ours", receiver.link(), "ours", created_at=0))
        repository.immutable = True
        found, code = said(commands, RECEIVER_PUBLIC_URL=receiver.url)

    assert code == 0
    assert found.pop("public URL")["found"] == "it is not https"
    assert found.pop("clock")["found"] == "no server reported its time"  # the stand-in has no clock
    assert {row["health"] for row in found.values()} == {"pass"}, found
    assert set(found) == {
        "configuration",
        "ledger",
        "page",
        "Edgegap token",
        f"app {APP}",
        f"settings of {REPOSITORY} → {APP}",
        "Docker Hub login builder",
        f"repository {REPOSITORY}",
        f"image {REPOSITORY}:1.0.0",
        f"webhook of {REPOSITORY}",
        f"tags of {REPOSITORY}",
        "Docker Hub pull limit of builder",
    }
    assert found["Docker Hub login builder"]["found"] == "accepted, and read-only"
    assert (
        "lobby, my-game" in found["Edgegap token"]["found"]
        or "my-game, lobby" in (found["Edgegap token"]["found"])
    )


def test_nothing_is_written_anywhere(
    commands: Commands, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    commands.configure(TWO_LINES)
    sandbox.add_version(APP, "0.9")

    commands.run("doctor")

    assert {call.method for call in sandbox.calls} == {"GET"}
    written = {(call.method, call.path) for call in hub.calls if call.method not in {"GET", "HEAD"}}
    assert written <= {("POST", "/v2/auth/token")}  # Docker Hub's way to log in
    assert [path.name for path in commands.folder.iterdir()] == ["receiver.toml"]


@pytest.mark.parametrize(
    ("profile", "health", "words"),
    [
        ("bucket/maps", "pass", "bucket/maps exist at Edgegap"),
        ("bucket/map", "fail", "Edgegap does not have bucket/map; it has bucket/maps, logs/mods"),
    ],
)
def test_the_pull_profiles_of_each_rule_are_looked_up(
    commands: Commands, sandbox: EdgegapSandbox, profile: str, health: str, words: str
) -> None:
    sandbox.storage.add("bucket", "maps")
    sandbox.storage.add("logs", "mods")
    commands.configure(TWO_LINES + f'pull_profiles = ["{profile}"]\n')

    found, _ = said(commands)

    row = found[f"pull profiles of {REPOSITORY} → {APP}"]
    assert (row["health"], row["found"]) == (health, words)


def test_a_list_of_pull_profiles_that_fails_is_only_warned_of(
    commands: Commands, sandbox: EdgegapSandbox
) -> None:
    commands.configure(TWO_LINES + 'pull_profiles = ["bucket/maps"]\n')
    sandbox.misbehave(Fault("status", status=500, path_contains="/storage/"))

    found, _ = said(commands)

    assert found[f"pull profiles of {REPOSITORY} → {APP}"]["health"] == "warn"


def test_an_image_over_max_image_is_found_before_a_push_parks(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    large = {"os": "linux", "architecture": "amd64", "size": 5_000_000_000}
    hub.alter_record(REPOSITORY, "1.0.0", images=[large])
    commands.configure(TWO_LINES + 'max_image = "4GB"\n')

    found, _ = said(commands)

    row = found[f"image {REPOSITORY}:1.0.0"]
    assert (row["health"], row["found"]) == ("fail", "image_too_large")
    assert "is 5 GB compressed" in row["hint"]


def test_for_people_each_line_is_followed_by_its_fix(commands: Commands) -> None:
    done = commands.run("doctor", EDGEGAP_TOKEN="wrong")

    lines = done.stdout.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("fail  Edgegap token"))
    assert lines[at + 1].startswith("      Make a token under app.edgegap.com")
    assert " checks: " in lines[-1]
    assert "1 failed" in lines[-1]
    assert done.exit_code == 1


def test_faults_of_the_configuration_are_findings_too(commands: Commands) -> None:
    commands.configure('public_urk = "x"\n')

    found, code = said(commands)

    assert code == 3
    assert found["configuration"]["health"] == "fail"


def test_two_rules_for_one_target_are_warned_of(commands: Commands) -> None:
    commands.configure(RULE + RULE.replace("app =", 'name = "again"\napp ='))

    found, code = said(commands)

    assert found["configuration"]["health"] == "warn"
    assert "the first wins" in found["configuration"]["found"]
    assert code == 0


@pytest.mark.parametrize("state", ["refused", "deleted"])
def test_a_refused_edgegap_token_fails(
    commands: Commands, sandbox: EdgegapSandbox, state: Any
) -> None:
    sandbox.token_state = state

    found, code = said(commands)

    assert found["Edgegap token"]["health"] == "fail"
    assert code == 1


def test_an_edgegap_that_cannot_be_reached_fails(commands: Commands) -> None:
    found, code = said(commands, EDGEGAP_BASE_URL="http://127.0.0.1:9")

    assert found["Edgegap"]["health"] == "fail"
    assert code == 1


@pytest.mark.parametrize("is_active", [False, "false", "False", 0, 0.0])
def test_an_app_that_is_disabled_is_warned_of(
    commands: Commands, sandbox: EdgegapSandbox, is_active: Any
) -> None:
    sandbox.apps[APP]["is_active"] = is_active

    with serving(sandbox.app) as url:  # only false is in the document
        found, code = said(commands, EDGEGAP_BASE_URL=url)

    assert found[f"app {APP}"]["health"] == "warn"
    assert "no version of it can be deployed" in found[f"app {APP}"]["found"]
    assert code == 0


@pytest.mark.parametrize("is_active", [True, None])
def test_an_app_that_is_not_said_to_be_disabled_passes(
    commands: Commands, sandbox: EdgegapSandbox, is_active: Any
) -> None:
    sandbox.apps[APP]["is_active"] = is_active
    sandbox.apps[APP]["image"] = "x" * 3_000_000  # a large logo, as base64

    with serving(sandbox.app) as url:  # null is not in the document
        found, _ = said(commands, EDGEGAP_BASE_URL=url)

    assert found[f"app {APP}"]["health"] == "pass"
    assert APP in found["Edgegap token"]["found"]


def test_logos_too_large_to_be_read_do_not_fail_it(
    commands: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.apps["lobby"]["image"] = "x" * 22_000_000
    sandbox.apps[APP]["image"] = "x" * 22_000_000

    found, code = said(commands)

    assert found["Edgegap token"]["health"] == "pass"
    assert "over 20 MiB" in found["Edgegap token"]["found"]
    assert found[f"app {APP}"]["health"] == "warn"
    assert "it exists" in found[f"app {APP}"]["found"]
    assert code == 0


def test_all_apps_are_listed(commands: Commands, sandbox: EdgegapSandbox) -> None:
    for number in range(12):
        sandbox.add_app(f"game-{number}")

    found, _ = said(commands)

    assert found["Edgegap token"]["found"].endswith(" and 4 more")
    assert [call.path for call in sandbox.calls].count("/v1/apps") == 3


def test_apps_beyond_those_that_are_listed_are_counted(
    commands: Commands, sandbox: EdgegapSandbox
) -> None:
    for number in range(200):
        sandbox.add_app(f"game-{number}")

    found, _ = said(commands)

    assert found["Edgegap token"]["found"].endswith(f" and {len(sandbox.apps) - 10} more")


@pytest.mark.parametrize("body", ["{}", '{"message": "please sign in"}', '{"total_count": 3}'])
def test_a_list_that_is_not_edgegaps_is_not_read_as_an_empty_one(
    commands: Commands, sandbox: EdgegapSandbox, body: str
) -> None:
    commands.configure(TWO_LINES)
    sandbox.misbehave(Fault("declined", path_contains=f"{APP}/versions", body=body))

    found, code = said(commands)

    settings = found[f"settings of {REPOSITORY} → {APP}"]
    assert (settings["health"], code) == ("fail", 1)
    assert "HTTP 200: the answer is no list of versions" in settings["found"]
    assert "EDGEGAP_BASE_URL" in settings["hint"]


def test_a_channel_of_an_earlier_configuration_is_not_copied_from(
    commands: Commands, sandbox: EdgegapSandbox, edgegap: str
) -> None:
    sandbox.add_version(APP, "0.9", create_time="2026-01-01 00:00:00.000001")
    folder = commands.folder / "serving"
    folder.mkdir()
    earlier = RULE.replace("preflight", 'versions = false\nchannels = ["dev"]\npreflight')
    with receiver_here(folder, edgegap, config=earlier) as receiver:
        assert receiver.ended(receiver.push("1.0.0"))["outcome"] == "created"
    commands.configure(TWO_LINES)

    found, _ = said(commands, DATABASE_URL=f"sqlite:///{folder / 'receiver.db'}")

    assert found[f"settings of {REPOSITORY} → {APP}"]["found"] == "copied from 0.9"


def test_lists_that_ignore_the_page_cost_two_calls_each(
    commands: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.lists = ListQuirks(ignores_page=True, always_next=True, total_count=900)
    sandbox.add_version(APP, "0.9")
    commands.configure(TWO_LINES + TWO_LINES.replace("game-server", "lobby"))

    found, _ = said(commands)

    settings = found[f"settings of {REPOSITORY} → {APP}"]
    assert settings["health"] == "pass"
    assert "only 1 of the app's versions could be listed" in settings["found"]
    paths = [call.path for call in sandbox.calls]
    assert paths.count("/v1/apps") == 2
    assert paths.count(f"/v1/app/{APP}/versions") == 2


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404])
def test_what_is_not_edgegap_is_neither_a_refused_token_nor_a_missing_app(
    commands: Commands, sandbox: EdgegapSandbox, status: int
) -> None:
    page = "<html><title>Blocked</title></html>"
    sandbox.misbehave(Fault("status", status=status, body=page, times=None))

    found, code = said(commands)

    assert "Edgegap token" not in found
    assert f"HTTP {status}: " in found["Edgegap"]["found"]
    for word in ("EDGEGAP_BASE_URL", "proxy", "firewall"):
        assert word in found["Edgegap"]["hint"]
    assert code == 1


def test_a_page_in_place_of_an_app_names_the_proxy(
    commands: Commands, sandbox: EdgegapSandbox
) -> None:
    page = Fault("status", path_contains=f"/app/{APP}", status=404, body="<html>", times=None)
    sandbox.misbehave(page)

    found, _ = said(commands)

    assert "no such app" not in found[f"app {APP}"]["found"]
    assert "proxy" in found[f"app {APP}"]["hint"]


def test_an_app_that_does_not_exist_fails(commands: Commands) -> None:
    commands.configure(RULE.replace(APP, "no-such-app"))

    found, code = said(commands)

    assert found["app no-such-app"]["health"] == "fail"
    assert code == 1


def test_an_app_that_the_token_may_not_touch_fails_and_says_so(
    commands: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", path_contains=f"/app/{APP}", status=403, times=None))

    found, code = said(commands)

    assert found["Edgegap token"]["health"] == "pass"
    assert "has no access to it" in found[f"app {APP}"]["found"]
    assert "EDGEGAP_TOKEN" in found[f"app {APP}"]["hint"]
    assert code == 1


@pytest.mark.parametrize(
    ("config", "health", "words"),
    [
        (TWO_LINES, "pass", "copied from 0.9"),
        (TWO_LINES + 'copy_from = "base"\n', "fail", "no version base"),
        (TWO_LINES.replace(APP, "lobby"), "fail", "no version to copy"),
        (RULE, "pass", "are set in the rule"),
    ],
)
def test_each_rule_needs_a_source_of_settings(
    commands: Commands, sandbox: EdgegapSandbox, config: str, health: str, words: str
) -> None:
    sandbox.add_version(APP, "0.9")
    commands.configure(config)

    found, _ = said(commands)

    (settings,) = [row for what, row in found.items() if what.startswith("settings of")]
    assert settings["health"] == health
    assert words in settings["found"]


def test_a_docker_hub_token_that_may_push_is_warned_of(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.add_login("writer", "dckr_pat_2", "write", namespaces=["studio"])

    found, code = said(commands, DOCKERHUB_USERNAME="writer", DOCKERHUB_TOKEN="dckr_pat_2")

    login = found["Docker Hub login writer"]
    assert (login["health"], login["found"]) == ("warn", "accepted, but it may push")
    assert "read-only" in login["hint"]
    assert code == 0


@pytest.mark.parametrize("push", ["refused", "reduced"])
def test_a_read_only_organization_token_passes(
    commands: Commands, hub: DockerHubSandbox, push: Any
) -> None:
    hub.add_organization_token("studio", "dckr_oat_1", {REPOSITORY: ["pull"]})
    hub.organization_push = push

    found, code = said(commands, DOCKERHUB_USERNAME="studio", DOCKERHUB_TOKEN="dckr_oat_1")

    assert found["Docker Hub login studio"]["health"] == "pass"
    assert found[f"image {REPOSITORY}:1.0.0"]["health"] == "pass"
    assert code == 0


def test_a_refused_docker_hub_login_fails_and_names_its_variables(commands: Commands) -> None:
    found, code = said(commands, DOCKERHUB_TOKEN="wrong")

    assert found["Docker Hub login builder"]["health"] == "fail"
    assert "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN" in found["Docker Hub login builder"]["hint"]
    assert code == 1


def test_without_a_login_it_warns_and_shows_the_anonymous_pull_limit(commands: Commands) -> None:
    found, code = said(commands, DOCKERHUB_USERNAME=None, DOCKERHUB_TOKEN=None)

    assert found["Docker Hub login"]["health"] == "warn"
    assert "100 left in 6 h (no login)" in found["Docker Hub pull limit without a login"]["found"]
    assert code == 0


def test_the_pull_limit_of_a_personal_account_is_shown(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.add_login("person", "dckr_pat_3", namespaces=["studio"], pull_limit=200)
    hub.pulls["person"] = 150

    found, _ = said(commands, DOCKERHUB_USERNAME="person", DOCKERHUB_TOKEN="dckr_pat_3")

    limit = found["Docker Hub pull limit of person"]
    assert limit["found"] == "50 of 200 left in 6 h (a Personal account)"
    assert "paid Docker Hub plan" in limit["hint"]


def test_each_logins_pull_limit_is_shown(commands: Commands, hub: DockerHubSandbox) -> None:
    hub.add_login("person", "dckr_pat_3", namespaces=["studio"], pull_limit=200)
    hub.pulls["person"] = 150
    hub.push_image("studio/lobby", "1.0.0")
    login = 'login = { username_env = "LOBBY_USER", token_env = "LOBBY_TOKEN" }\n'
    lobby = RULE.replace("game-server", "lobby").replace("preflight", login + "preflight")
    commands.configure(lobby + RULE)

    found, _ = said(commands, LOBBY_USER="person", LOBBY_TOKEN="dckr_pat_3")

    limits = {what: row["found"] for what, row in found.items() if "pull limit" in what}
    assert limits == {
        "Docker Hub pull limit of person": "50 of 200 left in 6 h (a Personal account)",
        "Docker Hub pull limit of builder": "none reported: a paid plan, or no image was seen",
    }
    assert "dckr_pat_3" not in str(found)


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("path", ["/tags", "/v2/auth/token"])
def test_a_docker_hub_that_is_out_is_no_fault_of_the_rule(
    commands: Commands, hub: DockerHubSandbox, path: str, status: int
) -> None:
    hub.misbehave(Fault("status", path_contains=path, status=status, times=None))

    found, code = said(commands)

    repository = found[f"repository {REPOSITORY}"]
    assert repository["health"] == "warn"
    assert repository["found"].startswith("Docker Hub could not be asked now: ")
    assert "again" in repository["hint"]
    assert code == 0


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/tags", 404, "Check the name in the rule"),
        ("/tags", 401, "Check DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"),
        ("/tags", 403, "may read the repository"),
        ("/v2/auth/token", 401, "Check DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"),
    ],
)
def test_a_refusal_of_docker_hub_fails_with_its_own_fix(
    commands: Commands, hub: DockerHubSandbox, path: str, status: int, words: str
) -> None:
    hub.misbehave(Fault("status", path_contains=path, status=status, times=None))

    found, code = said(commands)

    repository = found[f"repository {REPOSITORY}"]
    assert repository["health"] == "fail"
    assert words in repository["hint"]
    assert code == 1


def test_a_repository_that_the_login_does_not_see_fails(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.add_repository(REPOSITORY, private=True)

    found, code = said(commands, DOCKERHUB_USERNAME=None, DOCKERHUB_TOKEN=None)

    assert found[f"repository {REPOSITORY}"]["health"] == "fail"
    assert code == 1


def test_the_newest_tag_must_be_for_amd64(commands: Commands, hub: DockerHubSandbox) -> None:
    hub.push_image(REPOSITORY, "1.1.0", ["linux/arm64"])

    found, code = said(commands)

    image = found[f"image {REPOSITORY}:1.1.0"]
    assert (image["health"], image["found"]) == ("fail", "not_amd64")
    assert "--platform linux/amd64" in image["hint"]
    assert code == 1
    shown = commands.run("doctor").stdout.partition("not_amd64\n")[2].splitlines()
    assert all(line.startswith(" " * 6) for line in shown[:3]), shown  # each line of the hint


def test_the_newest_tag_must_be_pullable(commands: Commands, hub: DockerHubSandbox) -> None:
    hub.push_image(REPOSITORY, "1.1.0", visible_after=None, listed_after=0)

    found, code = said(commands)

    assert found[f"image {REPOSITORY}:1.1.0"]["found"] == "the registry has no such tag"
    assert code == 1


@pytest.mark.parametrize("ordering", ["newest", "oldest"])
def test_the_newest_tag_that_the_rule_takes_is_found_behind_what_it_does_not(
    commands: Commands, hub: DockerHubSandbox, ordering: Any
) -> None:
    hub.last_updated_means = ordering
    commands.configure(RULE.replace("preflight", 'tags = ["1.*"]\npreflight'))
    for number in range(120):
        hub.push_image(REPOSITORY, f"dev-{number}", build="dev", pushed_at=ago(30 - number / 10))
    hub.push_image(REPOSITORY, f"sha256-{'0' * 64}.sig", kind="signature")

    found, code = said(commands)

    assert found[f"repository {REPOSITORY}"]["found"].endswith("is 1.0.0")
    assert code == 0


def test_a_repository_without_a_fitting_tag_is_warned_of(commands: Commands) -> None:
    commands.configure(RULE.replace("preflight", 'tags = ["v*"]\npreflight'))

    found, code = said(commands)

    assert found[f"repository {REPOSITORY}"]["health"] == "warn"
    assert code == 0


def test_every_rule_of_a_repository_is_looked_at(commands: Commands, hub: DockerHubSandbox) -> None:
    rules = [RULE.replace("preflight", f'name = "{n}"\ntags = ["{n}*"]\npreflight') for n in "12"]
    commands.configure("".join(rules))
    hub.push_image(REPOSITORY, "2.0.0", ["linux/arm64"], pushed_at=ago(90))

    found, code = said(commands)

    assert found[f"image {REPOSITORY}:1.0.0"]["health"] == "pass"
    assert found[f"image {REPOSITORY}:2.0.0"]["found"] == "not_amd64"
    assert code == 1


def test_a_pull_limit_that_is_used_up_is_warned_of(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.misbehave(Fault("status", path_contains="/manifests/", status=429, times=None))

    found, _ = said(commands)

    assert found["Docker Hub pull limit of builder"]["found"] == "used up: Docker Hub answers 429"
    assert found["Docker Hub pull limit of builder"]["health"] == "warn"
    assert found[f"image {REPOSITORY}:1.0.0"]["health"] == "warn"


@pytest.mark.parametrize(
    ("url", "health", "words"),
    [
        (None, "fail", "not set"),
        ("http://127.0.0.1:9", "warn", "not https"),
        ("https://127.0.0.1:9", "warn", "nothing answers there"),
        ("https://" + "x." * 90 + "invalid", "fail", "characters long"),
    ],
)
def test_the_public_url_is_looked_at(
    commands: Commands, url: str | None, health: str, words: str
) -> None:
    found, code = said(commands, RECEIVER_PUBLIC_URL=url)

    assert found["public URL"]["health"] == health
    assert words in found["public URL"]["found"]
    assert code == (1 if health == "fail" else 0)


def test_a_public_url_where_something_else_answers_fails(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    found, code = said(commands, RECEIVER_PUBLIC_URL=commands.environment["DOCKERHUB_API_URL"])

    assert "no receiver" in found["public URL"]["found"]
    assert code == 1


def test_a_public_url_that_answers_with_a_compressed_bomb_is_not_read(commands: Commands) -> None:
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(Request(scope).headers["accept-encoding"])
        bomb = gzip.compress(gzip.compress(bytes(2**24)))
        await Response(bomb, headers={"Content-Encoding": "gzip, gzip"})(scope, receive, send)

    with serving(app) as url:
        found, _ = said(commands, RECEIVER_PUBLIC_URL=url)

    assert "no receiver" in found["public URL"]["found"]
    assert asked == ["identity"]


def test_a_receiver_with_another_key_is_not_accepted_as_this_one(
    commands: Commands, edgegap: str
) -> None:
    serving_folder = commands.folder / "serving"
    serving_folder.mkdir()
    key = {"RECEIVER_SECRET_KEY": "another-key-entirely-0123456789-abc"}
    with receiver_here(serving_folder, edgegap, environment=key) as receiver:
        found, code = said(commands, RECEIVER_PUBLIC_URL=receiver.url)

    assert "another receiver answers there" in found["public URL"]["found"]
    assert code == 1


def test_settings_that_the_running_server_does_not_have_are_named(
    receiver: ReceiverProcess,
) -> None:
    """`check` and `doctor` were content with what was not in force."""
    beside = commands_beside(receiver)

    same, _ = said(beside)
    other, _ = said(beside, EDGEGAP_CONCURRENCY="9", RECEIVER_ADMIN_PASSWORD="canary-password-1")

    assert same["running server"]["health"] == "pass"
    assert other["running server"]["found"] == (
        "it has different values for EDGEGAP_CONCURRENCY, RECEIVER_ADMIN_PASSWORD"
    )
    marks = httpx.get(
        f"{receiver.url}/api/settings",
        headers={"Authorization": f"Bearer {receiver.api_token()}"},
        trust_env=False,
    )
    assert KEY not in marks.text
    assert httpx.get(f"{receiver.url}/api/settings", trust_env=False).status_code == 401


def test_a_clock_that_agrees_passes(commands: Commands, hub: DockerHubSandbox) -> None:
    hub.clock_ahead = 0

    found, _ = said(commands)

    assert found["clock"]["health"] == "pass"


@pytest.mark.parametrize(("clock_ahead", "side"), [(300, "behind"), (-300, "ahead of")])
def test_a_clock_that_is_off_is_warned_of(
    commands: Commands, hub: DockerHubSandbox, clock_ahead: int, side: str
) -> None:
    hub.clock_ahead = clock_ahead

    found, _ = said(commands)

    assert found["clock"]["health"] == "warn"
    assert f"s {side} Docker Hub's" in found["clock"]["found"]


def test_a_ledger_for_which_there_is_no_folder_fails(commands: Commands) -> None:
    nowhere = commands.folder / "nowhere"

    found, code = said(commands, DATABASE_URL=f"sqlite:///{nowhere}/receiver.db")

    assert found["ledger"]["health"] == "fail"
    assert code == 1


def test_a_ledger_that_is_none_fails(commands: Commands) -> None:
    (commands.folder / "receiver.db").write_text("this is no database")

    found, code = said(commands)

    assert found["ledger"]["health"] == "fail"
    assert code == 1
