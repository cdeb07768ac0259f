"""What hosts and kustomize are told, judged by tools that know their files: each name and value."""

import json
import re
import shutil
import tomllib
from importlib.resources import files
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml  # type: ignore[import-untyped]

from tests.deploying import DEPLOY, ran, tool

HOSTS = Path(__file__).parent / "hosts"
# Playwright brings its own: newer than Debian's, which is too old for one of the tools.
NODE = str(files("playwright") / "driver" / "node")
FLY = (DEPLOY / "fly.toml").read_text("utf-8")
KUSTOMIZATION = (DEPLOY / "kustomize/kustomization.yaml").read_text("utf-8")
RENDER = (DEPLOY / "render.yaml").read_text("utf-8")


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tools that the lock beside them names, each held to its hash."""
    npm = tool("npm", "apt-get install npm")
    folder = tmp_path_factory.mktemp("judges") / "hosts"
    shutil.copytree(HOSTS, folder, ignore=shutil.ignore_patterns("node_modules"))
    fetched = ran(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    assert fetched.returncode == 0, fetched.stdout
    return folder


def judged_by_types(told: object, package: str, name: str, judges: Path) -> CompletedProcess[str]:
    """Have a strict compiler hold it to SchemaStore's types, in which only known names stand."""
    program = (
        f'import type {{ {name} }} from "@schemastore/{package}";\n'
        'import type { Known } from "./known.js";\n'
        f"export const told: Known<{name}> = {json.dumps(told, indent=2)};\n"
    )
    (judges / "told.ts").write_text(program, "utf-8")
    strictly = ("--noEmit", "--strict", "--module", "nodenext")
    return ran(NODE, "node_modules/typescript/bin/tsc", *strictly, "told.ts", cwd=judges)


def judged_for_fly(text: str, judges: Path) -> CompletedProcess[str]:
    return judged_by_types(tomllib.loads(text), "fly", "FlyIoConfigSchemaFlyToml", judges)


def judged_for_kustomize(text: str, judges: Path) -> CompletedProcess[str]:
    name = "HttpsJsonSchemastoreOrgKustomizationJson"
    return judged_by_types(yaml.safe_load(text), "kustomization", name, judges)


def judged_for_render(text: str, judges: Path) -> CompletedProcess[str]:
    told = judges / "told.yaml"
    told.write_text(text, "utf-8")
    judge = (NODE, "node_modules/render-blueprint/dist/cli.js", "check", "--strict")
    asked = ("--file", "render.mjs", "--out", told)
    return ran(*judge, *asked, environment={"RENDER_YAML": str(told)}, cwd=judges)


def test_fly_is_told_what_it_knows(judges: Path) -> None:
    judged = judged_for_fly(FLY, judges)
    assert (judged.returncode, judged.stdout) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("[env]", "[envs]"),
        ("SIGTERM", "SIGTRM"),
        ("kill_timeout", "kil_timeout"),
        ("dockerfile", "docker_file"),
        ("initial_size", "size"),
        ("destination", "target"),
        ('"immediate"', '"at-once"'),
        ("internal_port = 8000", 'internal_port = "8000"'),
        ('"off"', '"no"'),
        ("grace_period", "grace"),
        ("[[http_service.checks]]", "[http_service.checks]"),
        ("shared-cpu-1x", "shared-cpu-3x"),
        ("memory", "ram"),
    ],
)
def test_what_fly_does_not_know_is_found(right: str, wrong: str, judges: Path) -> None:
    assert right in FLY
    judged = judged_for_fly(FLY.replace(right, wrong), judges)
    assert judged.returncode != 0
    assert re.match(r"told\.ts\(\d+,\d+\): error TS2\d+: ", judged.stdout)


def test_kustomize_is_told_what_it_knows(judges: Path) -> None:
    judged = judged_for_kustomize(KUSTOMIZATION, judges)
    assert (judged.returncode, judged.stdout) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("labels:", "label:"),
        ("pairs:", "pair:"),
        ("includeSelectors: true", 'includeSelectors: "yes"'),
        ("includeTemplates", "includeTemplate"),
        ("resources:", "resource:"),
        ("configMapGenerator", "configMap"),
        ("files:", "file:"),
        ("newName", "newname"),
        ("newTag", "tag"),
    ],
)
def test_what_kustomize_does_not_know_is_found(right: str, wrong: str, judges: Path) -> None:
    assert right in KUSTOMIZATION
    judged = judged_for_kustomize(KUSTOMIZATION.replace(right, wrong), judges)
    assert judged.returncode != 0
    assert re.match(r"told\.ts\(\d+,\d+\): error TS2\d+: ", judged.stdout)


def test_render_is_told_what_it_knows(judges: Path) -> None:
    judged = judged_for_render(RENDER, judges)
    assert judged.returncode == 0, judged.stdout
    assert "is up to date" in judged.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("plan: starter", "plan: small", "receiver.plan"),
        ("runtime: docker", "runtime: container", "receiver.runtime"),
        ("dockerContext", "context", "receiver.context"),
        ("healthCheckPath", "healthPath", "receiver.healthPath"),
        ("maxShutdownDelaySeconds: 30", "maxShutdownDelaySeconds: 900", "maxShutdownDelay"),
        ("property: connectionString", "property: url", "DATABASE_URL"),
        ("generateValue: true", "generate: true", "RECEIVER_SECRET_KEY"),
        ("sync: false", "ask: true", "EDGEGAP_TOKEN"),
        ('value: "8000"', 'is: "8000"', "PORT"),
        ("plan: basic-256mb", "plan: basic-256", "receiver-ledger.plan"),
        ("ipAllowList", "allowed", "receiver-ledger.allowed"),
    ],
)
def test_what_render_does_not_know_is_found(
    right: str, wrong: str, named: str, judges: Path
) -> None:
    assert right in RENDER
    judged = judged_for_render(RENDER.replace(right, wrong), judges)
    assert judged.returncode == 1
    assert named in judged.stdout
