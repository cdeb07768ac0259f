"""The first steps of a new receiver, each checked by itself, until the first version exists."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.http.client import http_client
from receiver.ledger.views import LedgerOverview
from receiver.service import Service
from receiver.timestamps import format_time
from receiver.web.page.versions import VersionList

TEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step: done, failed or still to do; `todo` says what to do for it."""

    title: str
    done: bool
    todo: str = ""
    failed: bool = False


def steps_of(
    overview: LedgerOverview, settings: Settings, lists: Sequence[tuple[str, VersionList]]
) -> tuple[Step, ...]:
    """Return the steps; none once a version was created."""
    if overview.in_use:
        return ()
    used = any(one.last_use_at is not None for one in overview.repositories)
    public = urlsplit(settings.public_url or "").scheme == "https"
    return (
        *(_app(app, known) for app, known in lists),
        Step(
            "The receiver has a public https address",
            public,
            "Set RECEIVER_PUBLIC_URL to the address at which Docker Hub reaches this receiver.",
        ),
        Step(
            "A push of Docker Hub, or a test push, arrived",
            used,
            "Paste a link below into the repository's Webhooks tab on Docker Hub; or send a test "
            "push, which creates nothing.",
        ),
        Step("The first version was created", done=False, todo="Push a tag."),
    )


def _app(app: str, known: VersionList) -> Step:
    title = f"Edgegap accepts the token and has the app {app}"
    if known.problem:
        return Step(title, done=False, todo=known.problem, failed=True)
    return Step(title, known.listed_at is not None, "Edgegap is being asked.")


async def send_test_push(service: Service, repository: str) -> str:
    """Send a push without a tag through the public address; return what was answered.

    No rule takes a push without a tag, so it creates nothing.
    """
    base = service.settings.public_url
    if base is None:
        return "No test push was sent: set RECEIVER_PUBLIC_URL first."
    link = service.links.link(base, repository)
    namespace, _, name = repository.partition("/")
    pushed_at = int(await service.ledger.read(lambda tx: tx.now) / 1000)
    body = {
        "push_data": {"pusher": "test push", "pushed_at": pushed_at, "tag": None},
        "repository": {"repo_name": repository, "namespace": namespace, "name": name},
    }
    try:
        async with http_client(timeout=TEST_SECONDS) as http:
            answer = await http.post(link, json=body)
    except (httpx.HTTPError, ReceiverError) as error:
        return f"The test push did not arrive: {type(error).__name__}. Check RECEIVER_PUBLIC_URL."
    if answer.status_code in {200, 202}:
        return f"The test push of {format_time(pushed_at * 1000)[:19]} UTC arrived."
    return (
        f"The test push was answered with HTTP {answer.status_code}: another server may be at "
        "RECEIVER_PUBLIC_URL."
    )
