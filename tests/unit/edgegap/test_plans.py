"""A new version: from what Edgegap shows of the newest one and a rule wants to one POST."""

from typing import Any

import pytest

from receiver.edgegap.fields import PLACEHOLDER
from receiver.edgegap.plans import Plan, Rejected, plan_creation, plan_update
from receiver.reasons import Reason
from receiver.secret import Secret
from tests.support.plans import PORT, parked, planned, shown, wanted


def created(source: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    return planned(plan_creation(wanted(**changes), source)).body


def test_the_whole_request_of_a_new_version() -> None:
    assert created(shown()) == {
        "name": "1.1",
        "docker_repository": "docker.io",
        "docker_image": "studio/game",
        "docker_tag": "1.1",
        "private_username": "studio-ci",
        "private_token": "canary-token",
        "is_active": True,
        "verify_image": True,
        "req_cpu": 1024,
        "req_memory": 2048,
        "req_video": 0,
        "force_cache": False,
        "time_to_deploy": 30,
        "max_duration": 60,
        "restart_policy": "never",
        "termination_grace_period_seconds": 5,
        "will_deploy_in_mainland_china": False,
        "ports": [PORT],
        "envs": [{"key": "MODE", "value": "prod", "is_hidden": False}],
    }


def test_the_rules_settings_stand_over_what_is_copied() -> None:
    rules = {
        "req_memory": 1024,
        "verify_image": False,
        "is_active": False,
        "ports": [{"port": 9000, "protocol": "TCP"}],
    }

    body = created(shown(), settings=rules)

    assert {name: body[name] for name in rules} == rules
    assert body["req_cpu"] == 1024


def test_environment_variables_are_laid_over_by_key() -> None:
    source = shown(envs=[{"key": "A", "value": "1"}, {"key": "B", "value": "2"}])
    own = [{"key": "B", "value": "3", "is_hidden": True}, {"key": "C", "value": "4"}]

    assert created(source, settings={"envs": own})["envs"] == [{"key": "A", "value": "1"}, *own]


@pytest.mark.parametrize(
    ("source", "login", "sent"),
    [
        ({}, {}, ("studio-ci", "canary-token")),
        ({"docker_repository": "index.docker.io"}, {}, ("studio-ci", "canary-token")),
        ({"docker_repository": "ghcr.io"}, {}, (None, None)),
        ({"docker_repository": None}, {}, (None, None)),
        ({"private_username": None, "private_token": ""}, {}, (None, None)),
        ({}, {"username": "ours", "token": Secret("own")}, ("ours", "own")),
        (
            {"docker_repository": "ghcr.io"},
            {"username": "ours", "token": Secret("own")},
            ("ours", "own"),
        ),
    ],
)
def test_a_registry_login_is_copied_only_from_docker_hub_and_where_none_is_configured(
    source: dict[str, Any], login: dict[str, Any], sent: tuple[str | None, str | None]
) -> None:
    body = created(shown(**source), **login)

    assert (body.get("private_username"), body.get("private_token")) == sent


def test_the_api_token_is_never_sent_as_a_registry_token() -> None:
    api_token = Secret("canary-token")

    for plan in (
        plan_creation(wanted(api_token=api_token), shown()),
        plan_creation(wanted(api_token=api_token, username="x", token=api_token), shown()),
        plan_update(wanted(api_token=api_token, username="x", token=api_token), shown()),
    ):
        assert parked(plan).reason is Reason.API_TOKEN_AS_LOGIN
        assert "canary" not in parked(plan).sentence


@pytest.mark.parametrize("hidden", [{"is_hidden": True}, {"is_secret": True}])
def test_hidden_variables_park_with_the_lines_to_add(hidden: dict[str, bool]) -> None:
    envs = [{"key": key, "value": None, **hidden} for key in ("DB_PASSWORD", "API_KEY")]
    source = shown(envs=[*envs, {"key": "MODE", "value": "prod"}])

    parking = parked(plan_creation(wanted(), source))

    assert parking.reason is Reason.HIDDEN_ENV
    for key in ("DB_PASSWORD", "API_KEY"):
        line = f'{{ key = "{key}", value_from = "{key}", is_hidden = true }},'
        assert line in parking.sentence
    assert "MODE" not in parking.sentence
    assert "a rule" in parking.sentence
    assert "1.0" in parking.sentence


@pytest.mark.parametrize(
    "shown_as", [{"is_hidden": True}, {"is_secret": "true"}, {"value": PLACEHOLDER}]
)
@pytest.mark.parametrize("given", [{}, {"is_hidden": False}])
def test_a_hidden_variable_stays_hidden_unless_the_rule_says_otherwise(
    shown_as: dict[str, Any], given: dict[str, Any]
) -> None:
    """Given without the flag, its new value could be read by everyone with access."""
    source = shown(envs=[{"key": "DB", "value": "", **shown_as}, {"key": "MODE", "value": "a"}])
    own = wanted(settings={"envs": [{"key": key, "value": "new", **given} for key in ("DB", "M")]})

    for plan in (plan_creation(own, source), plan_update(own, source)):
        sent = {env["key"]: env.get("is_hidden") for env in planned(plan).body["envs"]}
        assert sent == {"MODE": None, "DB": not given, "M": given.get("is_hidden")}


def test_hidden_variables_that_the_rule_gives_are_sent() -> None:
    own = [{"key": "DB_PASSWORD", "value": "canary", "is_hidden": True}]
    source = shown(envs=[{"key": "DB_PASSWORD", "value": "", "is_hidden": True}])

    assert created(source, settings={"envs": own})["envs"] == own


BARE = {"name": "1.0", "ports": [], "envs": []}


@pytest.mark.parametrize("source", [None, BARE, {**BARE, "req_cpu": 512}])
def test_without_resources_it_parks_with_the_lines_to_add(source: dict[str, Any] | None) -> None:
    parking = parked(plan_creation(wanted(), source))

    assert parking.reason is Reason.NO_SETTINGS
    assert "[rule.settings]\nreq_cpu = " in parking.sentence
    assert "req_memory = " in parking.sentence
    assert '[{ port = 7777, protocol = "UDP", name = "gameport" }]' in parking.sentence


def test_the_rule_alone_is_enough() -> None:
    body = created(None, settings={"req_cpu": 512, "req_memory": 1024})

    assert (body["req_cpu"], body["req_memory"]) == (512, 1024)


@pytest.mark.parametrize(("memory", "valid"), [(2048, True), (2049, False)])
def test_memory_is_at_most_twice_the_cpu(memory: int, valid: bool) -> None:
    plan = plan_creation(wanted(settings={"req_memory": memory}), shown())

    assert isinstance(plan, Plan) is valid
    if isinstance(plan, Rejected):
        assert plan.reason is Reason.SETTINGS_INVALID
        assert "2049 is over twice req_cpu 1024" in plan.sentence
