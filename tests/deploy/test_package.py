"""The Python package, as a stranger installs it, and what it is made of."""

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from receiver.version import VERSION
from tests.support.deploy import DEPLOY, HERE, from_wheels, ran

LOCKS = ("requirements.txt", "deploy/requirements.txt", "deploy/requirements-build.txt")


def locked(name: str) -> dict[str, str]:
    """What a lock file installs on this machine, name → version."""
    lines = (HERE / name).read_text("utf-8").splitlines()
    entries = [line.removesuffix("\\").strip() for line in lines if re.match(r"[a-z]", line)]
    wanted = [Requirement(entry) for entry in entries]
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in wanted
        if one.marker is None or one.marker.evaluate()
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = ran(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, HERE
    )
    assert built.returncode == 0, built.stdout
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("materials")
    made = ran("bash", DEPLOY / "sbom.sh", folder, environment=from_wheels())
    assert made.returncode == 0, made.stdout
    return folder


def test_the_wheel_holds_all_that_the_program_reads_and_no_more(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for path in (HERE / "receiver").rglob("*") if path.is_file())
    ours = {str(path.relative_to(HERE)) for path in files if "__pycache__" not in path.parts}

    assert held == ours
    for folder in ("web/page/templates/", "web/page/static/", "ledger/migrations/versions/"):
        assert [name for name in held if name.startswith(f"receiver/{folder}")], folder


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "env/bin/python"
    assert ran(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env").returncode == 0
    install = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile")
    for rest in (("--require-hashes", "-r", "requirements.txt"), ("--no-deps", wheel)):
        installed = ran(*install, *rest, environment=from_wheels())
        assert installed.returncode == 0, installed.stdout

    program = tmp_path / "env/bin/receiver"
    shown = ran(program, "demo", "--once", cwd=tmp_path)
    assert shown.returncode == 0, shown.stdout
    assert "done created" in shown.stdout
    where = ran(python, "-c", "import receiver; print(receiver.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(tmp_path))


def test_the_bill_of_materials_names_each_locked_dependency(materials: Path) -> None:
    answer = json.loads((materials / "sbom.cdx.json").read_text("utf-8"))

    assert answer["bomFormat"] == "CycloneDX"
    program = answer["metadata"]["component"]
    assert (program["name"], program["version"]) == ("docker-hub-receiver", VERSION)
    needs = {one["ref"]: one.get("dependsOn", []) for one in answer["dependencies"]}
    assert any("starlette" in one for one in needs[program["bom-ref"]])
    named = {canonicalize_name(one["name"]): one["version"] for one in answer["components"]}
    assert named == locked("deploy/requirements.txt")
    assert all(one["purl"].startswith("pkg:pypi/") for one in answer["components"])


def test_each_dependency_has_a_licence_that_lets_it_be_used(materials: Path) -> None:
    answer = json.loads((materials / "licences.json").read_text("utf-8"))
    licences = {canonicalize_name(one["Name"]): one["License"] for one in answer}

    assert set(licences) == set(locked("deploy/requirements.txt"))
    free = re.compile(r"MIT|BSD|Apache|PSF|Python Software|Mozilla|MPL|LGPL|ISC")
    assert {name: one for name, one in licences.items() if not free.search(one)} == {}


def test_the_locks_agree_and_name_no_index() -> None:
    smaller, larger = locked("requirements.txt"), locked("deploy/requirements.txt")

    assert smaller.items() <= larger.items()
    assert {"psycopg", "psycopg-binary", "apprise"} <= set(larger)
    assert "hatchling" in locked("deploy/requirements-build.txt")
    for name in LOCKS:
        assert not re.search(r"^(--|-i |-f )|https?://", (HERE / name).read_text(), re.MULTILINE)
