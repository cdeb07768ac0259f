"""The Python package, as a stranger installs it, and what it is made of."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from receiver.version import VERSION
from tests.support.deploy import HERE, from_wheels, ran

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
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the files as they are here, and a changelog with a date."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = ran("git", "ls-files", "-co", "--exclude-standard", cwd=HERE)
    assert listed.returncode == 0, listed.stdout
    for name in listed.stdout.splitlines():
        if (HERE / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, folder / name)
    (folder / ".venv").symlink_to(HERE / ".venv")
    changelog = folder / "CHANGELOG.md"
    dated = changelog.read_text("utf-8").replace("(unreleased)", "(2026-12-01)", 1)
    changelog.write_text(dated, "utf-8")
    in_git(folder, "init", "-q")
    (folder / ".git/info/exclude").write_text(".venv\ndist\n")
    in_git(folder, "add", "-A")
    in_git(folder, "commit", "-q", "-m", "Release")
    return folder


def in_git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    done = ran("git", *who, *arguments, cwd=folder)
    assert done.returncode == 0, done.stdout


def released(checkout: Path) -> tuple[int, str]:
    done = ran("bash", ".ci/release", cwd=checkout, environment=from_wheels())
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def materials(checkout: Path) -> Path:
    in_git(checkout, "tag", f"v{VERSION}")
    code, said = released(checkout)
    assert code == 0, said
    return checkout / "dist"


def test_there_is_no_release_unless_tag_version_and_changelog_agree(checkout: Path) -> None:
    assert released(checkout)[0] == 1
    assert f"no tag v{VERSION}" in released(checkout)[1]
    in_git(checkout, "tag", "v9.9")
    assert "the tag is v9.9" in released(checkout)[1]
    in_git(checkout, "tag", "-d", "v9.9")
    in_git(checkout, "tag", f"v{VERSION}")
    changelog = checkout / "CHANGELOG.md"
    dated = changelog.read_text("utf-8")
    changelog.write_text(dated + "\n", "utf-8")
    assert "not committed" in released(checkout)[1]
    changelog.write_text(dated, "utf-8")
    in_git(checkout, "tag", "-d", f"v{VERSION}")
    assert not (checkout / "dist").exists()


def test_a_release_has_the_program_twice_and_the_recipe_of_the_image(materials: Path) -> None:
    names = {path.name for path in materials.iterdir()}

    assert names == {
        f"docker_hub_receiver-{VERSION}-py3-none-any.whl",
        f"docker_hub_receiver-{VERSION}.tar.gz",
        *("sbom.cdx.json", "licences.json"),
        *("Dockerfile", "requirements.txt", "requirements-build.txt"),
    }


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
