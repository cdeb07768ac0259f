"""A client that openapi-python-client generates from the document, against a real receiver."""

import asyncio
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.receiver_process import APP, REPOSITORY, RULE, ReceiverProcess

NAME = "receiver_client_of_the_test"
CONFIG = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
TAGS = ("1.0.0", "1.1.0", "1.2.0")
WAIT_SECONDS = 20


class Generated:
    """The generated package: its operations and models, and what its generator printed."""

    def __init__(self, folder: Path, document: bytes) -> None:
        (folder / "openapi.json").write_bytes(document)
        (folder / "settings.yaml").write_text("post_hooks: []\n", "utf-8")
        self.package = folder / NAME
        self.generated = subprocess.run(
            [
                *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"),
                *("--path", folder / "openapi.json", "--config", folder / "settings.yaml"),
                *("--meta", "none", "--output-path", self.package),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def models(self) -> ModuleType:
        return importlib.import_module(f"{NAME}.models")

    def operation(self, path: str) -> Any:
        """Return the module of one operation, by its group and its id."""
        return importlib.import_module(f"{NAME}.api.{path}")

    def client(self, url: str, token: str) -> Any:
        module = importlib.import_module(NAME)
        return module.AuthenticatedClient(
            base_url=url,
            token=token,
            timeout=httpx.Timeout(2 * WAIT_SECONDS),
            httpx_args={"trust_env": False},
        )


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    """A receiver with three versions, the last of which is in the channel."""
    with serving(EdgegapSandbox().app) as edgegap:
        folder = tmp_path_factory.mktemp("receiver")
        one = ReceiverProcess(folder, edgegap, config=CONFIG).start()
        for tag in TAGS:
            one.ended(one.push(tag))
        yield one
        one.stop()


@pytest.fixture(scope="module")
def generated(
    receiver: ReceiverProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Generated]:
    folder = tmp_path_factory.mktemp("generated")
    answer = httpx.get(f"{receiver.url}/api/openapi.json", trust_env=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield Generated(folder, answer.content)


@pytest.fixture
def client(generated: Generated, receiver: ReceiverProcess) -> Iterator[Any]:
    with generated.client(receiver.url, receiver.api_token()) as client:
        yield client


def test_the_document_gives_a_client_with_every_operation_and_no_warning(
    generated: Generated, receiver: ReceiverProcess
) -> None:
    done = generated.generated
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["Generating", str(generated.package)]

    document = httpx.get(f"{receiver.url}/api/openapi.json", trust_env=False).json()
    documented = [
        re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", one["operationId"])
        for path in document["paths"].values()
        for one in path.values()
    ]
    files = [path.stem for path in generated.package.glob("api/*/*.py")]
    assert sorted(documented) == sorted(name for name in files if name != "__init__")


def test_its_functions_describe_their_parameters(generated: Generated) -> None:
    operation = generated.operation("deliveries.list_deliveries")

    assert "digest (str | Unset): Only deliveries of this digest" in operation.sync.__doc__
    assert "since (datetime.datetime | Unset): Only deliveries" in operation.sync.__doc__


def test_it_lists_deliveries_page_by_page(generated: Generated, client: Any) -> None:
    operation, models = generated.operation("deliveries.list_deliveries"), generated.models
    chosen = {
        "repository": REPOSITORY,
        "source": models.ListDeliveriesSource.WEBHOOK,
        "state": models.State.DONE,
        "since": datetime.now(UTC) - timedelta(hours=1),
    }
    first = operation.sync(client=client, limit=2, **chosen)
    second = operation.sync(client=client, limit=2, before=first.next_, **chosen)

    assert isinstance(first, models.DeliveryPage)
    found = [one for page in (first, second) for one in page.deliveries]
    assert [one.tag for one in found] == list(reversed(TAGS))
    assert all(one.verdict is models.Verdict.ACCEPTED for one in found)
    assert all(one.received_at > chosen["since"] for one in found)
    assert second.next_ is None
    none = operation.sync(client=client, repository=REPOSITORY, reason=models.Reason.NO_RULE)
    assert none.deliveries == []


def test_it_returns_one_delivery_with_its_requests(
    generated: Generated, client: Any, receiver: ReceiverProcess
) -> None:
    identity = receiver.push("1.0.0")
    receiver.ended(identity)
    models = generated.models

    found = generated.operation("deliveries.get_delivery").sync(identity, client=client)

    assert isinstance(found, models.DeliveryDetail)
    (registration, *_) = found.registrations
    assert (registration.app, registration.version) == (APP, "1.0.0")
    assert registration.state is models.State.DONE
    assert registration.outcome is models.Outcome.UNCHANGED
    assert all(isinstance(one, models.SentRequest) for one in registration.requests)


def test_it_pushes_waits_and_replays(generated: Generated, client: Any) -> None:
    models, image = generated.models, f"{REPOSITORY}:2.0.0-rc1"
    pushed = generated.operation("deliveries.push_image").sync_detailed(
        client=client, body=models.PushRequest(image=image)
    )
    assert (pushed.status_code, pushed.parsed.tag) == (202, "2.0.0-rc1")

    waited = generated.operation("deliveries.list_deliveries").sync(
        client=client, image=image, wait=WAIT_SECONDS
    )
    assert [one.id for one in waited.deliveries] == [pushed.parsed.id]

    replayed = generated.operation("deliveries.replay_delivery").sync(
        pushed.parsed.id, client=client
    )
    assert isinstance(replayed, models.Replayed)
    assert replayed.delivery == pushed.parsed.id


def test_it_pauses_and_resumes(generated: Generated, client: Any) -> None:
    body = generated.models.PauseRequest(repository=REPOSITORY)
    begun = datetime.now(UTC)

    paused = generated.operation("pauses_and_gates.pause_repository").sync(client=client, body=body)
    assert abs(paused.paused[REPOSITORY] - begun) < timedelta(minutes=1)

    resumed = generated.operation("pauses_and_gates.resume_repository").sync(
        client=client, body=body
    )
    assert resumed.paused.additional_properties == {}


def test_it_moves_a_channel_and_releases_it(
    generated: Generated, client: Any, receiver: ReceiverProcess
) -> None:
    models = generated.models
    moved = generated.operation("channels.promote_channel").sync(
        client=client, body=models.PromoteRequest(app=APP, channel="staging", to="1.1.0")
    )
    receiver.ended(moved.delivery)

    (channel,) = generated.operation("channels.list_channels").sync(client=client).channels
    assert (channel.channel, channel.tag, channel.held.tag) == ("staging", "1.1.0", "1.1.0")

    body = models.ReleaseRequest(app=APP, channel="staging")
    released = generated.operation("channels.release_channel")
    assert isinstance(released.sync(client=client, body=body), models.Released)
    again = released.sync(client=client, body=body)
    assert again.code is models.ProblemCode.CHANNEL_NOT_CHANGED


def test_its_errors_are_problems_with_a_code(
    generated: Generated, client: Any, receiver: ReceiverProcess
) -> None:
    models, operation = generated.models, generated.operation("deliveries.get_delivery")

    missing = operation.sync_detailed("d0", client=client)
    assert isinstance(missing.parsed, models.Problem)
    assert (missing.status_code, missing.parsed.status) == (404, 404)
    assert missing.parsed.code is models.ProblemCode.DELIVERY_NOT_FOUND

    with generated.client(receiver.url, "no-token") as stranger:
        assert operation.sync("d0", client=stranger).code is models.ProblemCode.TOKEN_INVALID

    versions = generated.operation("versions.get_versions").sync(client=client, app="no-such-app")
    assert versions.code is models.ProblemCode.APP_NOT_FOUND


def test_its_types_are_consistent(generated: Generated) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "-p", NAME],
        cwd=generated.package.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_it_works_in_asyncio(generated: Generated, receiver: ReceiverProcess) -> None:
    async def pauses() -> Any:
        async with generated.client(receiver.url, receiver.api_token()) as client:
            operation = generated.operation("pauses_and_gates.list_pauses")
            return await operation.asyncio(client=client)

    assert isinstance(asyncio.run(pauses()), generated.models.PausedRepositories)
