"""Versions as Edgegap shows them and as a rule wants them, for tests of the plans between."""

from typing import Any

from receiver.edgegap.plans import DesiredVersion, Plan, Rejected
from receiver.images import ImageReference, Login

IMAGE = ImageReference("studio/game", "1.1")
PORT = {"port": 7777, "protocol": "UDP", "to_check": True, "tls_upgrade": False, "name": "gameport"}


def wanted(**changes: Any) -> DesiredVersion:
    facts: dict[str, Any] = {"app": "my-game", "version": "1.1", "rule": "a rule", "image": IMAGE}
    if "token" in changes:
        changes["login"] = Login(changes.pop("username"), changes.pop("token"))
    return DesiredVersion(**{**facts, **changes})


def shown(**changes: Any) -> dict[str, Any]:
    """A version as a GET shows it, with what is read-only and what is empty."""
    return {
        "name": "1.0",
        "create_time": "2026-10-09 15:31:02.283949",
        "last_updated": "2026-10-09 15:31:02.283949",
        "caching_percent": 0.5,
        "is_active": False,
        "docker_repository": "docker.io",
        "docker_image": "studio/game",
        "docker_tag": "1.0",
        "private_username": "studio-ci",
        "private_token": "canary-token",
        "req_cpu": 1024,
        "req_memory": 2048,
        "req_video": 0,
        "verify_image": False,
        "force_cache": False,
        "time_to_deploy": 30,
        "max_duration": 60,
        "restart_policy": "never",
        "termination_grace_period_seconds": 5,
        "will_deploy_in_mainland_china": False,
        "dns_config": None,
        "endpoint_storage": "",
        "ports": [PORT],
        "envs": [{"key": "MODE", "value": "prod", "is_hidden": False}],
        **changes,
    }


def planned(plan: Plan | Rejected) -> Plan:
    assert isinstance(plan, Plan), plan
    return plan


def parked(plan: Plan | Rejected) -> Rejected:
    assert isinstance(plan, Rejected), plan
    return plan
