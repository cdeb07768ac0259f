"""What is copied from a version as Edgegap shows it: faithfully, or it parks and says why."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.comparison import compare
from receiver.edgegap.fields import PLACEHOLDER, SETTINGS, field_fault
from receiver.edgegap.plans import Plan, Rejected, plan_creation, plan_update, same_image
from receiver.images import ImageReference
from receiver.reasons import Reason
from receiver.secret import Secret
from tests.support.plans import PORT, parked, planned, shown, wanted

WRITABLE = {
    *SETTINGS,
    *("name", "docker_repository", "docker_image", "docker_tag"),
    *("private_username", "private_token"),
}
MASKED = [
    PLACEHOLDER,
    f"  {PLACEHOLDER.upper()}\n",
    "this  value is\tset and encrypted",
    f"{PLACEHOLDER}.",
    f"<{PLACEHOLDER}>",
    "This value is encrypted",
    "***",
    "****************",
    "••••••••",
    "dckr_pat_************",
    "************1a2b",
    "<hidden>",
    "[REDACTED]",
    "REDACTED",
    "***REDACTED***",
    "__REDACTED__",
    "<sensitive>",
    "(sensitive value)",
    "<hidden value>",
    "[Filtered]",
    "<value is set>",
    "(not displayed)",
    "******** (hidden)",
    "encrypted",
    "Masked",
    "Value is set and encrypted",
    "This value is set & encrypted.",
    "set and encrypted",
]
NOT_MASKED = [
    "*",
    "**/*.pak",
    "a**b",
    "* * * * *",
    "hidden",
    "set",
    "value",
    "-",
    "[eu]",
    "_value",
    "<name>",
    "x" * 9,
]


def created(source: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return planned(plan_creation(wanted(**changes), source)).body


# Secrets that Edgegap does not return


@pytest.mark.parametrize("flags", [{}, {"is_hidden": True}, {"is_hidden": False}, {"is_secret": 1}])
@pytest.mark.parametrize("text", MASKED)
def test_a_masked_variable_is_hidden_whatever_its_flag_says(
    text: str, flags: dict[str, Any]
) -> None:
    source = shown(envs=[{"key": "API_KEY", "value": text, **flags}, {"key": "MAP", "value": "a"}])

    parking = parked(plan_creation(wanted(), source))

    assert parking.reason is Reason.HIDDEN_ENV
    line = '{ key = "API_KEY", value_from = "API_KEY", is_hidden = true },'
    assert line in parking.sentence
    assert "MAP" not in parking.sentence
    own = [{"key": "API_KEY", "value": "ours", "is_hidden": True}]
    assert created(source, settings={"envs": own})["envs"] == [{"key": "MAP", "value": "a"}, *own]


@pytest.mark.parametrize("entry", [{}, {"value": None}, {"value": "x", "is_hidden": "true"}])
def test_a_variable_without_a_readable_value_is_hidden(entry: dict[str, Any]) -> None:
    parking = parked(plan_creation(wanted(), shown(envs=[{"key": "API_KEY", **entry}])))

    assert parking.reason is Reason.HIDDEN_ENV


@pytest.mark.parametrize("text", NOT_MASKED)
def test_an_ordinary_value_is_not_read_as_a_masked_one(text: str) -> None:
    envs = [{"key": "A", "value": text}]

    assert created(shown(envs=envs, private_token=text))["envs"] == envs


@pytest.mark.parametrize(
    "login",
    [
        *({"private_token": text} for text in MASKED),
        *({"private_username": text} for text in MASKED),
        {"private_username": PLACEHOLDER, "private_token": PLACEHOLDER},
        {"private_username": None, "private_token": PLACEHOLDER},
        {"private_token": None},
        {"private_username": ""},
    ],
)
def test_a_login_that_is_not_returned_is_not_copied(login: dict[str, Any]) -> None:
    source = shown(**login)

    plan = planned(plan_creation(wanted(), source))

    assert not plan.body.keys() & {"private_username", "private_token"}
    assert plan.unless_public is not None
    assert plan.unless_public.reason is Reason.REGISTRY_LOGIN_HIDDEN
    said = "Edgegap does not return the old registry login of 1.0"
    for text in (plan.unless_public.sentence, *plan.notes):
        assert said in text
        assert "set DOCKERHUB_USERNAME and DOCKERHUB_TOKEN" in text
    accepted = planned(plan_creation(wanted(leave_out=("private_token",)), source))
    assert (accepted.unless_public, accepted.notes) == (None, ())
    given_login = planned(plan_creation(wanted(username="ci", token=Secret("own")), source))
    assert given_login.body["private_token"] == "own"
    assert (given_login.unless_public, given_login.notes) == (None, ())


@pytest.mark.parametrize(
    "registry",
    [
        *("docker.io", "index.docker.io", "registry-1.docker.io", "Docker.io ", "docker.io/"),
        *("https://index.docker.io/v1/", "https://index.docker.io/v1", "https://docker.io"),
        *("http://registry-1.docker.io/v2/", "https://hub.docker.com/", "index.docker.io:443/v1/"),
    ],
)
def test_the_login_of_docker_hub_is_copied_however_the_registry_is_written(registry: str) -> None:
    source = shown(docker_repository=registry)

    assert created(source)["private_token"] == "canary-token"
    assert same_image(source, ImageReference("studio/game", "1.0"))


@pytest.mark.parametrize(
    "registry",
    [
        *("ghcr.io", "docker.io.example", "https://example/index.docker.io", "xdocker.io", ""),
        *(None, 7, ["docker.io"], "https://index.docker.io/v1/x", "docker.io@example"),
    ],
)
def test_another_registry_is_not_read_as_docker_hub(registry: Any) -> None:
    source = shown(docker_repository=registry)

    assert "private_token" not in created(source)
    assert not same_image(source, ImageReference("studio/game", "1.0"))


def test_the_login_of_another_registry_is_none_that_is_missing() -> None:
    source = shown(docker_repository="ghcr.io", private_token=PLACEHOLDER)

    assert planned(plan_creation(wanted(), source)).unless_public is None


@pytest.mark.parametrize("field", ["dns_config", "endpoint_storage", "req_cpu", "time_to_deploy"])
def test_any_masked_setting_parks_unless_the_rule_gives_it(field: str) -> None:
    source = shown(**{field: PLACEHOLDER})

    parking = parked(plan_creation(wanted(), source))

    assert parking.reason is Reason.SETTINGS_NOT_COPIED
    assert f"does not return the value of {field}" in parking.sentence
    own = "mine" if SETTINGS[field].kind is str else 1024
    assert created(source, settings={field: own})[field] == own


def test_the_rule_cannot_send_the_placeholder_either() -> None:
    own = {"envs": [{"key": "A", "value": PLACEHOLDER}]}
    login = wanted(username="ci", token=Secret(f" {PLACEHOLDER}"))

    for plan in (plan_creation, plan_update):
        parking = parked(plan(wanted(settings=own), shown()))
        assert parking.reason is Reason.SETTINGS_INVALID
        assert "the value of A in envs is the text that Edgegap shows" in parking.sentence
        assert parked(plan(login, shown())).reason is Reason.REGISTRY_LOGIN_REFUSED
    assert field_fault("dns_config", PLACEHOLDER)
    assert field_fault("ports", [{**PORT, "name": PLACEHOLDER}])


def test_a_patch_of_variables_never_holds_the_placeholder() -> None:
    current = shown(envs=[{"key": "OLD", "value": PLACEHOLDER}, {"key": "MAP", "value": "a"}])
    own = wanted(settings={"envs": [{"key": "NEW", "value": "1"}]})

    assert parked(plan_update(own, current)).reason is Reason.HIDDEN_ENV


# Ports


@pytest.mark.parametrize(
    ("spelt", "sent"),
    [
        *(("udp", "UDP"), ("Udp", "UDP"), (" UDP ", "UDP"), ("tcp", "TCP")),
        *((text, "TCP/UDP") for text in ("tcp/udp", "TCP_UDP", "tcpudp", "Udp/Tcp", "TCP+UDP")),
        *(("Http", "HTTP"), ("https", "HTTPS"), ("ws", "WS"), ("wss", "WSS")),
        *(("Websocket", "WS"), ("WEB_SOCKET", "WS"), ("WebSocket Secure", "WSS")),
        *((text, text) for text in ("QUIC", "sctp", "HTTP/2", "Http3", "WebTransport", "TCP4")),
    ],
)
def test_a_protocol_is_sent_as_documented_and_an_unknown_one_unchanged(
    spelt: str, sent: str
) -> None:
    ports = [{**PORT, "protocol": spelt}]

    assert created(shown(ports=ports))["ports"] == [{**PORT, "protocol": sent}]


@pytest.mark.parametrize(
    "entry",
    [
        {"port": "7777"},
        {"port": " 7777 "},
        {"port": 7777.0},
        {"port": "7777.0"},
        {"to_check": "true", "tls_upgrade": "False"},
        {"to_check": 1, "tls_upgrade": 0},
    ],
)
def test_a_port_is_read_however_its_values_are_written(entry: dict[str, Any]) -> None:
    assert created(shown(ports=[{**PORT, **entry}]))["ports"] == [PORT]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"port": None}, '?/UDP "gameport": its number is missing'),
        ({"port": True}, "True/UDP"),
        ({"port": "gameport"}, "gameport/UDP"),
        ({"port": 7777.5}, "7777.5/UDP"),
        ({"port": 60_000}, "not between 0 and 59999"),
        ({"port": -1}, "not between 0 and 59999"),
        ({"protocol": None}, '7777/? "gameport": its protocol is missing'),
        ({"protocol": ["UDP"]}, "its protocol is missing"),
        ({"protocol": PLACEHOLDER}, "its protocol is missing"),
        ({"name": PLACEHOLDER}, "its name cannot be read"),
        ({"name": ["a"]}, "its name cannot be read"),
        ({"port": 0, "name": None}, "port 0 needs a name"),
        ({"to_check": "perhaps"}, "to_check is neither true nor false"),
    ],
)
def test_a_port_that_cannot_be_copied_parks_with_its_values(
    entry: dict[str, Any], said: str
) -> None:
    other = {"port": 9000, "protocol": "TCP"}
    source = shown(ports=[other, {**PORT, **entry}])

    parking = parked(plan_creation(wanted(), source))

    assert parking.reason is Reason.SETTINGS_NOT_COPIED
    assert said in parking.sentence
    assert "[rule.settings]" in parking.sentence
    assert created(source, settings={"ports": [other]})["ports"] == [other]


@pytest.mark.parametrize("ports", [{"port": 1}, "7777", ["7777/UDP"], [PORT, PORT]])
def test_ports_that_are_no_list_of_ports_with_names_of_their_own_park(ports: Any) -> None:
    parking = parked(plan_creation(wanted(), shown(ports=ports)))

    assert parking.reason is Reason.SETTINGS_NOT_COPIED


def test_every_fault_is_named_at_once() -> None:
    source = shown(
        ports=[{**PORT, "port": None}, {**PORT, "protocol": None}],
        envs=[{"key": "A", "value": PLACEHOLDER}, {"key": "B", "value": ["canary"]}],
        whitelisting_active=True,
        command="/start.sh",
    )

    parking = parked(plan_creation(wanted(), source))

    for words in ("A", "number is missing", "protocol is missing", "B has", "whitelisting_active"):
        assert words in parking.sentence
    assert "command" in parking.notes[0]
    assert "canary" not in parking.sentence


# Other settings


@pytest.mark.parametrize(
    ("field", "value", "sent"),
    [
        ("req_cpu", "1024", 1024),
        ("req_memory", 2048.0, 2048),
        ("max_duration", "-1", -1),
        ("time_to_deploy", "30.0", 30),
        ("force_cache", "TRUE", True),
        ("restart_policy", "On-Failure", "on_failure"),
        ("restart_policy", "On Failure", "on_failure"),
        ("restart_policy", " OnFailure", "on_failure"),
        ("restart_policy", "ALWAYS", "always"),
        ("req_video", None, None),
        ("ports", None, None),
        ("envs", None, None),
    ],
)
def test_settings_are_read_however_they_are_written(field: str, value: Any, sent: Any) -> None:
    plan = planned(plan_creation(wanted(), shown(**{field: value})))

    assert plan.body.get(field) == sent
    assert plan.notes == ()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("time_to_deploy", 9, "time_to_deploy 9 is under 15"),
        ("max_duration", 1441, "max_duration 1441 is over 1440"),
        ("max_duration", True, "max_duration is not a whole number"),
        ("restart_policy", "maybe", "restart_policy is none of"),
        ("termination_grace_period_seconds", 4, "under 5"),
        ("force_cache", "yes", "force_cache is not true or false"),
        ("dns_config", 7, "dns_config is not text"),
    ],
)
def test_a_setting_that_edgegap_would_refuse_is_left_out_and_named(
    field: str, value: object, said: str
) -> None:
    plan = planned(plan_creation(wanted(), shown(**{field: value})))

    assert field not in plan.body
    assert len(plan.notes) == 1
    assert plan.notes[0].startswith("not copied from 1.0: ")
    assert said in plan.notes[0]
    own = SETTINGS[field].choices[0] if SETTINGS[field].choices else None
    if own:
        assert planned(plan_creation(wanted(settings={field: own}), shown())).notes == ()


@pytest.mark.parametrize("value", [10, 10.0, "10"])
def test_the_documented_default_of_time_to_deploy_is_not_sent_back(value: object) -> None:
    plan = planned(plan_creation(wanted(), shown(time_to_deploy=value)))

    assert "time_to_deploy" not in plan.body
    assert plan.notes == ()


@pytest.mark.parametrize("field", ["req_cpu", "req_memory", "req_video"])
def test_resources_that_cannot_be_read_park(field: str) -> None:
    parking = parked(plan_creation(wanted(), shown(**{field: -1})))

    assert parking.reason is Reason.SETTINGS_NOT_COPIED
    assert f"{field} -1 is under" in parking.sentence


def test_numbers_in_variables_become_text() -> None:
    envs = [{"key": "A", "value": 8080}, {"key": "B", "value": 1.0}, {"key": "C", "value": ""}]

    sent = created(shown(envs=envs))["envs"]

    assert [env["value"] for env in sent] == ["8080", "1", ""]


@pytest.mark.parametrize(
    "envs",
    [
        [{"key": "B", "value": "canary" * 1000}],
        [{"key": "B", "value": True}],
        [{"key": "B", "value": ["canary"]}],
        [{"key": "B", "value": "canary-1"}, {"key": "B", "value": "canary-2"}],
        [{"key": "B", "value": "\ud800"}],
    ],
)
def test_a_variable_that_cannot_be_sent_parks_by_its_name(envs: list[dict[str, Any]]) -> None:
    source = shown(envs=[{"key": "A", "value": "1"}, *envs])

    parking = parked(plan_creation(wanted(), source))

    assert parking.reason is Reason.SETTINGS_NOT_COPIED
    assert "the variable B" in parking.sentence
    assert "canary" not in parking.sentence
    own = [{"key": "B", "value": "2"}]
    assert created(source, settings={"envs": own})["envs"] == [{"key": "A", "value": "1"}, *own]


@pytest.mark.parametrize("envs", ["A=1", {"A": "1"}, ["A=1"], [{"value": "1"}], [{"key": 1}]])
def test_variables_that_are_no_list_of_variables_park(envs: Any) -> None:
    parking = parked(plan_creation(wanted(), shown(envs=envs)))

    assert parking.reason is Reason.SETTINGS_NOT_COPIED


@pytest.mark.parametrize("field", ["ports", "envs"])
def test_ports_or_variables_that_an_answer_leaves_out_are_not_read_as_none(field: str) -> None:
    source = {name: value for name, value in shown().items() if name != field}

    parking = parked(plan_creation(wanted(), source))

    assert parking.reason is Reason.SETTINGS_NOT_COPIED
    assert f"leaves out its {field}" in parking.sentence
    own = wanted(settings={"ports": [PORT], "envs": [{"key": "NEW", "value": "1"}]})
    assert isinstance(plan_creation(own, source), Rejected) is (field == "envs")
    assert f'leave_out = ["{field}"]' in parking.sentence
    assert field not in planned(plan_creation(wanted(leave_out=(field,)), source)).body


# What the API does not accept


def test_fields_that_the_api_does_not_accept_are_named_without_their_values() -> None:
    strange = {
        "command": "/canary.sh",
        "arguments": "-canary",
        "session_config": {"kind": "Seat", "sockets": 10},
        "probe": {"optimal_ping": 60, "rejected_ping": 180},
        "inject_context_env": True,
        "cache_min_hour": 1,
        "build_type": "Development",
        "something_new": ["canary"],
    }
    source = shown(**strange, ports=[{**PORT, "sticky": True}], envs=[])

    plan = planned(plan_creation(wanted(), source))

    (note,) = plan.notes
    assert note.startswith("not copied from 1.0, as Edgegap's API does not accept ")
    for name in (*strange, "ports.sticky"):
        assert name in note
    assert "canary" not in note
    assert "command" not in plan.body
    accepted = wanted(leave_out=(*strange, "ports.sticky"))
    assert planned(plan_creation(accepted, source)).notes == ()


def test_what_is_off_empty_or_read_only_makes_no_note() -> None:
    nothing = {
        "whitelisting_active": False,
        "command": "",
        "arguments": None,
        "session_config": {"kind": None, "sockets": 0, "autodeploy": False, "tags": []},
        "probe": {},
        "use_telemetry": "false",
        "cache_min_hour": 0,
        "enable_all_locations": False,
        "id": 7,
    }
    source = shown(**nothing, ports=[{**PORT, "id": 1}], envs=[{"key": "A", "value": "1", "id": 2}])

    plan = planned(plan_creation(wanted(), source))

    assert plan.notes == ()
    assert plan.body["ports"] == [PORT]
    assert plan.body["envs"] == [{"key": "A", "value": "1"}]


@pytest.mark.parametrize("value", [True, "true", 1])
def test_an_active_whitelist_parks_until_the_rule_accepts_its_loss(value: object) -> None:
    source = shown(whitelisting_active=value)

    parking = parked(plan_creation(wanted(), source))

    assert parking.reason is Reason.WHITELIST_NOT_COPIED
    assert 'leave_out = ["whitelisting_active"]' in parking.sentence
    accepted = planned(plan_creation(wanted(leave_out=("whitelisting_active",)), source))
    assert accepted.notes == ()


# For whatever Edgegap shows

JUNK: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-9, 70_000)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([*MASKED, *NOT_MASKED, "7777", "1024.0", "UDP", "Websocket", "QUIC", []])
)
ENTRIES = st.lists(
    st.dictionaries(st.sampled_from([*PORT, "key", "value", "is_hidden", "is_secret", "id"]), JUNK)
    | JUNK,
    max_size=4,
)
FIELDS = [*sorted(WRITABLE - {"docker_repository"}), "command", "whitelisting_active", "id"]


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK | ENTRIES))
def test_whatever_edgegap_shows_the_plan_is_faithful_or_it_parks(strange: dict[str, Any]) -> None:
    source = shown(**strange)

    plan = plan_creation(wanted(), source)

    if isinstance(plan, Rejected):
        assert plan.sentence
        return
    assert set(plan.body) <= WRITABLE
    assert not [name for name, value in plan.body.items() if value in (None, "", [])]
    json.dumps(plan.body, allow_nan=False, ensure_ascii=False).encode()
    for name, value in plan.body.items():
        if name in SETTINGS and name != "ports":
            assert field_fault(name, value) is None
    assert len(plan.body.get("ports", [])) == len(source["ports"] or [])
    keys = {env["key"] for env in source["envs"] or []}
    assert {env["key"] for env in plan.body.get("envs", [])} == keys
    copied = {name: value for name, value in plan.body.items() if name != "is_active"}
    assert compare(copied, source).noticed == ()


@given(
    st.dictionaries(st.sampled_from(FIELDS), JUNK | ENTRIES),
    st.sampled_from(MASKED),
    st.sampled_from(["envs", "private_token", "private_username", "dns_config", "ports"]),
)
def test_a_masked_value_is_never_sent(strange: dict[str, Any], text: str, where: str) -> None:
    entries = {"envs": [{"key": "K", "value": text}], "ports": [{**PORT, "name": text}]}
    strange |= {where: entries.get(where, text)}

    for plan in (
        plan_creation(wanted(), shown(**strange)),
        plan_update(wanted(settings={"envs": [{"key": "N", "value": "1"}]}), shown(**strange)),
    ):
        if isinstance(plan, Plan):
            assert not any(masked in _texts(plan.body) for masked in MASKED)


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK | ENTRIES))
def test_no_secret_is_in_any_message(strange: dict[str, Any]) -> None:
    secret = {
        "private_token": "canary-token",
        "envs": [{"key": "A", "value": "canary-a"}, {"key": "B", "value": ["canary-b"]}],
        "command": "canary-command",
    }
    for name, value in secret.items():
        plan = plan_creation(wanted(), shown(**{**strange, name: value}))
        said = [*plan.notes, plan.sentence if isinstance(plan, Rejected) else ""]
        assert "canary" not in "".join(said)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for held in value.values() for text in _texts(held)]
    if isinstance(value, list):
        return [text for held in value for text in _texts(held)]
    return [value] if isinstance(value, str) else []
