"""The first steps of a new receiver, each checked by itself, until the first version exists."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.http.client import http_client
from receiver.ledger.queries import find_push
from receiver.ledger.views import LedgerOverview
from receiver.service import Service
from receiver.upkeep.connect import NotProven, send_test_push
from receiver.web.versions import VersionList

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
    tested = any(one.last_test_at is not None for one in overview.repositories)
    named = urlsplit(settings.public_url or "").scheme == "https"
    return (
        *(_app(app, known) for app, known in lists),
        Step(
            "A public https address is set",
            named,
            "Set RECEIVER_PUBLIC_URL to the address at which Docker Hub reaches this receiver.",
        ),
        Step(
            "The public address leads to this receiver",
            used or tested,
            "Send a test push, which creates nothing: it goes through the public address.",
        ),
        Step(
            "A webhook of Docker Hub arrived",
            used,
            "Paste a link below into the repository's Webhooks tab on Docker Hub, then push a tag.",
        ),
        Step("The first version was created", done=False, todo="Push a tag."),
    )


def _app(app: str, known: VersionList) -> Step:
    title = f"Edgegap accepts the token and has the app {app}"
    if known.problem:
        return Step(title, done=False, todo=known.problem, failed=True)
    return Step(title, known.listed_at is not None, "Edgegap is being asked.")


async def try_public_address(service: Service, repository: str) -> str:
    """Send a test push through the public address, as `connect --prove` does; return the result."""
    base = service.settings.public_url
    if base is None:
        return "No test push was sent: set RECEIVER_PUBLIC_URL first."
    link = service.links.link(base, repository)
    try:
        async with http_client(timeout=TEST_SECONDS) as http:
            delivery = await send_test_push(http, link, repository)
    except NotProven as error:
        return f"The test push did not arrive: {error}."
    except (httpx.HTTPError, ReceiverError) as error:
        return f"The test push did not arrive: {type(error).__name__}. Check RECEIVER_PUBLIC_URL."
    if await service.ledger.read(lambda tx: find_push(tx, delivery)) is None:
        return (
            "The test push did not arrive here: another receiver with the same key is at "
            "RECEIVER_PUBLIC_URL."
        )
    return f"The test push arrived as delivery {delivery}."
