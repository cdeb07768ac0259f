"""What Edgegap takes in a version, held against the bounds of its API document."""

import json
from pathlib import Path
from typing import Any

import pytest

from receiver.edgegap.fields import RESOURCES, SETTINGS, field_fault, settings_faults

CONTRACT = json.loads(
    (Path(__file__).parent.parent.parent / "contract/edgegap-openapi.json").read_text("utf-8")
)
PORT = {"port": 7777, "protocol": "UDP", "name": "gameport"}
ENV = {"key": "MODE", "value": "prod"}


def body_schema(method: str) -> dict[str, Any]:
    paths = CONTRACT["paths"]
    path = next(
        path
        for path in paths
        if path.rstrip("/").endswith("/version" if method == "post" else "}") and "/version" in path
    )
    content = paths[path][method]["requestBody"]["content"]["application/json"]["schema"]
    return resolved(content)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: Any = CONTRACT
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return resolved(found)
    if "allOf" in schema:
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= resolved(part).get("properties", {})
        return {"properties": merged | schema.get("properties", {})}
    return schema


def test_every_documented_writable_field_but_name_image_and_login_is_a_setting() -> None:
    own = {"name", "docker_repository", "docker_image", "docker_tag"}
    own |= {"private_username", "private_token"}

    assert set(SETTINGS) == set(body_schema("post")["properties"]) - own


def test_an_update_may_hold_every_setting_but_the_resources() -> None:
    documented = set(body_schema("patch")["properties"])

    assert set(SETTINGS) - RESOURCES <= documented
    assert not RESOURCES & documented


@pytest.mark.parametrize("name", [name for name in SETTINGS if SETTINGS[name].kind is int])
def test_bounds_are_the_documents(name: str) -> None:
    schema = resolved(body_schema("post")["properties"][name])

    for bound, step in (("minimum", -1), ("maximum", 1)):
        if bound in schema:
            assert field_fault(name, schema[bound]) is None
            assert field_fault(name, schema[bound] + step)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("req_cpu", True),
        ("req_cpu", 1024.0),
        ("req_cpu", "1024"),
        ("req_cpu", None),
        ("is_active", 1),
        ("dns_config", ""),
        ("endpoint_storage", ""),
        ("restart_policy", "Always"),
        ("ports", "7777"),
        ("ports", [7777]),
        ("ports", [{}]),
        ("ports", [{"port": 7777}]),
        ("ports", [{"protocol": "UDP"}]),
        ("ports", [{**PORT, "port": -1}]),
        ("ports", [{**PORT, "port": 60_000}]),
        ("ports", [{**PORT, "port": True}]),
        ("ports", [{**PORT, "port": "7777"}]),
        ("ports", [{**PORT, "protocol": "udp"}]),
        ("ports", [{**PORT, "protocol": "Websocket"}]),
        ("ports", [{**PORT, "name": ""}]),
        ("ports", [{"port": 0, "protocol": "UDP"}]),
        ("ports", [{**PORT, "tls_upgrade": True}]),
        ("ports", [{**PORT, "unknown": 1}]),
        ("ports", [PORT, {**PORT, "name": "other"}]),
        ("ports", [PORT, {**PORT, "port": 7778}]),
        ("envs", [{"key": "A"}]),
        ("envs", [{"value": "1"}]),
        ("envs", [{"key": "", "value": "1"}]),
        ("envs", [{"key": "A", "value": 1}]),
        ("envs", [{"key": "A", "value": None}]),
        ("envs", [{**ENV, "is_hidden": "yes"}]),
        ("envs", [{**ENV, "is_secret": True}]),
        ("envs", [{**ENV, "value": "é" * 2049}]),
        ("envs", [ENV, ENV]),
        ("envs", ["A=1"]),
    ],
)
def test_a_value_that_edgegap_does_not_take_is_a_fault(name: str, value: object) -> None:
    fault = field_fault(name, value)

    assert fault is not None
    assert fault.isprintable()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_duration", -1),
        ("max_duration", 0),
        ("ports", []),
        ("ports", [{"port": 0, "protocol": "TCP/UDP", "name": "a"}]),
        ("ports", [{**PORT, "protocol": "WS", "tls_upgrade": True, "to_check": False}]),
        ("ports", [{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "TCP"}]),
        (
            "ports",
            [
                {"port": 0, "protocol": "TCP", "name": "a"},
                {"port": 0, "protocol": "UDP", "name": "b"},
            ],
        ),
        ("envs", [{**ENV, "value": "x" * 4096, "is_hidden": True}]),
        ("envs", [{"key": "EMPTY", "value": ""}]),
    ],
)
def test_a_value_that_edgegap_takes_is_valid(name: str, value: object) -> None:
    assert field_fault(name, value) is None


def test_a_fault_never_shows_a_variables_value() -> None:
    envs = [{"key": "A", "value": "canary" * 1000}]

    assert "canary" not in str(settings_faults({"envs": envs}))


def test_all_faults_are_reported_with_values_against_each_other() -> None:
    faults = settings_faults({"req_cpu": 100, "req_memory": 201, "max_duration": 9999})

    assert len(faults) == 2
    assert any("201 is over twice req_cpu 100" in fault for fault in faults)
